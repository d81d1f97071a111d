#!/usr/bin/env bash
# Builds what a guest boots from (the agent, the kernel, the initrd) and the services' bundles. Quick when all of
# it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"
(cd guest-agent && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
bash scripts/assets.sh </dev/null
exec node_modules/.bin/node scripts/bundle.ts
