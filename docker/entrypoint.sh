#!/bin/bash
# Runs the command as USER_ID:GROUP_ID, so that what it writes belongs to the caller. Without the two, as is.
set -euo pipefail

fail() {
    printf 'entrypoint: %s\n' "$1" >&2
    exit 2
}

if [[ -z "${USER_ID:-}${GROUP_ID:-}" ]]; then
    exec "$@"
fi

for name in USER_ID GROUP_ID; do
    value=${!name:-}
    if [[ ! $value =~ ^(0|[1-9][0-9]{0,9})$ ]] || ((value > 4294967294)); then
        fail "$name is '$value', no id. Set both: -e USER_ID=\$(id -u) -e GROUP_ID=\$(id -g), or neither."
    fi
done
if ((EUID != 0)); then
    fail "USER_ID needs a container that starts as root, this one is user $EUID. Drop docker's --user, or the ids."
fi

# An id that the base image knows already is used under the name it has there.
if ! getent group "$GROUP_ID" >/dev/null; then
    groupadd --gid "$GROUP_ID" otter
fi
if ! getent passwd "$USER_ID" >/dev/null; then
    useradd --uid "$USER_ID" --gid "$GROUP_ID" --home-dir /home/otter --no-create-home --no-log-init \
        --shell /bin/bash otter
fi
# Ids of the base have homes that others own, or none. Only the folder itself changes hands: never chown -R,
# below it there may be a mount.
install --directory --owner "$USER_ID" --group "$GROUP_ID" /home/otter

# exec all the way: signals reach the command. gosu sets HOME, so ours comes after it.
exec gosu "$USER_ID:$GROUP_ID" env HOME=/home/otter "$@"
