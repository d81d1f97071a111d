#!/usr/bin/env bash
# Everything that must hold before a change lands. The test runner comes last, so that its summary is the
# last thing printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"

biome check .
tsc --noEmit
(cd guest-agent && cargo test --quiet </dev/null)
bash scripts/build.sh
bash scripts/demo-image.sh

mapfile -t files < <(find packages services sdk cli drill test -name '*.test.ts' -not -path '*/node_modules/*' | sort)
exec node --test --test-concurrency=2 --test-timeout=300000 "${files[@]}" </dev/null
