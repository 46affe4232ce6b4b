#!/usr/bin/env bash
# Installs a wheel as anybody would, into an empty environment, and tries its commands: what it needs is
# declared, what it holds is in it, and nothing comes from the tree.
set -euo pipefail

if (($# != 1)) || [[ $1 == -* ]]; then
  echo "usage: scripts/check-wheel.sh WHEEL" >&2
  exit 2
fi
wheel=$(realpath "$1")

empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
"${PYTHON:-python3}" -m venv "$empty"
"$empty/bin/pip" install --quiet --disable-pip-version-check "$wheel"
cd "$empty"
bin/s3sync-agent --help
bin/s3sync --help
bin/python -I -c 'from s3sync_agent import nginx; nginx.shipped()'
