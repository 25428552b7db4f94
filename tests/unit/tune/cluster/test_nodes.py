"""What there is and what may come: the file of `ray up`, KubeRay's RayCluster."""

import pytest
import yaml
from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

from otter_ray.space import StudyOptions
from otter_ray.tune.cluster import autoscaler
from otter_ray.tune.cluster.autoscaler import autoscaler_config, scale_ups_of
from otter_ray.tune.cluster.nodes import Member
from otter_ray.tune.cluster.planner import make_plan
from otter_ray.tune.cluster.resources import Node, ScaleUp

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
    assert scale_ups_of(autoscaler_config(), [HEAD]) == [ScaleUp("gpu", Node(8, 1), 2, max_total=2)]


def test_types_share_what_may_come_in_all():
    """Each counts to its own limit, all together to the cluster's: no type takes another's place."""
    kinds = {
        "cpu": {"max_workers": 4, "resources": {"CPU": 8}},
        "gpu": {"max_workers": 4, "resources": {"CPU": 8, "GPU": 1}},
    }
    file = {"max_workers": 4, "head_node_type": "head", "available_node_types": kinds}
    scale_ups = scale_ups_of(file, [HEAD])
    plan = make_plan(StudyOptions(resources={"gpus_per_worker": 1}), [Node(0)], scale_ups, accelerator="gpu")
    assert plan.slots == 4
    assert make_plan(StudyOptions(num_trials=99), [Node(0)], scale_ups, accelerator="cpu").slots == 32
    plan = make_plan(StudyOptions(num_trials=99, resources={"gpus_per_worker": 0}), [Node(0)], scale_ups)
    assert plan.slots == 32
    assert "4 nodes in all" in str(plan)


def pods(**limits):
    return {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}}


@pytest.mark.parametrize(
    ("scales", "scale_ups"), [(True, [ScaleUp("gpus", Node(8, 2), 3, max_total=3)]), (False, [])]
)
def test_the_raycluster_of_kuberay(home, monkeypatch, scales, scale_ups):
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
    monkeypatch.setattr(autoscaler, "KUBERNETES_NAMESPACE", home / "namespace")
    monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: {"rayclusters/study": found}[path])
    monkeypatch.setenv("RAY_CLUSTER_NAME", "study")
    assert scale_ups_of(autoscaler_config(), [HEAD]) == scale_ups
