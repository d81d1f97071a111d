#!/usr/bin/env bash
# `npm start`: from a fresh clone to a page served by a machine. Node itself may be what is missing, so the
# set-up is done here and the rest in start.ts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
begun=$(date +%s%3N)
if ! bash scripts/setup.sh </dev/null; then
  case " $* " in *" --json "*) echo '{"ok":false,"step":"setup"}' ;; esac
  exit 1
fi
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/start.ts --setup-ms=$(($(date +%s%3N) - begun)) "$@"
