"""A trial in one process, without Ray: it is given what to report with."""

import shutil
from dataclasses import replace
from pathlib import Path

from otter_ray.direction import Direction
from otter_ray.tune.messages import TrialAssignment
from otter_ray.tune.worker.context import TrialContext
from otter_ray.tune.worker.setup import TrialSetup


def context_of(run, config, folder, **values):
    """A trial with these values whose folder holds what `run` left."""
    setup = TrialSetup(
        config=config.to_dict(), config_name="demo", study=str(folder), mark="", storage=None,
        rung_metric="valid_fpr@4",
        keep_every=None,
        metric="valid_fpr@4", direction=Direction.MAX, workers=1, cpus=1.0, gpus=0.0, cwd=str(Path.cwd()),
    )  # fmt: skip
    kept = shutil.copytree(run.folder, folder / "trials/0000")
    return TrialContext(setup, TrialAssignment(0, values), 0.0, kept, None)


def test_a_checkpoint_of_another_trial_of_that_number_is_not_gone_on_from(tiny_run, tiny_config, tmp_path):
    """The journal's newest lines were lost with their driver, and the number was given out again."""
    lr = tiny_config.get("optimizer.options.lr")
    told = []
    other = context_of(tiny_run, tiny_config, tmp_path, **{"optimizer.options.lr": 2 * lr})
    last = other.folder / "checkpoints/last.ckpt"
    assert not other.owns(last)
    assert replace(other, assignment=TrialAssignment(0, {"optimizer.options.lr": lr})).owns(last)
    other.train(told.append)
    assert [result.epoch for result in told] == [1, 2]
    assert told[0].value != tiny_run.reports[0].metrics["valid_fpr@4"]
    assert other.owns(last)


def test_a_trial_that_goes_on_tells_all_epochs_of_its_checkpoint(tiny_run, tiny_config, tmp_path):
    """A worker group may have trained epochs ahead of what its driver had heard of when it died."""
    told = []
    context_of(tiny_run, tiny_config, tmp_path).train(told.append)
    assert [result.epoch for result in told] == [1, 2]
    for result, report in zip(told, tiny_run.reports, strict=True):
        assert result.value == report.metrics["valid_fpr@4"]
        assert result.metrics["loss"] == report.metrics["loss"]
