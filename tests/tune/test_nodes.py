"""Nodes that are taken away under a study: `ray.cluster_utils.Cluster`, real training."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from otter_ray.config import load_space
from otter_ray.train.restore import read_checkpoint
from otter_ray.tune import preemption
from otter_ray.tune.folder import StudyFolder, open_study


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


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    pytest.fail("waited in vain")


def within_an_epoch(checkpoint):
    progress = read_checkpoint(checkpoint)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return not progress["is_last_batch"]


@pytest.mark.parametrize("storage", ["", "storage"])
def test_a_trial_goes_on_elsewhere_when_its_node_is_taken_away(cluster, tune, tiny_sets, tmp_path, storage):
    """Also where a trial's folder is its node's own, and what it goes on from is fetched."""
    first = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    longer = ["trainer.max_epochs=4", "dataset.train_options.options.length_of_dataset=4096"]
    sets = [*tiny_sets, *(part for text in longer for part in ("--set", text))]
    kept = ["--storage", tmp_path / storage] if storage else []
    arguments = ["--trials", 1, "--name", "n", "--address", cluster.address, *kept]
    command = tune("demo", *sets, *arguments, folder=tmp_path)
    command.read_until("epoch 1/4")
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
    [trial] = study.get_trials()
    assert trial.state == TrialState.COMPLETE
    assert [entry["epoch"] for entry in trial.user_attrs["curve"]] == [1, 2, 3, 4]
    assert output.count("epoch 1/4") == 1
    log = (trial_folder / "log.txt").read_text()
    assert "before the epoch ended" in log  # Lightning's words for a checkpoint within an epoch


class Metadata(BaseHTTPRequestHandler):
    """EC2's metadata service (IMDSv2), as its documentation describes it."""

    notice = False

    def do_PUT(self):
        self.answer(200 if self.path == "/latest/api/token" else 404, b"token")

    def do_GET(self):
        known = self.path == "/latest/meta-data/spot/instance-action" and self.notice
        allowed = self.headers["X-aws-ec2-metadata-token"] == "token"
        self.answer(401 if not allowed else 200 if known else 404, b'{"action": "terminate"}')

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Quiet."""


def test_ec2_is_asked_for_its_spot_notice(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(preemption, "EC2", f"http://127.0.0.1:{server.server_port}/latest")
    assert not preemption.ec2_notice()
    monkeypatch.setattr(Metadata, "notice", True)
    assert preemption.ec2_notice()
    server.shutdown()
    server.server_close()
    assert not preemption.ec2_notice()
