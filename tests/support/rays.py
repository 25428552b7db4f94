"""Rays that run before a study does: one that studies share, and those that a test wants otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from otter_ray.tune.worker import launch
from otter_ray.tune.worker.forks import SWITCH, worker_imports
from tests.support.commands import SECRETS, run_here

# It prints its address, and for each line that it reads how many CPUs it has.
A_RAY = """
import ray, sys
context = ray.init(
    address="local", num_cpus=2, object_store_memory=10**8, include_dashboard=True, dashboard_port=0
)
print(context.address_info["gcs_address"], flush=True)
for line in sys.stdin:
    print(ray.cluster_resources()["CPU"], flush=True)
"""


@dataclass(frozen=True)
class LivingRay:
    """A Ray of two slots in a process of its own."""

    address: str
    process: subprocess.Popen[str]

    def cpus(self) -> float:
        """What it says that it has."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def living(mode: str, token: str = "") -> Iterator[LivingRay]:
    """Start a Ray in an authentication mode, and end it."""
    environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
    process = subprocess.Popen(
        [sys.executable, "-c", A_RAY], env=environment, cwd="/", text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    try:
        yield LivingRay(process.stdout.readline().strip(), process)
    finally:
        process.communicate(timeout=60)


@pytest.fixture
def token_ray() -> Iterator[Callable[[str], str]]:
    """Starts a Ray that requires a token; gives its address."""
    with ExitStack() as stack:
        yield lambda token: stack.enter_context(living("token", token)).address


@pytest.fixture(scope="session")
def open_ray(session_cache) -> Iterator[LivingRay]:
    """A Ray that requires no token. Studies share it, one at a time, and leave it as it is."""
    with living("disabled") as started:
        yield started


@pytest.fixture(scope="session")
def fork_server():
    """The folder of a fork server that studies share: each would import torch for itself."""
    folder = tempfile.mkdtemp(prefix="forks_")  # a socket's path must be short
    server = launch.start_server(folder, worker_imports("docclassifier"), lasting=False)
    yield folder
    server.stdin.close()
    server.wait(60)


@pytest.fixture(scope="session")
def tune_here(open_ray, fork_server):
    """Runs a study in this process, on the open Ray: (exit code, everything that it printed)."""
    from otter_ray.tune.cluster.auth import MODE
    from otter_ray.tune.ray_compat import reload_core_config

    def run(*arguments, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("COLUMNS", "200")
            patch.setenv(MODE, "disabled")
            patch.setenv(SWITCH, fork_server)
            for name, secret in SECRETS.items():
                patch.setenv(name, secret)
            done = run_here("otter_ray.tune", *arguments, "--address", open_ray.address)
        reload_core_config()
        return done.returncode, done.stdout

    return run
