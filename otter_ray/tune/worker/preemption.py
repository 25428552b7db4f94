"""Find out whether this node is about to be taken away: ask Ray, and EC2 if it is one of its machines.

Ray itself does not look for EC2's notice. A trial that sees it drains the node: Ray then starts nothing more
there, and does not count what dies with the node as a failure.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from otter_ray.tune.ray_compat import drain_for_preemption, draining_nodes

SECONDS = 5.0  # between two questions
EC2_WARNS_AHEAD = 120.0  # seconds
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
EC2 = "http://169.254.169.254/latest"


@contextmanager
def preemption_notice() -> Iterator[threading.Event]:
    """Give an event that is set once this node drains (`ray drain-node`, an autoscaler, a spot notice)."""
    notice, over = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(notice, over), name="preemption", daemon=True)
    watcher.start()
    try:
        yield notice
    finally:
        over.set()


def _watch(notice: threading.Event, over: threading.Event) -> None:
    import ray

    if not ray.is_initialized():
        return  # asking for the context would start a Ray
    node = ray.get_runtime_context().get_node_id()
    on_ec2 = _ec2_token() is not None
    while not over.wait(SECONDS):
        if on_ec2 and ec2_notice():
            notice.set()
            _drain(node)
            return
        try:
            draining = draining_nodes()
        except Exception as exc:  # Ray's control service may be away for a while
            print(f"cannot ask Ray whether this node drains, trying again: {exc}")
            continue
        if node in draining:
            notice.set()
            return


def ec2_notice() -> bool:
    """Return whether EC2 has announced that it will take this spot machine away."""
    token = _ec2_token()
    return token is not None and _ask("GET", "meta-data/spot/instance-action", token) is not None


def _ec2_token() -> str | None:
    """Return a short-lived token of the metadata service (IMDSv2); None if there is no such service."""
    return _ask("PUT", "api/token")


def _ask(method: str, path: str, token: str | None = None) -> str | None:
    headers = {"X-aws-ec2-metadata-token": token} if token else {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    request = urllib.request.Request(f"{EC2}/{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=1) as answer:
            return str(answer.read().decode())
    except (URLError, OSError):
        return None  # no EC2; or no notice: 404


def _drain(node: str) -> None:
    """Ask Ray to start nothing more on this node. The trial is saved whether Ray accepts or not."""
    deadline = int((time.time() + EC2_WARNS_AHEAD) * 1000)
    try:
        accepted, why = drain_for_preemption(node, "spot interruption notice", deadline)
    except Exception as exc:  # of Ray's core, of several kinds
        accepted, why = False, str(exc)
    if not accepted:
        print(f"EC2 takes this machine away, and Ray will not drain it: {why}")
