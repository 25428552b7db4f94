"""What a trial's memory says about the share of a GPU that trials need."""

import pytest

from otter_ray.formatting import GIB
from otter_ray.space import StudyOptions
from otter_ray.tune.cluster.planner import gpu_share_advice, make_plan
from otter_ray.tune.cluster.resources import Node, ScaleUp


def plan(nodes, **resources):
    return make_plan(StudyOptions(resources=resources), nodes)


def test_the_first_trial_says_how_many_could_share():
    told = gpu_share_advice(
        0, int(3.1 * GIB), 80 * GIB, plan([Node(128, 8)], cpus_per_worker=1, gpus_per_worker=1)
    )
    says = "trial 0 used 3.1 of 80 GiB: gpus_per_worker: 0.06 would run 16 trials on a GPU (CPUs allow 16)"
    assert told == says


@pytest.mark.parametrize(
    ("nodes", "resources"),
    [
        ([Node(16, 1)], {"gpus_per_worker": 0.06}),  # as many already
        ([Node(2, 1)], {"cpus_per_worker": 2, "gpus_per_worker": 0.5}),  # the CPUs allow no more
        ([Node(16)], {}),
        ([Node(16, 2)], {"workers_per_trial": 2, "gpus_per_worker": 1}),
    ],
)
def test_nothing_is_said_where_nothing_is_gained(nodes, resources):
    assert not gpu_share_advice(0, 3 * GIB, 80 * GIB, plan(nodes, **resources))


def test_nodes_to_come_count():
    growing = make_plan(
        StudyOptions(resources={"gpus_per_worker": 1}), [Node(0)], [ScaleUp("gpu_worker", Node(8, 1), 2)]
    )
    assert "(CPUs allow 8)" in gpu_share_advice(0, 3 * GIB, 80 * GIB, growing)
