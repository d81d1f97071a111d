#!/usr/bin/env bash
# Makes the demo image in .hearth/demo/demo.tar: an OCI layout with busybox and a page on port 8080.
#
# It is made here, from a package of the distribution, so that the first machine of a new platform needs no
# registry. The program is the image's command and not its entrypoint: `hearth run demo:latest -- sh` then
# runs the shell. May be run again at any time; what is up to date is left alone.
#
# HEARTH_DEMO: another directory for the result.
set -euo pipefail
umask 022
export PATH="$PATH:/usr/sbin:/sbin"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=${HEARTH_DEMO:-$root/.hearth/demo}

say() { echo "demo-image: $*" >&2; }
need() { command -v "$1" >/dev/null || { say "$1 is missing; install the package $2"; exit 1; }; }
need umoci umoci

mkdir -p "$demo"
exec 9>"$demo/.lock"
flock 9
work=$(mktemp -d "$demo/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The image has no C library, so only a static busybox runs in it.
find_busybox() {
  local found
  found=$(command -v busybox || true)
  if [ -n "$found" ] && ! ldd "$found" >/dev/null 2>&1; then
    echo "$found"
    return
  fi
  need apt-get apt
  (cd "$work" && apt-get -o APT::Sandbox::User=root -qq download busybox-static)
  dpkg-deb -x "$work"/busybox-static_*.deb "$work/package"
  find "$work/package" -name busybox -type f -print -quit
}

busybox=$(find_busybox)
inputs=$(cat "$busybox" "${BASH_SOURCE[0]}" | sha256sum)
if [ -s "$demo/demo.tar" ] && [ "$(cat "$demo/demo.inputs" 2>/dev/null)" = "$inputs" ]; then exit 0; fi

tree=$work/tree
mkdir -p "$tree"/{bin,etc,home,proc,root,run,sys,dev,tmp,var,www}
chmod 1777 "$tree/tmp"
install -m 0755 "$busybox" "$tree/bin/busybox"
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
ln -s bin "$tree/sbin"
echo 'root:x:0:0:root:/root:/bin/sh
www:x:1000:1000:www:/home:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:
www:x:1000:' >"$tree/etc/group"
cat >"$tree/www/index.html" <<'PAGE'
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Hearth</title>
<h1>Hearth</h1>
<p>This page comes from a virtual machine of your own: busybox httpd on port 8080, in an image made on this host.</p>
</html>
PAGE

# The same input makes the same bytes: one date, one owner, one order.
epoch=1970-01-01T00:00:00Z
same=(--sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner --format=pax
  --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime)
tar "${same[@]}" -cf "$work/layer.tar" -C "$tree" .
layout=$work/layout
umoci init --layout "$layout"
umoci new --image "$layout:latest"
umoci raw add-layer --image "$layout:latest" --history.created "$epoch" --history.created_by demo-image "$work/layer.tar"
umoci config --image "$layout:latest" --no-history --created "$epoch" \
  --config.env PATH=/usr/local/bin:/usr/bin:/bin:/sbin --config.workingdir / --config.exposedports 8080/tcp \
  --config.cmd busybox --config.cmd httpd --config.cmd -f --config.cmd -p --config.cmd 8080 \
  --config.cmd -h --config.cmd /www
umoci gc --layout "$layout"
tar "${same[@]}" -cf "$work/demo.tar" -C "$layout" .
mv "$work/demo.tar" "$demo/demo.tar"
echo "$inputs" >"$demo/demo.inputs"
