#!/usr/bin/env bash
# Builds what a guest boots from (the agent, the kernel, the initrd), the guard of VMMs, and the services' bundles. Quick when all of
# it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"
(cd guest-agent && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
(cd vm-guard && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
bash scripts/assets.sh </dev/null
guard=vm-guard/target/x86_64-unknown-linux-musl/release/hearth-vm-guard
assets=${HEARTH_ASSETS:-.hearth/assets}
# By rename: the one that is there may be running.
cmp -s "$guard" "$assets/vm-guard" || { cp "$guard" "$assets/vm-guard.new" && mv "$assets/vm-guard.new" "$assets/vm-guard"; }
exec node_modules/.bin/node scripts/bundle.ts
