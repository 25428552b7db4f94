"""Nodes that are taken away under a study: `ray.cluster_utils.Cluster`, real training."""

import time

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from otter_ray.space import load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records
from otter_ray.train.checkpoint.checkpoint_io import read_checkpoint
from tests.support.commands import wait_for

# A project whose epochs take their time, and not the CPU's.
SLOW = """
import time
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import ClassifierModel as Known

class ClassifierModel(Known):
    def training_step(self, *arguments):
        time.sleep(0.03)
        return super().training_step(*arguments)
"""


@pytest.fixture
def cluster():
    """A head that runs no trials."""
    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 10**8, "include_dashboard": False},
    )
    yield started
    started.shutdown()


def drain(cluster, node):
    """What an autoscaler, or who sees a spot notice, tells Ray."""
    gcs = ray._raylet.GcsClient(address=cluster.address)
    reason, deadline = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, int((time.time() + 60) * 1000)
    accepted, _ = gcs.drain_node(node.node_id, reason, "a test", deadline)
    assert accepted


def within_an_epoch(checkpoint):
    progress = read_checkpoint(checkpoint)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return not progress["is_last_batch"]


@pytest.mark.parametrize("storage", ["", "storage"])
def test_a_trial_goes_on_elsewhere_when_its_node_is_taken_away(cluster, tune, tiny_sets, tmp_path, storage):
    """Also where a trial's folder is its node's own, and what it goes on from is fetched."""
    first = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    # The notice comes up to 5 s after the drain, and is to fall into an epoch.
    (tmp_path / "slow.py").write_text(SLOW)
    longer = ["project=slow", "dataset.train_options.options.length_of_dataset=4096"]
    sets = [*tiny_sets, *(part for text in longer for part in ("--set", text))]
    kept = ["--storage", tmp_path / storage] if storage else []
    arguments = ["--trials", 1, "--name", "n", "--address", cluster.address, *kept]
    command = tune("demo", *sets, *arguments, folder=tmp_path)
    command.read_until("epoch 1/2")
    trial_folder = tmp_path / (storage or "runs") / "demo/n/trials/0000"
    last = trial_folder / "checkpoints/last.ckpt"
    assert not within_an_epoch(last)
    drain(cluster, first)
    wait_for(lambda: within_an_epoch(last))
    cluster.remove_node(first, allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
    code, output = command.end()
    assert code == 0, output
    study = open_study(StudyFolder(tmp_path / "runs/demo/n"), load_space("demo").study)
    [row] = read_records(study)
    assert row.state == "complete"
    assert [entry["epoch"] for entry in row.metrics] == [1, 2]
    assert output.count("epoch 1/2") == 1
    log = (trial_folder / "log.txt").read_text()
    assert "before the epoch ended" in log  # Lightning's words for a checkpoint within an epoch
