"""What changes within a run is changed everywhere, and once."""

from threading import Event

import pytest
import torch

from otter_ray.train.callbacks import reports_so_far
from otter_ray.train.retune import retune
from otter_ray.train.run import run_training
from otter_ray.train.schedules import PolynomialLRWarmup

LR = "optimizer.options.lr"


class EnoughError(Exception):
    """The run is broken off."""


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
            retune(optimizer, [schedule], then, now)
        if step >= 4:
            for one, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
                assert one["lr"] == pytest.approx(other["lr"])
                assert {name: one[name] for name in ("weight_decay", "eps")} == {
                    name: other[name] for name in ("weight_decay", "eps")
                }
        for pair in ((optimizer, schedule), (twin, expected)):
            for part in pair:
                part.step()


def test_a_run_with_a_schedule_begins_and_ends_with_its_rates(tiny_config, tmp_path):
    """Also where it goes on in another process, from between two phases or from within one."""
    changes = {"trainer.max_epochs": 3, LR: 0.004, "lr_scheduler": None}
    plain = tiny_config.with_values(changes)
    config = plain.with_values({"schedule": [{"epochs": 2, "values": {LR: 0.008}}]})
    curves = {}

    def enough():
        raise EnoughError

    def run(name, config, epochs=3, checkpoint=None, **options):
        def report(epoch):
            curves.setdefault(name, {})[epoch.epoch] = epoch.metrics["valid_fpr@4"]
            if epoch.epoch == epochs:
                enough()

        with pytest.raises(EnoughError):
            run_training(
                config, tmp_path / name, report, cpus=1, standalone=False, checkpoint=checkpoint, **options
            )
        state = torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        return {group["lr"] for group in state["optimizer_states"][0]["param_groups"]}

    assert run("whole", config, 1) == {0.008}
    assert run("whole", config) == {0.004}
    for epochs in (1, 2):
        name = f"broken off after {epochs}"
        assert run(name, config, epochs) == {0.008}
        assert run(name, config, 3, tmp_path / name / "checkpoints/last.ckpt") == {0.004}
        assert curves[name] == curves["whole"]
    # Once more, and within the first epoch of the second phase.
    soon = Event()
    soon.set()
    last = tmp_path / "within/checkpoints/last.ckpt"
    assert run("within", config, 2) == {0.008}
    assert run("within", config, None, last, save_soon=soon, saved=enough) == {0.004}
    assert run("within", config, 3, last) == {0.004}
    assert run("without", plain.with_values({LR: 0.008})) == {0.008}
    assert [curves["without"][epoch] == curves["whole"][epoch] for epoch in (1, 2)] == [True, True]


def test_what_another_run_reported_is_not_this_ones(tiny_run, tiny_config, tmp_path):
    """Even where this one was killed between its first best.ckpt and its first last.ckpt."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").touch()
    epochs = tiny_config.trainer.max_epochs
    longer = tiny_config.with_values({"trainer.max_epochs": epochs + 1})
    donor = tiny_run.folder / "checkpoints/last.ckpt"
    run_training(longer, tmp_path, lambda epoch: None, cpus=1, standalone=False, checkpoint=donor)
    assert [epoch.epoch for epoch in reports_so_far(tmp_path / "checkpoints/last.ckpt")] == [epochs + 1]
    assert (tmp_path / "checkpoints/best.ckpt").stat().st_size
