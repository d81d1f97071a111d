#!/usr/bin/env bash
# `npm run drill -- crash-matrix ...`: kills the worker everywhere, and looks at what the next one makes of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh </dev/null
bash scripts/build.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
exec node services/worker/src/drill/main.ts "$@" </dev/null
