#!/usr/bin/env bash
# Makes what a guest boots from, in .hearth/assets/: vmlinux, modules/ and initrd.cpio.
#
# The kernel is Debian's cloud kernel, as the distribution signed it; nothing is compiled here. The VMMs boot
# the ELF inside the bzImage directly, which saves the real-mode stub and the decompression in the guest.
# May be run again at any time: what is up to date is left alone, and each file appears by rename, so a
# reader never sees half of one.
#
# HEARTH_ASSETS: another directory for the results.  HEARTH_AGENT: another program for /init.
set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
assets=${HEARTH_ASSETS:-$root/.hearth/assets}
agent=${HEARTH_AGENT:-$root/guest-agent/target/x86_64-unknown-linux-musl/release/hearth-guest-agent}
# In load order: each module after those that it needs.
modules=(virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net virtio_console overlay squashfs)

say() { echo "assets: $*" >&2; }
need() { command -v "$1" >/dev/null || { say "$1 is missing; install the package $2"; exit 1; }; }

mkdir -p "$assets"
exec 9>"$assets/.lock"
flock 9
work=$(mktemp -d "$assets/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The bzImage holds the kernel as one lz4 stream of the legacy format. Its magic number may also occur by
# chance, so each place is tried until an ELF file comes out.
extract_kernel() {
  local offset
  for offset in $(LC_ALL=C grep -aboP '\x02\x21\x4c\x18' "$1" | cut -d: -f1); do
    # lz4 complains about what follows the stream; the result alone decides.
    tail -c +$((offset + 1)) "$1" | lz4 -dcq >"$2" 2>/dev/null || true
    [ "$(head -c 4 "$2" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] && return 0
  done
  say "no lz4 kernel in $(basename "$1")"
  return 1
}

# A module may be shipped plain or compressed; the guest gets it plain, as inflating is slow there.
copy_module() {
  local found
  found=$(find "$1/lib/modules" -name "$2.ko*" -print -quit)
  case $found in
    *.ko) cp "$found" "$3" ;;
    *.ko.xz) xz -dc "$found" >"$3" ;;
    *.ko.zst) zstd -dcq "$found" >"$3" ;;
    *) say "the kernel package has no module $2"; return 1 ;;
  esac
}

make_kernel() {
  need apt-get apt
  need dpkg-deb dpkg
  need lz4 lz4
  local package name
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
  if [ -z "$package" ]; then
    apt-get update -qq
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
  fi
  [ -n "$package" ] || { say "apt knows no linux-image-cloud-amd64"; exit 1; }
  say "downloading $package"
  (cd "$work" && apt-get -o APT::Sandbox::User=root -qq download "$package")
  dpkg-deb -x "$work"/"$package"_*.deb "$work/kernel"
  extract_kernel "$(find "$work/kernel/boot" -name 'vmlinuz-*' -print -quit)" "$work/vmlinux"
  mkdir "$work/modules"
  for name in "${modules[@]}"; do
    copy_module "$work/kernel" "$name" "$work/modules/$name.ko"
  done
  printf '%s.ko\n' "${modules[@]}" >"$work/modules/order"
  rm -rf "$assets/modules"
  mv "$work/modules" "$assets/modules"
  # The kernel comes last: its presence means that the modules beside it are those made for it.
  mv "$work/vmlinux" "$assets/vmlinux"
}

make_initrd() {
  need cpio cpio
  local tree=$work/initrd
  mkdir -p "$tree"/{dev,proc,sys,run,tmp,mnt,newroot,modules}
  cp "$assets"/modules/* "$tree/modules/"
  if [ -x "$agent" ]; then
    install -m 0755 "$agent" "$tree/init"
  else
    say "no guest agent at ${agent#"$root"/} yet; the initrd gets no /init"
  fi
  # The same input makes the same bytes: one date, one owner, one order.
  find "$tree" -exec touch -h -d @0 {} +
  (cd "$tree" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$work/initrd.cpio"
  mv "$work/initrd.cpio" "$assets/initrd.cpio"
}

# What the initrd was made from: the agent and the kernel by content.
initrd_inputs() {
  { cat "$assets/modules/order" "$assets"/modules/*.ko; if [ -x "$agent" ]; then cat "$agent"; fi; } | sha256sum
}

if [ ! -s "$assets/vmlinux" ] || [ "$(cat "$assets/modules/order" 2>/dev/null)" != "$(printf '%s.ko\n' "${modules[@]}")" ]; then
  make_kernel
fi
inputs=$(initrd_inputs)
if [ ! -s "$assets/initrd.cpio" ] || [ "$(cat "$assets/initrd.inputs" 2>/dev/null)" != "$inputs" ]; then
  make_initrd
  echo "$inputs" >"$assets/initrd.inputs"
fi
