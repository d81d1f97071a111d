#!/usr/bin/env bash
# Brings a checkout from nothing to ready: host packages, npm packages, Node 24.
#
# Every part first asks whether there is anything to do, so that running it twice costs a second and
# changes nothing. As root on Debian it installs what is missing; anywhere else it names exactly what is
# missing and stops, because guessing at another system's packages would leave a half-made host.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# command:package, as Debian names them. The second half is what the tests and drills drive.
runtime_tools="qemu-system-x86_64:qemu-system-x86 nats-server:nats-server nft:nftables ip:iproute2
  mksquashfs:squashfs-tools mkfs.ext4:e2fsprogs lz4:lz4 cpio:cpio busybox:busybox-static openssl:openssl
  wg:wireguard-tools wireguard-go:wireguard-go ssh:openssh-client"
test_tools="skopeo:skopeo umoci:umoci docker-registry:docker-registry tar2sqfs:squashfs-tools-ng faketime:faketime
  dig:bind9-dnsutils dnsperf:dnsperf knotd:knot dnsmasq:dnsmasq-base
  curl:curl script:bsdutils rsync:rsync pebble:pebble wrk:wrk nginx:nginx-light haproxy:haproxy
  caddy:caddy"

missing=()
for pair in $runtime_tools $test_tools; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      say "apt-get failed; the lines above say why"
      exit 1
    fi
    rm -f "$log"
    # Debian starts these when they are installed; Hearth runs its own, on its own ports.
    for unit in nats-server docker-registry knot nginx haproxy caddy; do
      systemctl disable --now "$unit" >/dev/null 2>&1 || true
    done
  else
    say "missing on this host: ${missing[*]}"
    say "install them with your package manager (as root on Debian this script does it), then run this again"
    exit 1
  fi
fi

for tool in cargo rustup npm; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    say "missing on this host: $tool (Rust 1.85 or newer by rustup, and npm 10 or newer are needed)"
    exit 1
  fi
done
target=x86_64-unknown-linux-musl
if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  say "adding the Rust target $target"
  rustup target add "$target" >&2
fi

# `npm install`, not `npm ci`: npm leaves the per-platform packages of Biome out of the lock file that it writes,
# and `npm ci` then refuses its own file. What the lock file names is installed as it names it all the same.
stamp=node_modules/.hearth-lock
if ! cmp -s package-lock.json "$stamp" || ! node_modules/.bin/node --version 2>/dev/null | grep -q '^v24\.'; then
  say "installing npm packages"
  log=$(mktemp)
  if ! npm install --no-save --loglevel=error >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    say "npm install failed; the lines above say why"
    exit 1
  fi
  rm -f "$log"
  # A checkout's node_modules can come without the pinned Node where npm was told to run no install scripts.
  node_modules/.bin/node --version | grep -q '^v24\.' || { say "Node 24 was not installed: npm must be allowed to run the install script of the package 'node'"; exit 1; }
  cp package-lock.json "$stamp"
fi
