"""Nodes that do not see the study's folder: one of two, in a mount namespace where it is another."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from ray.cluster_utils import Cluster

from otter_ray.errors import StudyError
from otter_ray.study.storage import Storage
from otter_ray.tune.cluster.node_checks import PROBE, check_nodes
from otter_ray.tune.cluster.session import RaySession
from tests.support.commands import wait_for

JOIN = """
mount -t tmpfs none "$1"
exec "$2" start --address="$3" --num-cpus=1 --object-store-memory=100000000 --block
"""


@pytest.fixture(scope="module")
def head():
    """One node."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces, to hide a folder from a node")
    small = {"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that is empty on the blind node."""
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture
def hidden(place, request):
    """A folder within it."""
    folder = place / request.node.name
    folder.mkdir()
    return folder


@contextmanager
def blind_node(head, place):
    """One more, for which the folder is empty."""
    script = ["unshare", "--mount", "sh", "-c", JOIN, "sh", str(place), f"{sys.prefix}/bin/ray", head.address]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(script, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for_nodes(head, count):
    wait_for(lambda: sum(node["Alive"] for node in head.global_state.node_table()) == count, 120)


def test_a_node_that_joins_later_is_named_by_the_first_trial_on_it(
    head, place, hidden, tune, tiny_sets, tmp_path
):
    """It was not there to be asked; its trial would go into a folder of its own."""
    longer = [
        "--set",
        "dataset.train_options.options.length_of_dataset=4096",
        "--set",
        "trainer.max_epochs=4",
    ]
    arguments = [*tiny_sets, *longer, "--trials", 8, "--name", "late", "--runs", hidden]
    command = tune("demo", *arguments, "--address", head.address, folder=tmp_path)
    command.read_until("epoch 1/4")
    with blind_node(head, place):
        code, output = command.end()
    assert code == 2, output
    assert f"does not see {hidden}/demo/late" in output
    assert f"--resume {hidden}/demo/late --address {head.address}" in output
    assert "Traceback" not in output
    wait_for_nodes(head, 1)


@pytest.fixture(scope="module")
def cluster(head, place):
    """Both."""
    with blind_node(head, place):
        wait_for_nodes(head, 2)
        yield head


@pytest.fixture
def connected(cluster):
    """This process, to both."""
    with RaySession(cluster.address).start():
        yield cluster


def test_the_node_that_does_not_see_the_folder_is_named(connected, hidden, tmp_path, tune):
    with pytest.raises(StudyError, match=r"1 of 2 nodes cannot work on .*hidden") as caught:
        check_nodes(hidden, None)
    head = connected.head_node.node_ip_address
    assert f"({head}): FileNotFoundError" in str(caught.value)
    assert "--storage" in str(caught.value)
    # Each writes, too, and leaves nothing behind.
    check_nodes(tmp_path, None)
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(PROBE)] == []
    # A study is refused before its first trial, and its name stays free.
    code, output = tune("demo", "--address", connected.address, "--runs", hidden, folder=tmp_path).end()
    assert code == 2
    assert "1 of 2 nodes cannot work on" in output
    assert not list(hidden.rglob("study.journal"))


def test_with_a_storage_only_that_need_be_seen(connected, hidden, tmp_path):
    check_nodes(hidden, Storage(str(tmp_path / "nfs")))
    assert list((tmp_path / "nfs").iterdir()) == []
    with pytest.raises(StudyError, match=r"1 of 2 nodes cannot work on .*hidden.*/nfs"):
        check_nodes(tmp_path, Storage(str(hidden / "nfs")))


def test_the_doctor_names_it_and_looks_at_every_node(cluster, hidden, tmp_path):
    line = [sys.executable, "-m", "otter_ray.doctor", "--address", cluster.address, "--runs", str(hidden)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "; 2 nodes with 2 CPUs" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 2
    assert "error   storage   1 of 2 nodes cannot work on" in done.stdout
    assert "warning ray       the Ray at" in done.stdout  # it does not require a token
    told = [text for text in done.stdout.splitlines() if text.startswith("ok      nodes ")]
    assert len(told) == 2
    assert all("packages as required" in text and "GiB free" in text for text in told)
    assert list(hidden.iterdir()) == []
