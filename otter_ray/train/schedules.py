"""Learning-rate schedules that Otter's configs name and torch lacks."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class PolynomialLRWarmup(LambdaLR):
    """Linear warm-up to the optimizer's rate, then polynomial decay to 0.

    With `w = warmup_iters` and `T = total_iters` the rate at step `t` is the base rate times
    `(t + 1) / (w + 1)` while `t < w`, and `((T - t) / (T - w)) ** power` from there to `T`.

    Args:
        optimizer: its rates are the peak rates.
        warmup_iters: steps of warm-up, >= 0. -1 in a config: 10 % of the run's.
        total_iters: steps of the run, > warmup_iters. -1 in a config: all of the run's.
        power: of the decay.
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
                return (step + 1) / (warmup_iters + 1)
            return float(max(0.0, (total_iters - step) / (total_iters - warmup_iters)) ** power)

        super().__init__(optimizer, factor, last_epoch)
