"""What a new study begins with, whatever samples the rest."""

import logging

import pytest

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, StudyOptions
from otter_ray.space.space import Space
from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.tune.samplers.factory import build_sampler
from tests.support.sampler_cases import DECAY, GRID, SAMPLERS, SCALE

ASKED = [{DECAY: 0.2, SCALE: 16}, {"s": 24}]


def problem_of(name, trials=6):
    sampler = {"name": name, "options": SAMPLERS[name]}
    study = StudyOptions(num_trials=trials, sampler=sampler, scheduler={"name": "none"}, enqueue=ASKED)
    return SearchProblem(load_config("demo").with_values({DECAY: 0.1}), Space("searched", GRID, study))


@pytest.mark.parametrize("name", SAMPLERS)
def test_enqueued_trials_come_right_after_the_base_config(name, tmp_path):
    problem = problem_of(name)
    initial = InitialTrials(problem)
    study = open_study(StudyFolder(tmp_path), problem.options, build_sampler(problem), initial.enqueue)
    initial.enqueue(study)  # as after a driver that died over it
    drawn = [problem.suggest(study.ask()) for _ in range(4)]
    assert {key: drawn[0][key] for key in problem.base_params} == problem.base_params
    assert (drawn[1][DECAY], drawn[1][SCALE], drawn[2][SCALE]) == (0.2, 16, 24)
    assert [trial.number for trial in study.trials if "fixed_params" in trial.system_attrs] == [0, 1, 2]


def test_a_study_says_how_many_are_enqueued(caplog):
    caplog.set_level(logging.INFO, "otter_ray")
    InitialTrials(problem_of("TPESampler")).load()
    InitialTrials(problem_of("TPESampler", trials=2)).load()
    assert [record.getMessage().partition(". ")[0] for record in caplog.records] == [
        "enqueued after the base config: 2 trials",
        "2 trials are enqueued, but only 1 come after the base config",
    ]
