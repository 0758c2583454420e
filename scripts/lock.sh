#!/bin/sh
# Renew constraints.txt: every package that any extra and the build need, with hashes, for Python 3.11 to 3.13.
# Needs uv (pip install uv). Pass --upgrade to take newer versions.
set -eu
cd "$(dirname "$0")/.."
printf 'hatchling>=1.26\neditables>=0.5\n' |
    uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 --generate-hashes \
        --no-emit-package tls-readiness-exporter --no-header --output-file constraints.txt "$@"
