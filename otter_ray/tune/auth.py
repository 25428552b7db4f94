"""Whether a Ray asks for a token, and ours: asked of it before this process connects."""

from __future__ import annotations

import os
import warnings

from otter_ray.errors import StudyError

MODE = "RAY_AUTH_MODE"
OPEN = (
    "the Ray at {address} asks nobody for a token: whoever reaches it runs code on its machines. Start it "
    "with RAY_AUTH_MODE=token on every node; `ray get-auth-token --generate` makes the token, which belongs "
    "in ~/.ray/auth_token on each of them."
)


def agree_on_token(address: str) -> None:
    """Sets this process to what the Ray at `host:port` wants, and warns of one that wants nothing.

    With a token at hand and none wanted Ray itself would disagree: its driver refuses the cluster's calls, is
    taken for dead, and every trial with it.

    Raises:
        StudyError: nobody answers, or our token is not the right one.
    """
    import ray

    wanted = _refuses(address, None)
    if not wanted:
        warnings.warn(OPEN.format(address=address), stacklevel=2)
    elif _refuses(address, _token()):
        raise StudyError(
            f"the Ray at {address} asks for another token than yours. Put the one from its head's "
            "~/.ray/auth_token into your ~/.ray/auth_token, or into RAY_AUTH_TOKEN."
        )
    os.environ[MODE] = "token" if wanted else "disabled"
    # Ray reads its environment once.
    ray._raylet.Config.initialize("")


def _token() -> str | None:
    import ray

    token: str | None = ray._raylet.AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
    return token


def _refuses(address: str, token: str | None) -> bool:
    """Whether the cluster's control service turns a call with that token away."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
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
