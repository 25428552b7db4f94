"""Whether a Ray requires a token, and whether ours is the right one: asked before this process connects."""

from __future__ import annotations

import os
import secrets
import warnings
from contextlib import suppress
from pathlib import Path

from otter_ray.errors import StudyError
from otter_ray.tune.ray_compat import CHECK_ALIVE, auth_token, reload_core_config
from otter_ray.user_folders import private_folder

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
OPEN = (
    "the Ray at {address} does not require a token, so anyone who can reach it can run code on its "
    "machines. Start it with RAY_AUTH_MODE=token on every node. `ray get-auth-token --generate` makes the "
    "token; copy it to ~/.ray/auth_token on each node."
)


def token_file() -> Path:
    """Return the file in which Ray looks for the token."""
    return Path(os.environ.get(TOKEN_FILE) or os.path.expanduser("~/.ray/auth_token"))


def provide_token() -> None:
    """Make the token of a Ray of our own, unless there is one.

    Ray itself would make it readable for every user, and needs a home that can be written to.
    """
    if os.environ.get(MODE, "token") != "token" or os.environ.get(TOKEN) or token_file().is_file():
        return
    try:
        _write_token(token_file())
    except OSError:
        file = private_folder() / "auth_token"
        _write_token(file)
        os.environ[TOKEN_FILE] = str(file)


def _write_token(file: Path) -> None:
    """Write a token, whole or not at all, unless another command has meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(partial, file)  # a rename would replace a token that another Ray has read
    finally:
        partial.unlink(missing_ok=True)


def agree_on_token(address: str) -> None:
    """Set this process to what the Ray at `host:port` requires, and warn if it requires no token.

    If this machine has a token and the cluster requires none, Ray itself would not agree: its driver refuses
    the cluster's calls, is regarded as dead, and every trial with it.

    Raises:
        StudyError: nobody answers, or our token is not the right one.
    """
    wanted = _refuses(address, None)
    if not wanted:
        warnings.warn(OPEN.format(address=address), stacklevel=2)
    elif _refuses(address, auth_token()):
        raise StudyError(
            f"the Ray at {address} asks for another token than yours. Put the one from its head's "
            "~/.ray/auth_token into your ~/.ray/auth_token, or into RAY_AUTH_TOKEN."
        )
    os.environ[MODE] = "token" if wanted else "disabled"
    reload_core_config()


def _refuses(address: str, token: str | None) -> bool:
    """Return whether the cluster's control service refuses a call with that token."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        alive = channel.unary_unary(CHECK_ALIVE)
        try:
            alive(b"", timeout=10, metadata=[("authorization", f"Bearer {token}")] if token else None)
        except grpc.RpcError as exc:
            if exc.code() is grpc.StatusCode.UNAUTHENTICATED:
                return True
            raise StudyError(
                f"no Ray answers at {address}: {exc.details()}. Give the address of a running one (`ray "
                "start --head` prints it), or leave --address out to start one on this machine."
            ) from exc
    return False
