"""The shipped cluster files, tried without a cloud: Ray's own checks, AWS's own shapes."""

import re
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.commands import warn_about_bad_start_command
from ray.autoscaler._private.util import prepare_config, validate_config

import otter_ray
from otter_ray.tune.cluster.autoscaler import scale_ups_of
from otter_ray.tune.cluster.nodes import Member
from otter_ray.tune.cluster.resources import Node, ScaleUp

ROOT = Path(otter_ray.__file__).parents[1]
RAY_UP = ["cluster.yaml", "deploy/onprem/cluster.yaml"]
PINS = dict(
    line.split(" ;")[0].split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
)


def read(name):
    return list(yaml.safe_load_all((ROOT / name).read_text()))


@pytest.fixture
def aws():
    return read("cluster.yaml")[0]


@pytest.fixture
def kuberay():
    return read("deploy/kuberay/cluster.yaml")


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_takes_the_file(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    [config] = read(name)
    prepared = prepare_config(config)
    validate_config(prepared)
    warn_about_bad_start_command(prepared["head_start_ray_commands"], no_monitor_on_head=False)


def node_configs():
    types = read("cluster.yaml")[0]["available_node_types"]
    return [pytest.param(kind["node_config"], id=name) for name, kind in types.items()]


@pytest.mark.parametrize("config", node_configs())
def test_aws_takes_each_node(config):
    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    found = ParamValidator().validate({**config, "MinCount": 1, "MaxCount": 1}, shape)
    assert not found.has_errors(), found.generate_report()


def test_the_head_runs_no_trial_and_gpus_come_from_nothing(aws):
    types = aws["available_node_types"]
    assert types[aws["head_node_type"]]["resources"] == {"CPU": 0}
    workers = [kind for name, kind in types.items() if name != aws["head_node_type"]]
    assert {kind["min_workers"] for kind in workers} == {0}
    spot, on_demand = sorted(workers, key=lambda kind: -kind["priority"])
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot["node_config"] == on_demand["node_config"]


def start_lines(config):
    return [
        command
        for when in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[when]
        if "ray start" in command
    ]


@pytest.mark.parametrize("name", RAY_UP)
def test_no_ray_is_open(name):
    [config] = read(name)
    head, worker = start_lines(config)
    assert re.search(r"\bRAY_AUTH_MODE=token\b.* ray start --head\b", head)
    assert "--dashboard-host=127.0.0.1" in head
    assert re.search(r"\bRAY_AUTH_MODE=token\b.*ray start", worker)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_on_premises_starts_all_machines(monkeypatch):
    [head, _] = start_lines(read("deploy/onprem/cluster.yaml")[0])
    # Ray exports 1 before this line: only an assignment within it wins.
    assert re.search(r"\bRAY_enable_autoscaler_v2=0 .*ray start", head)


@pytest.mark.parametrize("name", RAY_UP)
def test_nodes_install_what_is_pinned(name):
    [config] = read(name)
    [install] = [command for command in config["setup_commands"] if "pip install" in command]
    assert "--constraint constraints.txt" in install
    assert "ray" in PINS


def test_kubernetes_is_closed_and_pinned(kuberay):
    [job], [policy] = kuberay, read("deploy/kuberay/network.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == PINS["ray"]
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {pod["image"] for group in groups for pod in group["template"]["spec"]["containers"]}
    assert images == {f"REGISTRY/otter_ray:{otter_ray.__version__}"}


def test_the_plan_knows_what_kubernetes_may_add(kuberay):
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = {
        "metadata": {"name": "otter-ray", "namespace": "vision"},
        "spec": kuberay[0]["spec"]["rayClusterSpec"],
    }
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    head = Member(Node(0), "headgroup", is_head=True)
    assert scale_ups_of(config, [head]) == [ScaleUp("gpu", Node(16, 1), 8, max_total=8)]
