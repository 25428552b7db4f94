#!/usr/bin/env bash
# Runs a command of the project in the image. train.bash, tune.bash and to_onnx.bash are its three names.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/options.bash
source "$here/options.bash"

command=${1:-}
case $command in
train) SCRIPT=train.bash module=otter_ray.train what="Trains one config." ;;
tune) SCRIPT=tune.bash module=otter_ray.tune what="Searches a config's space, then exports the winner." ;;
to_onnx) SCRIPT=to_onnx.bash module=otter_ray.export what="Exports a run or a study of a config." ;;
*) fail "run.bash is started by train.bash, tune.bash and to_onnx.bash. Use one of them." ;;
esac
shift

usage() {
    cat <<EOF
usage: docker/$SCRIPT CFG [OPTIONS] [-- OPTIONS OF python -m $module]

$what CFG is a config's name, in configs/.

EOF
    [[ $command != to_onnx ]] || cat <<EOF
  --run NAME        the run or study, a folder in RUNS/CFG (default: the newest)
EOF
    cat <<EOF
  --data DIR        images: read-only, and at the same path as here. Repeat for more
  --runs DIR        runs are written here (default: runs)
  --cache DIR       decoded images and pretrained weights are kept here (default: ~/.cache/otter_ray)
  --gpus WHICH      all, none, or some: 0,1 (default: all)
  --cpuset CPUS     the CPUs to use: 0-31 or 0,2,4 (default: all)
  --shm-size SIZE   shared memory, at most, for data loaders and Ray (default: 16g)
  --network NAME    host shows Ray's dashboard on this machine (default: host for tune, else bridge)
  --image NAME      what docker/build.bash built (default: $IMAGE)
  --dry-run         print the docker command, run nothing
  --help
EOF
}

# absolute OPTION DIR: the folder's full path, which --mount can hold. It need not exist.
absolute() {
    local path=$2
    [[ $path == /* ]] || path=$PWD/$path
    if [[ $path == *[,\"]* ]]; then
        fail "$1 $2: docker's --mount takes no comma and no quote in a path. Rename it, or give a link to it."
    fi
    printf '%s' "$path"
}

# writable OPTION DIR: makes the folder as the caller; docker would make it as root.
writable() {
    [[ -n $DRY_RUN ]] || mkdir -p "$2" || fail "$1 $2 cannot be made. Give another folder."
}

# newest_run FOLDER: the name of the run or study in it whose best checkpoint is the youngest.
newest_run() {
    local checkpoint newest=
    for checkpoint in "$1"/*/best.ckpt "$1"/*/checkpoints/best.ckpt; do
        if [[ -f $checkpoint && (-z $newest || $checkpoint -nt $newest) ]]; then newest=$checkpoint; fi
    done
    newest=${newest#"$1"/}
    printf '%s' "${newest%%/*}"
}

config='' run='' image=$IMAGE runs=runs cache=$HOME/.cache/otter_ray gpus=all cpuset='' shm_size=16g network=bridge
data=()
[[ $command != tune ]] || network=host
while (($#)); do
    if split_equals "$@"; then set -- "${SPLIT[@]}"; fi
    case $1 in
    --data) value "$@"; data+=("$2"); shift 2 ;;
    --runs) value "$@"; runs=$2; shift 2 ;;
    --cache) value "$@"; cache=$2; shift 2 ;;
    --gpus) value "$@"; gpus=$2; shift 2 ;;
    --cpuset) value "$@"; cpuset=$2; shift 2 ;;
    --shm-size) value "$@"; shm_size=$2; shift 2 ;;
    --network) value "$@"; network=$2; shift 2 ;;
    --image) value "$@"; image=$2; shift 2 ;;
    --run)
        [[ $command == to_onnx ]] || unknown "$1" "python -m $module"
        value "$@"; run=$2; shift 2
        ;;
    --dry-run) DRY_RUN=1; shift ;;
    --help | -h) usage; exit ;;
    --) shift; break ;;
    -*) unknown "$1" "python -m $module" ;;
    *)
        [[ -z $config ]] || unknown "$1" "python -m $module"
        config=$1; shift
        ;;
    esac
done
[[ -n $config ]] || fail "which config? docker/$SCRIPT CFG, such as: docker/$SCRIPT demo. See --help."

options=(--rm --init --env "USER_ID=$(id -u)" --env "GROUP_ID=$(id -g)" --shm-size "$shm_size" --network "$network")
if [[ -t 0 && -t 1 ]]; then options+=(--interactive --tty); fi

case $gpus in
none) ;;
all) options+=(--gpus all) ;;
*)
    [[ $gpus =~ ^[[:alnum:]-]+(,[[:alnum:]-]+)*$ ]] || fail "--gpus $gpus: give all, none, or GPUs such as 0,1."
    # The quotes are docker's: without them it reads the comma as the start of another key.
    options+=(--gpus "\"device=$gpus\"")
    ;;
esac
if [[ -n $cpuset ]]; then
    [[ $cpuset =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] ||
        fail "--cpuset $cpuset: give CPUs such as 0-31 or 0,2,4."
    options+=(--cpuset-cpus "$cpuset")
fi
[[ $shm_size =~ ^[0-9]+[bkmgBKMG]?$ ]] || fail "--shm-size $shm_size: give a size such as 16g."

for folder in "${data[@]}"; do
    [[ -d $folder ]] || fail "--data $folder is no folder. Give the folder that holds the images."
    folder=$(absolute --data "$folder")
    options+=(--mount "type=bind,source=$folder,target=$folder,readonly")
done
runs=$(absolute --runs "$runs")
cache=$(absolute --cache "$cache")
writable --runs "$runs"
writable --cache "$cache"
options+=(
    --mount "type=bind,source=$runs,target=/code/runs"
    --mount "type=bind,source=$cache,target=/cache"
    --env OTTER_RAY_CACHE=/cache
    --env HF_HOME=/cache/huggingface
)
# The checkout's, over the image's: an edited YAML needs no new image.
for folder in configs search_spaces; do
    source=$(absolute "the checkout's" "$(dirname "$here")/$folder")
    options+=(--mount "type=bind,source=$source,target=/code/$folder,readonly")
done

target=$config
if [[ $command == to_onnx ]]; then
    name=$(basename "$config" .yaml)
    [[ -n $run ]] || run=$(newest_run "$runs/$name")
    [[ -n $run ]] ||
        fail "CFG $config has no run with a best checkpoint in $runs/$name. Train it first, or give --runs."
    [[ -d $runs/$name/$run ]] || fail "--run $run is no folder in $runs/$name. Give the name of one that is."
    target=runs/$name/$run
fi

run_docker run "${options[@]}" "$image" python -m "$module" "$target" "$@"
