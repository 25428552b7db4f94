#!/usr/bin/env bash
# python -m otter_ray.export in the image. See --help.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/run.bash" to_onnx "$@"
