"""What there is and what may come: a living Ray, the file of `ray up`, KubeRay's RayCluster."""

import pytest
import yaml
from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

from otter_ray.config import StudyOptions
from otter_ray.tune import cluster
from otter_ray.tune.cluster import Member, autoscaler_config, growth_of
from otter_ray.tune.plan import Growth, Node, make_plan

HEAD = Member(Node(4), "headgroup", is_head=True)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    return tmp_path


def test_without_an_autoscaler_nothing_comes(home):
    assert autoscaler_config() is None


def test_the_file_of_ray_up(home):
    kinds = {
        "head": {"max_workers": 0, "resources": {"CPU": 4}},
        "gpu": {"max_workers": 3, "resources": {"CPU": 8, "GPU": 1}},
    }
    file = {"max_workers": 2, "head_node_type": "head", "available_node_types": kinds}
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(file))
    assert growth_of(autoscaler_config(), [HEAD]) == [Growth("gpu", Node(8, 1), 2, together=2)]


def test_types_share_what_may_come_in_all():
    """Each counts to its own limit, all together to the cluster's: no type takes another's place."""
    kinds = {
        "cpu": {"max_workers": 4, "resources": {"CPU": 8}},
        "gpu": {"max_workers": 4, "resources": {"CPU": 8, "GPU": 1}},
    }
    file = {"max_workers": 4, "head_node_type": "head", "available_node_types": kinds}
    growth = growth_of(file, [HEAD])
    plan = make_plan(StudyOptions(resources={"gpus_per_worker": 1}), [Node(0)], growth, accelerator="gpu")
    assert plan.slots == 4
    assert make_plan(StudyOptions(num_trials=99), [Node(0)], growth, accelerator="cpu").slots == 32
    plan = make_plan(StudyOptions(num_trials=99, resources={"gpus_per_worker": 0}), [Node(0)], growth)
    assert plan.slots == 32
    assert "4 nodes in all" in str(plan)


def pods(**limits):
    return {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}}


@pytest.mark.parametrize(
    ("scales", "growth"), [(True, [Growth("gpus", Node(8, 2), 3, together=3)]), (False, [])]
)
def test_the_raycluster_of_kuberay(home, monkeypatch, scales, growth):
    """A RayCluster as Kubernetes gives it; only the way there is not real."""
    group = {"groupName": "gpus", "minReplicas": 0, "maxReplicas": 3, "rayStartParams": {}}
    limits = {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2"}
    found = {
        "metadata": {"name": "study", "namespace": "vision"},
        "spec": {
            "enableInTreeAutoscaling": scales,
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pods(cpu="2", memory="4Gi")},
            "workerGroupSpecs": [{**group, "template": pods(**limits)}],
        },
    }
    (home / "namespace").write_text("vision")
    monkeypatch.setattr(cluster, "KUBERNETES_NAMESPACE", home / "namespace")
    monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: {"rayclusters/study": found}[path])
    monkeypatch.setenv("RAY_CLUSTER_NAME", "study")
    assert growth_of(autoscaler_config(), [HEAD]) == growth


def test_a_dry_run_looks_at_the_living_ray_and_starts_nothing(ray_with, tune, tmp_path):
    arguments = ["--dry-run", "--samples", 0, "--set", "dataloader.train_options.num_workers=24"]
    code, output = tune("demo", "--address", ray_with("disabled"), *arguments, folder=tmp_path).end()
    assert code == 0, output
    assert "plan: 14 trials on 2 slots of 1 CPU and 0 GPUs each (1 node, 2 CPUs, 0 GPUs): 7 rounds" in output
    assert "asks nobody for a token" in output
    assert "dataloader.train_options.num_workers 24 becomes 0" in output
    assert not list(tmp_path.iterdir())
