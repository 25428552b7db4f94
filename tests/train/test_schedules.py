import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otter_ray.train.schedules import PolynomialLRWarmup

PEAK = 0.02


def made(**options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    return optimizer, PolynomialLRWarmup(optimizer, **options)


def rates(optimizer, schedule, steps):
    """The rate that each of the next steps trains with."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def closed_form(warmup, total, power):
    """A line through 0 (one step before the start) and the peak at `warmup`, then the polynomial."""
    rising = [PEAK * step / (warmup + 1) for step in range(1, warmup + 1)]
    left = total - warmup
    return rising + [PEAK * ((left - past) / left) ** power for past in range(left)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(1, 60), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_whole_run(warmup, decay, power):
    total = warmup + decay
    optimizer, schedule = made(warmup_iters=warmup, total_iters=total, power=power)
    seen = rates(optimizer, schedule, total)
    assert seen == pytest.approx(closed_form(warmup, total, power), rel=1e-9)
    assert max(seen) == seen[warmup] == pytest.approx(PEAK)
    assert min(seen) > 0
    # At the end and beyond it the rate is 0, never negative.
    assert rates(optimizer, schedule, 3) == [0, 0, 0]


def test_a_restored_schedule_goes_on():
    options = {"warmup_iters": 4, "total_iters": 20, "power": 2.0}
    optimizer, schedule = made(**options)
    before = rates(optimizer, schedule, 7)
    states = optimizer.state_dict(), schedule.state_dict()
    after = rates(optimizer, schedule, 13)

    restored, again = made(**options)
    restored.load_state_dict(states[0])
    again.load_state_dict(states[1])
    assert rates(restored, again, 13) == after
    assert before + after == pytest.approx(closed_form(4, 20, 2.0), rel=1e-9)


def test_each_group_keeps_its_own_peak():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.3)]
    optimizer = torch.optim.SGD(groups)
    schedule = PolynomialLRWarmup(optimizer, warmup_iters=3, total_iters=9)
    for _ in range(9):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(3 * first)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("warmup", "total"), [(-1, 10), (10, 10), (11, 10), (0, 0)])
def test_a_warm_up_that_does_not_fit(warmup, total):
    with pytest.raises(ValueError, match=rf"warmup_iters is {warmup} but must be >= 0 and < .*\({total}\)"):
        made(warmup_iters=warmup, total_iters=total)
