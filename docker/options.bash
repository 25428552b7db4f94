# What the scripts of this folder share. Sourced, not run.
# shellcheck shell=bash disable=SC2034  # its variables are for those who source it

IMAGE=otter_ray
SCRIPT=${0##*/}
DRY_RUN=

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# split_equals --data=/x MORE...: SPLIT becomes --data /x MORE...
split_equals() {
    [[ $1 == --?*=* ]] && SPLIT=("${1%%=*}" "${1#*=}" "${@:2}")
}

# value --data /x ...: whether the option has one.
value() {
    [[ $# -ge 2 && $2 != -- ]] || fail "$1 needs a value. See --help."
}

# unknown ARGUMENT COMMAND: the argument is none of ours.
unknown() {
    fail "$1 is no option here. See --help; options of $2 go behind a --, as in: docker/$SCRIPT ... -- $1"
}

# Becomes docker, or prints the command when DRY_RUN is set.
run_docker() {
    if [[ -n $DRY_RUN ]]; then
        printf '%q ' docker "$@"
        echo
        exit
    fi
    command -v docker >/dev/null || fail "there is no docker in PATH. Install it, or see the command with --dry-run."
    exec docker "$@"
}
