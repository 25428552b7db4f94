"""Limits of a search in a real Tuner: it ends early, and the next command does what is left."""

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from otter_ray.report.rows import read_rows
from otter_ray.tune import halt as halt_module
from otter_ray.tune.cluster import cluster as cluster_of
from otter_ray.tune.driver import run_trainable
from otter_ray.tune.dry_run import plan_for
from otter_ray.tune.endings import ended
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.limits import Limits
from otter_ray.tune.run import Search
from otter_ray.tune.show import Lines

TRIALS = 6


def trainable():
    """Four epochs; trial 0 has the best value. Made here, so that it travels by value."""

    def four_epochs(assignment):
        import time

        from ray import tune

        for epoch in (1, 2, 3, 4):
            time.sleep(0.2)
            value = 0.5 if assignment["number"] == 0 else 0.4
            tune.report({"epoch": epoch, "valid_fpr@4": value, "metrics/valid_fpr@4": value})

    return four_epochs


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(epochs=6), "6 epochs are done"),
        (Limits(patience=2), "2 trials in a row brought no better value"),
        (Limits(seconds=600.0), "the time budget is used up"),
    ],
)
def test_a_search_ends_at_its_limit_and_goes_on(connected, demo, tmp_path, monkeypatch, limits, says):
    config, space = demo
    opened = []
    # The time is up when a trial has ended, however long its slot took to start.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * any(map(ended, opened)))
    monkeypatch.setattr(halt_module, "time", clock)
    space = space.with_trials(TRIALS)
    folder = StudyFolder(tmp_path / "limited")
    (folder.path / "trials").mkdir(parents=True)

    def search(limits):
        study = open_study(folder, space.study, begin=lambda new: enqueue_first(new, config, space))
        opened.append(study)
        ready = Search(config, space, folder, study)
        plan = plan_for(config, space.with_trials(ready.trials_left()), *cluster_of())
        halt = run_trainable(trainable(), ready, plan, Lines(Console(file=io.StringIO())), limits=limits)
        return halt, ready

    halt, stopped = search(limits)
    assert halt.reason == says
    assert not halt.is_fault
    before = read_rows(stopped.study)
    assert 0 < stopped.trials_left() < TRIALS
    if limits.epochs:
        assert halt.epochs == limits.epochs
    halt, done = search(Limits())
    assert not halt.reason
    after = read_rows(done.study)
    assert [row.number for row in after] == list(range(TRIALS))
    assert {row.state for row in after} <= {"complete", "pruned"}
    for row in before:
        if row.has_ended:
            assert after[row.number] == row
        assert after[row.number].curve[: len(row.curve)] == row.curve
