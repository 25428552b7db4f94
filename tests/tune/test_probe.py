"""Nodes that do not see the study's folder: one of two, in a mount namespace where it is another."""

import os
import subprocess
import sys
import time

import pytest
import ray
from ray.cluster_utils import Cluster

from otter_ray.errors import StudyError
from otter_ray.tune.probe import PROBE, check_nodes
from otter_ray.tune.session import ray_session
from otter_ray.tune.storage import Storage

JOIN = """
mount -t tmpfs none "$1"
exec "$2" start --address="$3" --num-cpus=1 --object-store-memory=100000000 --block
"""


@pytest.fixture
def hidden(tmp_path):
    folder = tmp_path / "hidden"
    folder.mkdir()
    return folder


@pytest.fixture
def cluster(hidden):
    """Two nodes; for the second the folder `hidden` is empty."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces, to hide a folder from a node")
    small = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    script = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        JOIN,
        "sh",
        str(hidden),
        f"{sys.prefix}/bin/ray",
        nodes.address,
    ]
    blind = subprocess.Popen(
        script, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, stdout=subprocess.DEVNULL
    )
    with ray_session(nodes.address):
        deadline = time.monotonic() + 60
        while sum(node["Alive"] for node in ray.nodes()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield nodes
    blind.terminate()
    blind.wait(timeout=30)
    nodes.shutdown()


def test_the_node_that_does_not_see_the_folder_is_named(cluster, hidden, tmp_path, tune):
    with pytest.raises(StudyError, match=r"1 of 2 nodes cannot work on .*hidden") as caught:
        check_nodes(hidden, None)
    head = cluster.head_node.node_ip_address
    assert f"({head}): FileNotFoundError" in str(caught.value)
    assert "--storage" in str(caught.value)
    # Each writes, too, and leaves nothing behind.
    check_nodes(tmp_path, None)
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(PROBE)] == []
    # A study is refused before its first trial, and its name stays free.
    code, output = tune("demo", "--address", cluster.address, "--runs", hidden, folder=tmp_path).end()
    assert code == 2
    assert "1 of 2 nodes cannot work on" in output
    assert not list(hidden.rglob("study.journal"))


def test_with_a_storage_only_that_need_be_seen(cluster, hidden, tmp_path):
    check_nodes(hidden, Storage(str(tmp_path / "nfs")))
    assert list((tmp_path / "nfs").iterdir()) == []
    with pytest.raises(StudyError, match=r"1 of 2 nodes cannot work on .*hidden/nfs"):
        check_nodes(tmp_path, Storage(str(hidden / "nfs")))
