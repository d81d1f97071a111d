#!/usr/bin/env bash
# Builds what a guest boots from (the agent, the kernel, the initrd), the guard of VMMs, what moves datagrams, and the
# services' bundles. Quick when all of it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"
(cd guest-agent && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
(cd vm-guard && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
# Node loads it, so it is for the host's own C library. Without it the DNS service goes on by node:dgram.
(cd datagrams && cargo build --release --quiet </dev/null)
bash scripts/assets.sh </dev/null
assets=${HEARTH_ASSETS:-.hearth/assets}
# By rename: the one that is there may be running.
put() { cmp -s "$1" "$assets/$2" || { cp "$1" "$assets/$2.new" && mv "$assets/$2.new" "$assets/$2"; }; }
put vm-guard/target/x86_64-unknown-linux-musl/release/hearth-vm-guard vm-guard
put datagrams/target/release/libhearth_datagrams.so datagrams.node
exec node_modules/.bin/node scripts/bundle.ts
