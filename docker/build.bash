#!/usr/bin/env bash
# Builds the image.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/options.bash
source "$here/options.bash"

usage() {
    cat <<EOF
usage: docker/build.bash [OPTIONS] [-- OPTIONS OF docker build]

  --base IMAGE    what to build on: any image with apt and python3 >= 3.11. A torch that it brings is
                  kept (default: NVIDIA's, see docker/Dockerfile)
  --image NAME    the name of what is built (default: $IMAGE)
  --dry-run       print the docker command, run nothing
  --help
EOF
}

image=$IMAGE
base=()
while (($#)); do
    if split_equals "$@"; then set -- "${SPLIT[@]}"; fi
    case $1 in
    --base) value "$@"; base=(--build-arg "BASE_IMAGE=$2"); shift 2 ;;
    --image) value "$@"; image=$2; shift 2 ;;
    --dry-run) DRY_RUN=1; shift ;;
    --help | -h) usage; exit ;;
    --) shift; break ;;
    *) unknown "$1" "docker build" ;;
    esac
done

run_docker build --file "$here/Dockerfile" --tag "$image" "${base[@]}" "$@" "$(dirname "$here")"
