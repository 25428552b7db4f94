#!/usr/bin/env bash
# Builds the image without a Docker engine and tries it: who runs, who owns what is written, whether the commands
# work, and whether changed code installs the dependencies again. By hand: it wants root, 30 GB and minutes.
#
#   apt-get install buildah debootstrap
#   tests/system/docker/build_image.bash [--base IMAGE] [--storage DIR] [-- OPTIONS OF buildah build]
#
# Without --base, on a bare Debian from debootstrap. Everything is kept below DIR and removed at the end.
# STORAGE_DRIVER=vfs works where overlay does not; it copies the image for each layer, so it builds a single one
# and leaves out the question of the cache.
# shellcheck disable=SC2016  # what stands in single quotes is expanded inside
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
base='' storage=''
while (($#)); do
    case $1 in
    --base) base=${2:?--base needs an image} && shift 2 ;;
    --storage) storage=${2:?--storage needs a folder} && shift 2 ;;
    --) shift && break ;;
    *) sed -n '2,11s/^# \?//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
    esac
done

work=$(mktemp --directory --tmpdir="${storage:-/var/tmp}" otter_ray_image.XXXXXX)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}

engine() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

# shellcheck disable=SC2317,SC2329  # called by the trap
clean() {
    engine umount --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

say() { printf '\n== %s\n' "$*"; }

check() {
    local what=$1 found=$2 wanted=$3
    if [[ $found != "$wanted" ]]; then
        printf 'FAILED  %s: %s instead of %s\n' "$what" "$found" "$wanted" >&2
        exit 1
    fi
    printf 'ok      %s: %s\n' "$what" "$found"
}

if [[ -z $base ]]; then
    say "a bare Debian"
    debootstrap --variant=minbase --include=python3,python3-venv bookworm "$work/debian" >"$work/debootstrap.log"
    container=$(engine from scratch)
    engine add --quiet "$container" "$work/debian" / >/dev/null
    engine commit --quiet --rm "$container" localhost/debian-python >/dev/null
    rm -rf "$work/debian"
    base=localhost/debian-python
fi

# The tracked files as they are here: the second build changes one of them.
mkdir "$work/context"
(cd "$root" && git ls-files -z | xargs -0 cp --parents --target-directory "$work/context")

layers=true
[[ $STORAGE_DRIVER != vfs ]] || layers=false

# build LOG OPTIONS: builds the context as it is now.
build() {
    local log=$1 start=$SECONDS
    shift
    if ! engine build --layers="$layers" --build-arg BASE_IMAGE="$base" --tag localhost/otter_ray \
        --file "$work/context/docker/Dockerfile" "$@" "$work/context" >"$log" 2>&1; then
        tail --lines 40 "$log" >&2
        exit 1
    fi
    echo "$((SECONDS - start)) s"
}

say "build on $base"
build "$work/first.log" "$@"
engine images --format '{{.Name}} {{.Size}}'
entrypoint=$(engine inspect --type image --format '{{.OCIv1.Config.Entrypoint}}' localhost/otter_ray)
check "entrypoint" "$entrypoint" "[/entrypoint.sh]"

say "the entrypoint"
container=$(engine from localhost/otter_ray)
mkdir -p "$work/runs/before"
chown 1234:1234 "$work/runs"

# inside COMMAND...: as docker would start it, for the user 1234:1234 with the runs mounted.
inside() {
    engine run --env USER_ID=1234 --env GROUP_ID=1234 --volume "$work/runs:/code/runs" "$container" -- \
        /entrypoint.sh "$@"
}

inside id
check "user and home" "$(inside sh -c 'echo "$(id -u):$(id -g) $HOME"')" "1234:1234 /home/otter"
inside touch runs/file
check "owner of a new file" "$(stat -c %u:%g "$work/runs/file")" 1234:1234
check "owner of a file that was there" "$(stat -c %u:%g "$work/runs/before")" 0:0
check "without ids" "$(engine run "$container" -- /entrypoint.sh id -u)" 0
code=$(engine run --env USER_ID=1 "$container" -- /entrypoint.sh true >/dev/null 2>&1 || echo $?)
check "exit code of one id alone" "$code" 2
if [[ $base == localhost/debian-python ]]; then
    check "compilers" "$(inside sh -c 'command -v cc gcc clang || true')" ""
fi
uncompiled=$(inside python -c '
from importlib.util import cache_from_source
from pathlib import Path
files = [file for place in ("/opt/venv/lib", "/code/otter_ray") for file in Path(place).rglob("*.py")]
for file in files:
    if not Path(cache_from_source(str(file))).exists():
        try:
            compile(file.read_bytes(), file, "exec")
            print(file)
        except SyntaxError:
            pass  # torch carries a module for Python 3.12 alone')
check "modules without bytecode" "$uncompiled" ""

say "the commands"
tiny=(--set trainer.max_epochs=2 --set dataset.train_options.options.length_of_dataset=128)
inside python -m otter_ray.tune --help | head -n 20
inside python -m otter_ray.train demo --folder runs/demo/run "${tiny[@]}"
inside python -m otter_ray.export runs/demo/run
inside python -m otter_ray.tune demo --name study --trials 2 "${tiny[@]}"
check "files of others in the runs" "$(find "$work/runs" -mindepth 1 ! -user 1234 ! -path '*/before' | wc -l)" 0

if [[ $layers == true ]]; then
    say "build again with changed code"
    echo "# changed" >>"$work/context/otter_ray/__init__.py"
    build "$work/second.log" "$@"
    check "installations of the dependencies" "$(grep -c 'Successfully installed' "$work/second.log" || true)" 0
fi
say "all is well"
