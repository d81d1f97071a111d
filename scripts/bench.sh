#!/usr/bin/env bash
# `npm run bench -- <name> [--json]`: measurements, on a host that has nothing else to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh </dev/null
bash scripts/build.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
exec node bench/mod.ts "$@"
