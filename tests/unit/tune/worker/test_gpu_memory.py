"""What a share of a GPU means in bytes; without a GPU, nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otter_ray.formatting import GIB
from otter_ray.tune.cluster.planner import needed_share
from otter_ray.tune.cluster.resources import CUDA_CONTEXT
from otter_ray.tune.worker.gpu_memory import keep_to_share, memory_fraction, used_memory


@given(st.integers(0, 90 * GIB), st.integers(4 * GIB, 90 * GIB))
def test_what_is_suggested_holds_the_trial(peak, total):
    share = needed_share(peak, total)
    assert 0 < share <= 1
    if share < 1:
        assert memory_fraction(share, total) * total >= peak


@given(st.floats(0.01, 0.99), st.integers(8 * GIB, 90 * GIB))
def test_contexts_and_tensors_of_all_trials_fit(share, total):
    if share * total >= 2 * CUDA_CONTEXT:
        assert int(1 / share) * (memory_fraction(share, total) * total + CUDA_CONTEXT) <= total * (1 + 1e-9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_nothing_to_share():
    keep_to_share(0.5)
    assert used_memory() is None
