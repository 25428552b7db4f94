"""What changes within a run is changed everywhere, and once."""

import pytest
import torch

from otter_ray.train.callbacks import reports_so_far
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.schedule.optimizer_schedule import change_options
from otter_ray.train.schedules import PolynomialLRWarmup
from otter_ray.train.trainer import run_training

LR = "optimizer.options.lr"


def test_rates_change_by_a_factor_and_other_options_where_they_are_that_value():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]

    def groups(rate):
        return [
            {"params": weights[0], "lr": rate},
            {"params": weights[1], "lr": rate / 10, "weight_decay": 0.0},
        ]

    then = {"lr": 0.2, "weight_decay": 0.1, "eps": 1e-8}
    now = {"lr": 0.1, "weight_decay": 0.3, "eps": 1e-6}
    optimizer = torch.optim.AdamW(groups(0.2), **then)
    schedule = PolynomialLRWarmup(optimizer, warmup_iters=2, total_iters=10)
    twin = torch.optim.AdamW(groups(0.1), **now)
    expected = PolynomialLRWarmup(twin, warmup_iters=2, total_iters=10)
    for step in range(9):
        if step == 4:
            change_options(optimizer, [schedule], then, now)
        if step >= 4:
            for one, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
                assert one["lr"] == pytest.approx(other["lr"])
                assert {name: one[name] for name in ("weight_decay", "eps")} == {
                    name: other[name] for name in ("weight_decay", "eps")
                }
        for pair in ((optimizer, schedule), (twin, expected)):
            for part in pair:
                part.step()


def test_what_another_run_reported_is_not_this_ones(tiny_run, tiny_config, tmp_path):
    """Even where this one was killed between its first best.ckpt and its first last.ckpt."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").touch()
    epochs = tiny_config.trainer.max_epochs
    longer = tiny_config.with_values({"trainer.max_epochs": epochs + 1})
    donor = tiny_run.folder / "checkpoints/last.ckpt"
    run_training(longer, tmp_path, lambda epoch: None, RunOptions(cpus=1, checkpoint=donor), RunHooks())
    assert [epoch.epoch for epoch in reports_so_far(tmp_path / "checkpoints/last.ckpt")] == [epochs + 1]
    assert (tmp_path / "checkpoints/best.ckpt").stat().st_size
