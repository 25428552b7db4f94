"""Samplers and schedulers in a real Tuner."""

import io
import json

import pytest
from rich.console import Console
from test_samplers import DECAY, GRID, NUMBERS, SAMPLERS

from otter_ray.config import StudyOptions, load_config
from otter_ray.config.space import Space
from otter_ray.report.rows import read_rows
from otter_ray.tune.cluster import cluster as cluster_of
from otter_ray.tune.distributions import searched_together
from otter_ray.tune.driver import run_trainable
from otter_ray.tune.dry_run import plan_for, within_grid
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.limits import Limits
from otter_ray.tune.run import Search
from otter_ray.tune.show import Lines


def trainable():
    """Four epochs, the worse the higher the trial's number. Made here, so that it travels by value."""

    def four_epochs(assignment):
        from ray import tune

        for epoch in (1, 2, 3, 4):
            value = epoch / 10 - assignment["number"] / 1000
            tune.report({"epoch": epoch, "valid_fpr@4": value, "metrics/valid_fpr@4": value})

    return four_epochs


def begun(folder, config, space):
    """The study in a folder, as a driver opens it."""
    searched = searched_together(space, config)
    return open_study(folder, space.study, 0, lambda new: enqueue_first(new, config, space), searched)


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
            ready = Search(config, space, folder, study)
            assert ready.trials_left()
            plan = plan_for(config, space.with_trials(ready.trials_left()), *cluster_of())
            run_trainable(trainable(), ready, plan, Lines(Console(file=io.StringIO())), limits=limit)
        return [(row.number, row.state, row.curve, row.values) for row in read_rows(study)]

    undisturbed = search("whole", Limits())
    assert search("broken", Limits(epochs=6), Limits(epochs=13), Limits()) == undisturbed
    states = [state for _, state, _, _ in undisturbed]
    assert states[0] == "complete"
    assert "pruned" in states
    assert len({json.dumps(values) for _, _, _, values in undisturbed}) == 9


def test_a_grid_search_ends_with_its_grid(connected, tmp_path):
    config, printed = load_config("demo").with_values({DECAY: 0.15}), io.StringIO()
    options = StudyOptions(num_trials=64, sampler={"name": "GridSampler"}, scheduler={"name": "none"})
    space = within_grid(Space("searched", GRID[:2], options), config, Console(file=printed))
    assert "the grid is done after 7 trials, not 64" in printed.getvalue()
    folder = StudyFolder(tmp_path)
    (folder.path / "trials").mkdir()
    study = begun(folder, config, space)
    plan = plan_for(config, space, *cluster_of())
    run_trainable(trainable(), Search(config, space, folder, study), plan, Lines(Console(file=io.StringIO())))
    points = [tuple(trial.params.values()) for trial in study.trials[1:]]
    assert sorted(points) == [(0.1, 8), (0.1, 16), (0.1, 24), (0.2, 8), (0.2, 16), (0.2, 24)]
