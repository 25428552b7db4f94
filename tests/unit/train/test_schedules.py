import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.scheduler import PolyLRScheduler
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, PolynomialLR, SequentialLR

from otter_ray.train.schedules import MultiStepLRWarmUp, PolynomialLRWarmup

PEAK = 0.02


def sgd():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def made(kind=PolynomialLRWarmup, **options):
    optimizer = sgd()
    return optimizer, kind(optimizer, **options)


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


def in_torchs_parts(warmup, after):
    """The same run put together from torch's own schedules."""
    optimizer = sgd()
    parts = [LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup), after(optimizer)]
    return optimizer, SequentialLR(optimizer, parts, milestones=[warmup])


def in_timm(warmup, total, power):
    """The rates of timm's schedule."""
    optimizer = sgd()
    schedule = PolyLRScheduler(
        optimizer,
        t_initial=total - warmup,
        power=power,
        warmup_t=warmup,
        warmup_lr_init=PEAK / (warmup + 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    seen = []
    for step in range(total):
        schedule.step_update(step)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 60), st.sampled_from([0.5, 1.0, 2.0]))
def test_polynomial_equals_torch_and_timm(warmup, decay, power):
    total = warmup + decay
    ours = rates(*made(warmup_iters=warmup, total_iters=total, power=power), total)
    torchs = in_torchs_parts(warmup, lambda optimizer: PolynomialLR(optimizer, decay, power))
    assert ours == pytest.approx(rates(*torchs, total), rel=1e-6)
    assert ours == pytest.approx(in_timm(warmup, total, power), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.lists(st.integers(1, 50), max_size=4).map(sorted),
    st.sampled_from([0.1, 0.316227766, 1.0]),
)
def test_multi_step_equals_torch(warmup, milestones, gamma):
    ours = made(MultiStepLRWarmUp, milestones=milestones, warmup_milestone=warmup, gamma=gamma)
    torchs = in_torchs_parts(warmup, lambda optimizer: MultiStepLR(optimizer, milestones, gamma))
    assert rates(*ours, 80) == pytest.approx(rates(*torchs, 80), rel=1e-6)


POLYNOMIAL = (PolynomialLRWarmup, {"warmup_iters": 4, "total_iters": 20, "power": 2.0})
MULTI_STEP = (MultiStepLRWarmUp, {"milestones": [5, 11], "warmup_milestone": 4, "gamma": 0.5})


@pytest.mark.parametrize(("kind", "options"), [POLYNOMIAL, MULTI_STEP])
@pytest.mark.parametrize("done", [1, 7, 12])
def test_a_restored_schedule_goes_on(kind, options, done):
    optimizer, schedule = made(kind, **options)
    before = rates(optimizer, schedule, done)
    states = optimizer.state_dict(), schedule.state_dict()

    restored, again = made(kind, **options)
    restored.load_state_dict(states[0])
    again.load_state_dict(states[1])
    after = rates(restored, again, 20 - done)
    if kind is PolynomialLRWarmup:
        torchs = in_torchs_parts(4, lambda optimizer: PolynomialLR(optimizer, 16, 2.0))
    else:
        torchs = in_torchs_parts(4, lambda optimizer: MultiStepLR(optimizer, [5, 11], 0.5))
    assert before + after == pytest.approx(rates(*torchs, 20), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"milestones": [3, 2], "warmup_milestone": 1},
            r"milestones are \[3, 2\] but must be in ascending order",
        ),
        ({"milestones": [3], "warmup_milestone": -1}, "warmup_milestone is -1 but must be >= 0"),
        ({"milestones": [3], "warmup_milestone": 1, "gamma": 0}, "gamma is 0 but must be > 0"),
    ],
)
def test_steps_that_make_no_sense(options, says):
    with pytest.raises(ValueError, match=says):
        made(MultiStepLRWarmUp, **options)


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
