#!/usr/bin/env bash
# `npm run drill -- <name> ...`: breaks something that runs, again and again, and looks at what comes of it. What is
# done to a region is in drill/, what is done to one worker is the worker's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh </dev/null
bash scripts/build.sh
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
case "${1:-}" in
  wipe-jetstream | partition | mesh | front-door) exec node drill/mod.ts "$@" </dev/null ;;
  *) exec node services/worker/src/drill/main.ts "$@" </dev/null ;;
esac
