"""`cluster.yaml` on hosts in place of EC2, only the provider differs: from no worker to two, and back."""

import json
import shlex

import pyarrow.parquet as pq
import pytest

from tests.support.hosts import CHECKOUT
from tests.support.joined_cluster import joined, shipped, small, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
WORKERS = ["spot1", "spot2"]
# What Ray knows of AWS and not of others.
DEFAULTS = {
    "docker": {},
    "initialization_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "upscaling_speed": 1.0,
}


def filled_in(hosts, shared):
    config = {**DEFAULTS, **shipped("cluster.yaml")}
    pool = list(hosts.addresses.values())
    config["provider"] = {
        "type": "external",
        "module": "provider.Provider",
        "pool": pool,
        "file": str(shared / "cloud.json"),
    }
    config["auth"]["ssh_private_key"] = "~/.ssh/id_ed25519"
    config["idle_timeout_minutes"] = 0.3
    for kind in ("gpu_spot", "gpu_on_demand"):
        # EC2 would tell Ray what the instance type has.
        config["available_node_types"][kind] |= {"resources": {"CPU": 1}, "max_workers": 2}
    small(config, "head_start_ray_commands", "")
    small(config, "worker_start_ray_commands", "")
    path = f"PYTHONPATH={CHECKOUT / 'tests/support/node_provider'} ray start"
    config["head_start_ray_commands"] = [
        line.replace("ray start", path) for line in config["head_start_ray_commands"]
    ]
    return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(CHECKOUT / "tests/support/node_provider"))
        with joined(tmp_path_factory.mktemp("aws"), ["head", *WORKERS], filled_in) as started:
            yield started


def test_from_nothing_and_back(cluster, tiny_sets):
    head = cluster.hosts.addresses["head"]
    assert cluster.living() == {head}
    runs = cluster.shared / "runs"
    study = ["demo", "--address", "auto", "--runs", runs, "--name", "up", "--trials", 12, *tiny_sets]
    _, output = cluster(
        "ray", "exec", cluster.file, shlex.join(map(str, ["python", "-m", "otter_ray.tune", *study]))
    )
    # The plan knew what would come.
    assert "12 trials on 4 slots of 1 CPU" in output
    assert "autoscaler may add" in output
    assert {row["host"] for row in pq.read_table(runs / "demo/up/trials.parquet").to_pylist()} == set(WORKERS)
    assert list(runs.glob("demo/up/*.onnx"))
    # Spot nodes were asked for first, and are gone once nothing trains.
    started = (cluster.shared / "cloud.json.started").read_text().split()
    assert started.count("head") == 1
    assert started.count("gpu_spot") >= 1
    wait_for(lambda: list(json.loads((cluster.shared / "cloud.json").read_text())) == [head])
    wait_for(lambda: cluster.living() == {head})
