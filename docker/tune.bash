#!/usr/bin/env bash
# python -m otter_ray.tune in the image. See --help.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/run.bash" tune "$@"
