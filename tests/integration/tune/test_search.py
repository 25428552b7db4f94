"""Samplers and schedulers in a real Tuner."""

import json

import pytest

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, StudyOptions
from otter_ray.space.space import Space
from otter_ray.study.distributions import relative_search_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records
from otter_ray.tune.cluster.autoscaler import cluster_capacity
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult
from otter_ray.tune.request import StopCriteria
from otter_ray.tune.samplers.factory import make_sampler
from tests.support.sampler_cases import DECAY, GRID, NUMBERS, SAMPLERS


def trainable():
    """Four epochs, the worse the higher the trial's number. Made here, so that it travels by value."""

    def four_epochs(assignment):
        from ray import tune

        for epoch in (1, 2, 3, 4):
            value = epoch / 10 - assignment["number"] / 1000
            tune.report(EpochResult(epoch, value, {"valid_fpr@4": value}).to_tune())

    return four_epochs


def begun(folder, config, space):
    """The study in a folder, as a driver opens it."""
    searched = relative_search_space(SearchProblem(config, space))
    sampler = make_sampler(space.study, 0, searched)
    return open_study(
        folder, space.study, sampler, lambda new: enqueue_first(new, SearchProblem(config, space))
    )


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("GPSampler", {"name": "median", "options": {"min_samples_required": 2}}),
        ("CmaEsSampler", {"name": "Hyperband", "options": {"brackets": 2, "reduction_factor": 2}}),
    ],
)
def test_what_was_broken_off_comes_to_what_was_not(connected, tmp_path, sampler, scheduler):
    chosen = {"name": sampler, "options": SAMPLERS[sampler]}
    options = StudyOptions(num_trials=9, sampler=chosen, scheduler=scheduler)
    config, space = load_config("demo"), Space("searched", NUMBERS[:2], options)

    def search(name, *limits):
        folder = StudyFolder(tmp_path / name)
        (folder.path / "trials").mkdir(parents=True)
        for limit in limits:
            study = begun(folder, config, space)
            ready = StudyContext(SearchProblem(config, space), folder, study)
            assert ready.trials_left()
            plan = plan_for(
                SearchProblem(config, space.with_trials(ready.trials_left())), *cluster_capacity()
            )
            StudyTuner(ready, plan, ProgressReporter(), criteria=limit).run(trainable())
        return [(row.number, row.state, row.curve, row.values) for row in read_records(study)]

    undisturbed = search("whole", StopCriteria())
    assert search("broken", StopCriteria(epochs=6), StopCriteria(epochs=13), StopCriteria()) == undisturbed
    states = [state for _, state, _, _ in undisturbed]
    assert states[0] == "complete"
    assert "pruned" in states
    assert len({json.dumps(values) for _, _, _, values in undisturbed}) == 9


def test_a_grid_search_ends_with_its_grid(connected, tmp_path):
    config = load_config("demo").with_values({DECAY: 0.15})
    options = StudyOptions(num_trials=64, sampler={"name": "GridSampler"}, scheduler={"name": "none"})
    asked = SearchProblem(config, Space("searched", GRID[:2], options))
    assert asked.grid_note == "GridSampler: the grid is done after 7 trials, not 64"
    space = asked.resolved({}).space
    folder = StudyFolder(tmp_path)
    (folder.path / "trials").mkdir()
    study = begun(folder, config, space)
    plan = plan_for(SearchProblem(config, space), *cluster_capacity())
    context = StudyContext(SearchProblem(config, space), folder, study)
    StudyTuner(context, plan, ProgressReporter()).run(trainable())
    points = [tuple(trial.params.values()) for trial in study.trials[1:]]
    assert sorted(points) == [(0.1, 8), (0.1, 16), (0.1, 24), (0.2, 8), (0.2, 16), (0.2, 24)]
