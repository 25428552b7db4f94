"""A `schedule` of several phases, over whole runs that are broken off and go on."""

from threading import Event

import pytest
import torch

from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

LR = "optimizer.options.lr"


class EnoughError(Exception):
    """The run is broken off."""


def test_a_run_with_a_schedule_begins_and_ends_with_its_rates(tiny_config, tmp_path):
    """Also where it goes on in another process, from between two phases or from within one."""
    changes = {"trainer.max_epochs": 3, LR: 0.004, "lr_scheduler": None}
    plain = tiny_config.with_values(changes)
    config = plain.with_values({"schedule": [{"epochs": 2, "values": {LR: 0.008}}]})
    curves = {}

    def enough():
        raise EnoughError

    def run(name, config, epochs=3, checkpoint=None, **hooks):
        def report(epoch):
            curves.setdefault(name, {})[epoch.epoch] = epoch.metrics["valid_fpr@4"]
            if epoch.epoch == epochs:
                enough()

        options = RunOptions(cpus=1, checkpoint=checkpoint)
        with pytest.raises(EnoughError):
            run_training(config, tmp_path / name, report, options, RunHooks(**hooks))
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
