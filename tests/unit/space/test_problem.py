"""A config and a space as one thing: what follows from both is worked out once."""

from dataclasses import replace

import pytest

from otter_ray.config import load_config
from otter_ray.errors import ConfigError
from otter_ray.space import Parameter, SearchProblem, Space, StudyOptions, check_space
from otter_ray.space import problem as module

LR, SCALE, LOSS = "optimizer.options.lr", "model.loss.options.s", "model.loss.name"
PARAMETERS = (
    Parameter(LOSS, (LOSS,), "categorical", choices=("CosFace", "ArcFace")),
    Parameter(SCALE, (SCALE,), "int", 8, 24, step=8),
)


@pytest.fixture
def asked():
    """Make the problem of a study with these options."""

    def make(**study):
        return SearchProblem(load_config("demo"), Space("searched", PARAMETERS, StudyOptions(**study)))

    return make


def test_branches_are_listed_once_however_many_ask(asked, monkeypatch):
    listed, assignments = [], Space.assignments
    monkeypatch.setattr(Space, "assignments", lambda *of: listed.append(of) or assignments(*of))
    problem = asked()
    changed = problem.with_trials(7).resolved({})
    assert not listed
    assert [branch.values for branch in problem.branches] == [branch.values for branch in problem.branches]
    assert problem.branches[-1].config is problem.branches[-1].config
    assert len(listed) == 1
    # Other options of the study change no branch.
    assert problem.with_trials(7).resolved({}).branches is problem.branches
    assert changed.branches is not problem.branches
    # Another config does.
    other = replace(problem, config=problem.config.with_values({LR: 0.5}))
    assert {branch.config.get(LR) for branch in other.branches} == {0.5}


def test_configs_of_many_branches_are_not_kept(asked, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT_CONFIGS", 1)
    branch = asked().branches[0]
    assert branch.config is not branch.config
    assert branch.config == branch.config


def test_a_branch_that_is_no_config_says_so_each_time(asked):
    bad = Parameter("common.batch_size", ("common.batch_size",), "int", 0, 4)
    problem = replace(asked(), space=Space("searched", (bad,)))
    assert [fault.key for fault in check_space(problem)] == ["common.batch_size"]
    for _ in range(2):
        with pytest.raises(ConfigError, match="batch_size"):
            _ = problem.branches[0].config


@pytest.mark.parametrize(
    ("wanted", "num_trials", "note"),
    [
        (4, 4, "GridSampler: 4 of the grid's 6 trials, in an order shuffled by the seed"),
        (6, 6, ""),
        (64, 6, "GridSampler: the grid is done after 6 trials, not 64"),
    ],
)
def test_a_grid_search_has_no_more_trials_than_its_grid(asked, wanted, num_trials, note):
    problem = asked(num_trials=wanted, sampler={"name": "GridSampler"})
    assert problem.grid_trials == 6
    assert (problem.resolved({}).options.num_trials, problem.grid_note) == (num_trials, note)
    other = asked(num_trials=wanted)
    assert (other.resolved({}).options.num_trials, other.grid_note) == (wanted, "")


@pytest.mark.parametrize(
    ("scheduler", "metric"),
    [({}, "steady"), ({"name": "ASHA"}, None), ({"metric": "loss"}, "loss")],
)
def test_only_a_scheduler_that_nobody_named_compares_by_a_proxy(asked, scheduler, metric):
    problem = asked(metric="noisy", scheduler=scheduler)
    assert problem.resolved({"noisy": "steady"}).options.scheduler.metric == metric
    assert problem.resolved({}).options.scheduler.metric == scheduler.get("metric")
