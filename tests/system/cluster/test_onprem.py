"""`deploy/onprem/cluster.yaml` on three machines by real SSH: up, a study, a machine lost, down."""

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.joined_cluster import DASHBOARD, joined, shipped, small, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
WORKERS = ["worker1", "worker2"]


def filled_in(hosts, shared):
    """The shipped file, as someone with three machines would fill it in."""
    config = shipped("deploy/onprem/cluster.yaml")
    head, *workers = hosts.addresses.values()
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    # One slot for each worker, whatever this machine has: a trial says where it ran.
    small(config, "head_start_ray_commands", "--num-cpus=0")
    small(config, "worker_start_ray_commands", "--num-cpus=1")
    return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with joined(tmp_path_factory.mktemp("onprem"), ["head", *WORKERS], filled_in) as started:
        yield started


@pytest.fixture(scope="module")
def dashboard(cluster):
    """`ray dashboard`: the tunnel that a user would open."""
    process = cluster.start("ray", "dashboard", cluster.file)
    yield wait_for(lambda: status(cluster) != "000")
    os.killpg(process.pid, signal.SIGKILL)


def status(cluster, token=None):
    """The HTTP status of the dashboard's list of jobs."""
    asks = ["-H", f"Authorization: Bearer {token}"] if token else []
    line = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *asks, f"{DASHBOARD}/api/jobs/"]
    return cluster(*line, check=False)[1]


def test_all_machines_join(cluster):
    wait_for(lambda: cluster.living() == set(cluster.hosts.addresses.values()))


def test_nobody_comes_in_without_the_token(cluster, dashboard):
    token = (cluster.hosts.root / "client/home/.ray/auth_token").read_text().strip()
    assert [status(cluster), status(cluster, "wrong"), status(cluster, token)] == ["401", "403", "200"]
    submit = ["ray", "job", "submit", "--address", DASHBOARD, "--", "true"]
    code, output = cluster(*submit, check=False, RAY_AUTH_TOKEN="0" * 32)
    assert code != 0
    assert "token" in output.lower()
    # From the network there is no dashboard at all, and the token lies where only its owner reads it.
    outside = f"http://{cluster.hosts.addresses['head']}:8265/api/version"
    assert cluster("curl", "-s", "-m", "5", outside, check=False)[0] == 7
    for name in cluster.hosts.addresses:
        kept = cluster.hosts.root / name / "home/.ray/auth_token"
        assert (kept.read_text().strip(), oct(kept.stat().st_mode)[-3:]) == (token, "600")


def test_a_study_outlives_one_of_its_machines(cluster, dashboard, tiny_sets):
    runs = cluster.shared / "runs"
    longer = ["--set", "dataset.train_options.options.length_of_dataset=1024"]
    study = ["demo", "--runs", runs, "--name", "far", "--trials", 8, *tiny_sets, *longer]
    project = Path.home() / "project"
    submit = ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", project, "--"]
    process = cluster.start(*submit, "python", "-m", "otter_ray.tune", *study)
    journal = runs / "demo/far/study.journal"

    def has_ended_on_worker2():
        return journal.exists() and '"host":"worker2"' in journal.read_text()

    # The next one there has begun, or is about to.
    wait_for(lambda: process.poll() is not None or has_ended_on_worker2(), 240)
    cluster.hosts.kill("worker2")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "8 trials on 2 slots of 1 CPU" in output
    rows = pq.read_table(runs / "demo/far/trials.parquet").to_pylist()
    assert len(rows) == 8
    assert {row["host"] for row in rows} == set(WORKERS)
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert list(runs.glob("demo/far/*.onnx"))


def test_down(cluster):
    cluster("ray", "down", "--yes", cluster.file)
    wait_for(lambda: not cluster.living())
    # The worker that is left notices it within a minute.
    worker = cluster.hosts.addresses["worker1"]
    asked = ["ssh", "-o", "StrictHostKeyChecking=no", f"root@{worker}", "pgrep", "raylet"]
    wait_for(lambda: cluster(*asked, check=False)[0] == 1)
