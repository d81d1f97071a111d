#!/usr/bin/env bash
# Everything that must hold before a change lands. The test runner comes last, so that its summary is the
# last thing printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"

biome check .
tsc --noEmit
if [ -f guest-agent/Cargo.toml ]; then
  (cd guest-agent && cargo test --quiet </dev/null && cargo build --release --quiet --target x86_64-unknown-linux-musl </dev/null)
fi
[ ! -f scripts/assets.sh ] || bash scripts/assets.sh

mapfile -t files < <(find packages services sdk cli test -name '*.test.ts' -not -path '*/node_modules/*' | sort)
exec node --test --test-concurrency=2 --test-timeout=300000 "${files[@]}" </dev/null
