"""What Optuna does not promise, and our samplers need: one test for each touch, named after it."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import CmaEsSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from otter_ray.tune.samplers import optuna_compat
from otter_ray.tune.samplers.optuna_compat import (
    MARGIN_POINT,
    HookedCmaEsSampler,
    IndexedQMCSampler,
    ScottTPESampler,
    StudyProxy,
    draws_one_space,
)

SPACE = {"x": FloatDistribution(0, 1), "y": IntDistribution(1, 9)}


def run(sampler, count, space=SPACE):
    """A study of so many trials, drawn by one sampler."""
    study = optuna.create_study(sampler=sampler)
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, sum(trial.params.values()))
    return study


class Spied(HookedCmaEsSampler):
    """Writes down what the hooks are given."""

    def __init__(self, **options):
        super().__init__(**options)
        self.advanced, self.selected = [], []

    def advance(self, optimizer, to_point, sign):
        self.advanced.append((optimizer, to_point, sign))
        return optimizer

    def select_generation(self, trials):
        self.selected.append(trials)
        return trials


@pytest.fixture
def spied():
    sampler = Spied(seed=0, popsize=4)
    run(sampler, 6)
    return sampler


def test_init_optimizer_makes_one_that_can_be_told_and_asked(spied):
    """`CmaEsSampler._init_optimizer(trans, direction)`, and the optimizer that it returns."""
    optimizer, to_point, sign = spied.advanced[0]
    assert (optimizer.population_size, optimizer.generation, sign) == (4, 0, 1)
    assert len(to_point({"x": 0.5, "y": 3})) == 2
    optimizer.tell([(to_point({"x": share / 4, "y": 3}), share) for share in range(4)])
    assert optimizer.generation == 1


def test_init_optimizer_is_given_the_direction():
    sampler = Spied(seed=0, popsize=4)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for value in (1.0, 2.0, 3.0):
        study.tell(study.ask(SPACE), value)
    assert {sign for _, _, sign in sampler.advanced} == {-1}


def test_restore_optimizer_is_given_what_has_ended_and_decides_about_a_new_one(spied):
    """`CmaEsSampler._restore_optimizer(completed_trials)`: None makes Optuna call `_init_optimizer`."""
    # The first trial finds no relative space.
    assert len(spied.advanced) == 5
    assert [trial.number for trial in spied._completed] == [0, 1, 2, 3, 4]
    restored = CmaEsSampler(popsize=4)._restore_optimizer([])
    assert restored is None


def test_get_solution_trials_lists_one_generation(spied):
    """`CmaEsSampler._get_solution_trials(trials, generation)`: asked for in each draw, by number."""
    assert [trial.number for trial in spied.generation(0)] == [1, 2, 3, 4]
    assert spied.generation(1) == []
    assert len(spied.selected) == 5 + 2


def test_with_margin_keeps_the_point_to_tell_with_the_trial():
    """`CmaEsSampler._with_margin`, and the attribute `x_for_tell`."""
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        sampler = Spied(seed=0, popsize=4, with_margin=True)
    assert sampler.has_margin
    assert not Spied().has_margin
    points = [trial.system_attrs.get(MARGIN_POINT) for trial in run(sampler, 3).trials]
    assert [point and len(point) for point in points] == [None, 2, 2]


@pytest.mark.filterwarnings("ignore")
def test_find_sample_id_names_the_point_that_is_drawn():
    """`QMCSampler._find_sample_id(study, search_space)`: the number of a point of the sequence, from 0."""
    drawn = [trial.params for trial in run(QMCSampler(seed=3, scramble=True), 6).trials[1:]]
    ours = IndexedQMCSampler(seed=3, scramble=True)
    study, points = run(RandomSampler(), 1), []
    for index in (4, 0, 3, 1, 2):
        ours.point_index = index
        points.append((index, ours.sample_relative(study, study.trials[-1], dict(sorted(SPACE.items())))))
    assert [point for _, point in sorted(points, key=lambda found: found[0])] == drawn


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "is_one"),
    [({}, True), ({"multivariate": False}, False), ({"multivariate": True, "group": True}, False)],
)
def test_group_and_is_multivariate_say_what_is_drawn_together(options, is_one):
    """`TPESampler._group` and `TPESampler._is_multivariate(study)`."""
    sampler = TPESampler(seed=0, **options)
    study = run(sampler, 2)
    assert draws_one_space(sampler, study) == is_one
    found = sampler.infer_relative_search_space(study, study.trials[-1])
    assert (found == SPACE) == (is_one or "group" in options)
    if is_one:
        assert list(found) == sorted(SPACE)


# With the width of the range where kernels are normal. Steps reach half a step beyond the ends.
KINDS = {
    "float": (FloatDistribution(-2, 6), 8),
    "log float": (FloatDistribution(1e-4, 1.0, log=True), np.log(1e4)),
    "stepped float": (FloatDistribution(0, 1, step=0.25), 1.25),
    "int": (IntDistribution(1, 9), 9),
    "stepped int": (IntDistribution(0, 8, step=4), 12),
    "log int": (IntDistribution(1, 64, log=True), np.log(64.5 / 0.5)),
}


@pytest.mark.parametrize("count", [0, 1, 3, 40, 400])
def test_calculate_numerical_distributions_makes_kernels_whose_sigma_is_the_width(count):
    """`_ParzenEstimator._calculate_numerical_distributions`, `_search_space`; `sigma`, the prior's last."""
    space = {name: found for name, (found, _) in KINDS.items()} | {"kind": CategoricalDistribution("abc")}
    random = RandomSampler(seed=0)
    drawn = [
        [d.to_internal_repr(random.sample_independent(None, None, name, d)) for _ in range(count)]
        for name, d in space.items()
    ]
    observed = dict(zip(space, map(np.array, drawn), strict=True))
    kernels, optunas = (
        sampler._parzen_estimator_cls(
            observed, space, sampler._parzen_estimator_parameters
        )._mixture_distribution.distributions
        for sampler in (ScottTPESampler(), TPESampler())
    )
    width = max(0.2 * max(count, 1) ** (-1 / 11), 1 / (count + 2))
    for (_, whole), ours, theirs in zip(KINDS.values(), kernels, optunas, strict=False):
        assert ours.sigma == pytest.approx([width * whole] * count + [whole])
        assert (type(ours), ours.low, ours.high) == (type(theirs), theirs.low, theirs.high)
        assert (ours.mu == theirs.mu).all()
    assert (kernels[-1].weights == optunas[-1].weights).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "together"),
    [({}, {1, 2}), ({"multivariate": False}, {1}), ({"multivariate": True, "group": True}, {1, 2})],
)
def test_parzen_estimator_cls_makes_the_densities_of_every_draw(options, together, monkeypatch):
    """`TPESampler._parzen_estimator_cls`: of parameters drawn together, in groups or alone."""
    dimensions = []
    width = optuna_compat.scott_width
    monkeypatch.setattr(
        optuna_compat, "scott_width", lambda size, count: dimensions.append(count) or width(size, count)
    )
    study = optuna.create_study(sampler=ScottTPESampler(seed=0, **options))
    for number in range(30):
        trial = study.ask()
        x, constant = trial.suggest_float("x", 0, 1), trial.suggest_float("constant", 3, 3)
        y = trial.suggest_int("y", 1, 9)
        more = trial.suggest_float("more", 0, 1, log=False) if number % 2 else 0.0
        assert constant == 3
        study.tell(trial, x + y + more)
    assert {*dimensions} == together


class Finished(StudyProxy):
    """Shows trials that have ended."""

    def list_trials(self, use_cache):
        return [trial for trial in super().list_trials(use_cache) if trial.state.is_finished()]


def test_a_study_is_what_its_dict_holds_and_lists_trials_by_get_trials():
    """`Study.__dict__` copied, and `Study._get_trials(deepcopy, states, use_cache)`."""
    study = run(RandomSampler(seed=0), 3)
    study.ask(SPACE)
    proxy = Finished(study)
    assert [trial.number for trial in proxy.trials] == [0, 1, 2]
    assert proxy.get_trials(states=[TrialState.RUNNING]) == []
    assert proxy.get_trials(deepcopy=False)[0] is proxy.get_trials(deepcopy=False)[0]
    assert proxy.get_trials(deepcopy=True)[0] is not proxy.get_trials(deepcopy=False)[0]
    assert (proxy.study_name, proxy.directions) == (study.study_name, study.directions)
    assert proxy.best_trial == study.best_trial


@pytest.mark.parametrize("name", ["TPESampler", "GPSampler"])
def test_samplers_read_trials_through_get_trials_alone(name, monkeypatch):
    """Else a filtered study would not filter: each reads what the proxy lists."""
    sampler = getattr(optuna.samplers, name)(seed=0, n_startup_trials=1)
    study, listed = run(sampler, 3), []
    ended = study.trials
    study.ask()
    proxy, trial = StudyProxy(study), study.trials[-1]
    monkeypatch.setattr(
        StudyProxy, "list_trials", lambda self, use_cache: listed.append(use_cache) or ended[:2]
    )
    space = sampler.infer_relative_search_space(proxy, trial)
    assert sampler.sample_relative(proxy, trial, space).keys() == SPACE.keys()
    assert listed


def test_the_version_that_all_this_was_written_for():
    assert optuna.__version__.split(".")[0] == "5"
    assert "Optuna 5.0" in optuna_compat.__doc__
