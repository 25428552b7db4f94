"""What a share of a GPU means in bytes; without a GPU, nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otter_ray.config import StudyOptions
from otter_ray.tune.gpu import (
    CONTEXT,
    GIB,
    keep_to_share,
    memory_fraction,
    needed_share,
    suggestion,
    used_memory,
)
from otter_ray.tune.plan import Growth, Node, make_plan


def plan(nodes, **resources):
    return make_plan(StudyOptions(resources=resources), nodes)


def test_the_first_trial_says_how_many_could_share():
    told = suggestion(0, int(3.1 * GIB), 80 * GIB, plan([Node(128, 8)], cpus_per_worker=1, gpus_per_worker=1))
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
    assert not suggestion(0, 3 * GIB, 80 * GIB, plan(nodes, **resources))


def test_nodes_to_come_count():
    growing = make_plan(
        StudyOptions(resources={"gpus_per_worker": 1}), [Node(0)], [Growth("gpu_worker", Node(8, 1), 2)]
    )
    assert "(CPUs allow 8)" in suggestion(0, 3 * GIB, 80 * GIB, growing)


@given(st.integers(0, 90 * GIB), st.integers(4 * GIB, 90 * GIB))
def test_what_is_suggested_holds_the_trial(peak, total):
    share = needed_share(peak, total)
    assert 0 < share <= 1
    if share < 1:
        assert memory_fraction(share, total) * total >= peak


@given(st.floats(0.01, 0.99), st.integers(8 * GIB, 90 * GIB))
def test_contexts_and_tensors_of_all_trials_fit(share, total):
    if share * total >= 2 * CONTEXT:
        assert int(1 / share) * (memory_fraction(share, total) * total + CONTEXT) <= total * (1 + 1e-9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_nothing_to_share():
    keep_to_share(0.5)
    assert used_memory() == {}
