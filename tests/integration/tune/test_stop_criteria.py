"""Limits of a search in a real Tuner: it ends early, and the next command does what is left."""

import time
from types import SimpleNamespace

import pytest

from otter_ray.space import SearchProblem
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import ended
from otter_ray.study.trials import read_records
from otter_ray.tune.cluster.autoscaler import cluster_capacity
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult
from otter_ray.tune.request import StopCriteria
from otter_ray.tune.samplers.factory import make_sampler
from otter_ray.tune.search import stopping

TRIALS = 6


def trainable():
    """Four epochs; trial 0 has the best value. Made here, so that it travels by value."""

    def four_epochs(assignment):
        import time

        from ray import tune

        for epoch in (1, 2, 3, 4):
            time.sleep(0.2)
            value = 0.5 if assignment["number"] == 0 else 0.4
            tune.report(EpochResult(epoch, value, {"valid_fpr@4": value}).to_tune())

    return four_epochs


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (StopCriteria(epochs=6), "6 epochs are done"),
        (StopCriteria(patience=2), "2 trials in a row brought no better value"),
        (StopCriteria(seconds=600.0), "the time budget is used up"),
    ],
)
def test_a_search_ends_at_its_limit_and_goes_on(connected, demo, tmp_path, monkeypatch, limits, says):
    config, space = demo
    opened = []
    # The time is up when a trial has ended, however long its slot took to start.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * any(map(ended, opened)))
    monkeypatch.setattr(stopping, "time", clock)
    space = space.with_trials(TRIALS)
    folder = StudyFolder(tmp_path / "limited")
    (folder.path / "trials").mkdir(parents=True)

    def search(limits):
        study = open_study(
            folder,
            space.study,
            make_sampler(space.study, 0),
            lambda new: enqueue_first(new, SearchProblem(config, space)),
        )
        opened.append(study)
        ready = StudyContext(SearchProblem(config, space), folder, study)
        plan = plan_for(SearchProblem(config, space.with_trials(ready.trials_left())), *cluster_capacity())
        controller = StudyTuner(ready, plan, ProgressReporter(), criteria=limits).run(trainable())
        return controller, ready

    controller, stopped = search(limits)
    assert controller.reason == says
    assert not controller.is_fault
    before = read_records(stopped.study)
    assert 0 < stopped.trials_left() < TRIALS
    if limits.epochs:
        assert controller.epochs == limits.epochs
    controller, done = search(StopCriteria())
    assert not controller.reason
    after = read_records(done.study)
    assert [row.number for row in after] == list(range(TRIALS))
    assert {row.state for row in after} <= {"complete", "pruned"}
    for row in before:
        if row.has_ended:
            assert after[row.number] == row
        assert after[row.number].curve[: len(row.curve)] == row.curve
