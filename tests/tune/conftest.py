import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SECRETS


@pytest.fixture(scope="session")
def secrets():
    """What must be found nowhere: planted values, and the token of the Ray that a study starts."""
    token = Path.home() / ".ray" / "auth_token"
    return [*SECRETS.values(), *([token.read_text().strip()] if token.exists() else [])]


@pytest.fixture(scope="session")
def searched(tune, tiny_sets, tmp_path_factory):
    """A finished tiny study: (its folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("searched")
    # With this seed another trial than the base config's wins.
    arguments = [*tiny_sets, "--set", "common.seed=1", "--trials", 4, "--name", "tiny"]
    code, output = tune("demo", *arguments, folder=folder).end()
    assert code == 0, output
    return folder / "runs/demo/tiny", output


@pytest.fixture(scope="module")
def connected():
    """A Ray of one slot."""
    from ray.cluster_utils import Cluster

    from otter_ray.tune.session import ray_session

    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False},
    )
    with ray_session(nodes.address):
        yield
    nodes.shutdown()


A_RAY = """
import ray, sys
context = ray.init(
    address="local", num_cpus=2, object_store_memory=10**8, include_dashboard=True, dashboard_port=0
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def ray_with():
    """Starts a Ray in an authentication mode; gives its address."""
    started = []

    def start(mode, token=""):
        environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", A_RAY], env=environment, **pipes))
        return started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.communicate("\n", timeout=60)
