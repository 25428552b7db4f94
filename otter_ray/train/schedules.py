"""Learning rate schedules that Otter's configs name and torch does not have. `t` counts the steps done.

Both warm up along a line that is 0 one step *before* the run, so that the first step already learns:
`(t + 1) / (w + 1)` of the peak. Otter's own start at 0, and their first step changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class PolynomialLRWarmup(LambdaLR):
    """Linear warm-up to the optimizer's rate, then polynomial decay to 0.

    With `w = warmup_iters` and `T = total_iters` the rate at step `t` is the base rate times
    `(t + 1) / (w + 1)` while `t < w`, and `((T - t) / (T - w)) ** power` from there to `T`.

    Args:
        optimizer: The optimizer, whose rates are the peak rates.
        warmup_iters: Steps of warm-up, >= 0. -1 in a config means 10 % of the run's steps.
        total_iters: Steps of the run, > warmup_iters. -1 in a config means all of the run's steps.
        power: Power of the decay.
        last_epoch: As for torch's schedules.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_iters: int,
        total_iters: int,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_iters < total_iters:
            raise ValueError(
                f"warmup_iters is {warmup_iters} but must be >= 0 and < total_iters ({total_iters})"
            )

        def factor(step: int) -> float:
            if step < warmup_iters:
                return _rising(step, warmup_iters)
            return float(max(0.0, (total_iters - step) / (total_iters - warmup_iters)) ** power)

        super().__init__(optimizer, factor, last_epoch)


class MultiStepLRWarmUp(LambdaLR):
    """Linear warm-up to the optimizer's rate, then a fall by `gamma` at each milestone.

    With `w = warmup_milestone` the rate at step `t` is the base rate times `(t + 1) / (w + 1)` while
    `t < w`, and `gamma ** (number of milestones <= t - w)` from there on.

    Args:
        optimizer: The optimizer, whose rates are the peak rates.
        milestones: Steps after the warm-up, in ascending order.
        warmup_milestone: Steps of warm-up, >= 0.
        gamma: Factor at each milestone, > 0.
        last_epoch: As for torch's schedules.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        warmup_milestone: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        if warmup_milestone < 0:
            raise ValueError(f"warmup_milestone is {warmup_milestone} but must be >= 0")
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones are {list(milestones)} but must be in ascending order")
        if gamma <= 0:
            raise ValueError(f"gamma is {gamma} but must be > 0")

        def factor(step: int) -> float:
            if step < warmup_milestone:
                return _rising(step, warmup_milestone)
            return float(gamma ** bisect_right(milestones, step - warmup_milestone))

        super().__init__(optimizer, factor, last_epoch)


def _rising(step: int, warmup: int) -> float:
    return (step + 1) / (warmup + 1)
