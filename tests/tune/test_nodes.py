"""Nodes that are taken away under a study: `ray.cluster_utils.Cluster`, real training."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import ray
from commands import wait_for
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from otter_ray.config import load_space
from otter_ray.report.rows import read_rows
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


def within_an_epoch(checkpoint):
    progress = read_checkpoint(checkpoint)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return not progress["is_last_batch"]


@pytest.mark.parametrize("storage", ["", "storage"])
def test_a_trial_goes_on_elsewhere_when_its_node_is_taken_away(cluster, tune, tiny_sets, tmp_path, storage):
    """Also where a trial's folder is its node's own, and what it goes on from is fetched."""
    first = cluster.add_node(num_cpus=1, object_store_memory=10**8)
    # The notice comes up to 5 s after the drain, and is to fall into an epoch.
    longer = ["trainer.max_epochs=2", "dataset.train_options.options.length_of_dataset=16384"]
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
    [row] = read_rows(study)
    assert row.state == "complete"
    assert [entry["epoch"] for entry in row.metrics] == [1, 2]
    assert output.count("epoch 1/2") == 1
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


@pytest.mark.parametrize(("accepted", "raises"), [(True, False), (False, False), (False, True)])
def test_a_spot_notice_saves_the_trial_whether_ray_drains_or_not(monkeypatch, capsys, accepted, raises):
    asked = []

    def drain_node(node, reason, message, deadline):
        asked.append(node)
        if raises:
            raise RuntimeError("the control service is away")
        return accepted, "" if accepted else "no"

    context = SimpleNamespace(get_node_id=lambda: "here", gcs_address="")
    monkeypatch.setattr(preemption, "SECONDS", 0.01)
    monkeypatch.setattr(preemption, "_ask", lambda *words: "token")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray._raylet, "GcsClient", lambda address: SimpleNamespace(drain_node=drain_node))
    with preemption.preemption_notice() as notice:
        assert notice.wait(10)
        wait_for(lambda: asked)
    assert asked == ["here"]
    wait_for(lambda: accepted or "will not drain it" in capsys.readouterr().out)


def test_a_control_service_that_is_away_for_a_while_is_asked_again(monkeypatch):
    answers = iter([RuntimeError("away"), [], ["here"]])

    def get_draining_nodes():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(preemption, "SECONDS", 0.01)
    monkeypatch.setattr(preemption, "_ask", lambda *words: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", get_draining_nodes)
    with preemption.preemption_notice() as notice:
        assert notice.wait(10)
