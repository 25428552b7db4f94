"""Optuna's own tests of samplers, over ours as a study makes them.

Ours are told what they search. Where Optuna's tests draw parameters one by one, that is nothing.
"""

from itertools import chain

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from otter_ray.space import StudyOptions
from otter_ray.space.grid import grid_size
from otter_ray.space.samplers import CAPABILITIES, samplers_with
from otter_ray.study.distributions import to_parameter
from otter_ray.tune.samplers.factory import make_sampler

pytestmark = pytest.mark.filterwarnings("ignore")
# Without random beginnings, so that it is the sampler itself that draws.
OPTIONS = {
    "TPESampler": {"n_startup_trials": 0},
    "GPSampler": {"n_startup_trials": 0},
    "CmaEsSampler": {"n_startup_trials": 0},
    "NSGAIISampler": {"population_size": 2},
}
# The genetic algorithm's first population and random search draw parameters one by one.
TOGETHER = [name for name in CAPABILITIES if name not in ("NSGAIISampler", "RandomSampler")]
# Of the cases that differ in distributions alone, those that a slow sampler goes through.
FEW = (FloatDistribution(-1.0, 1.0), IntDistribution(3, 9, step=2))
# What a test draws whose distributions are no parameters of it.
CHOICES = {
    "test_sample_relative_categorical": {
        "x": CategoricalDistribution([1, 10, 100]),
        "y": CategoricalDistribution([-1, -10, -100]),
    },
    "test_sample_relative_mixed": {"y": CategoricalDistribution([-1, -10, -100])},
}


def factory(name, searched):
    """What Optuna's tests call for a new sampler."""
    options = StudyOptions(sampler={"name": name, "options": OPTIONS.get(name, {})})
    return lambda: make_sampler(options, 0, searched)


def searched_in(request):
    """Name -> distribution, of a test that draws parameters together."""
    given = request.node.callspec.params
    found = {name: given[f"{name}_distribution"] for name in "xy" if f"{name}_distribution" in given}
    return found | CHOICES.get(request.node.originalname, {})


@pytest.mark.parametrize("name", samplers_with(exhaustive=False))
class TestBasic(BasicSamplerTestCase):
    # A grid draws nothing but its points, all parameters at once.

    @pytest.fixture
    def sampler(self, name):
        return factory(name, {})


@pytest.mark.parametrize("name", TOGETHER)
class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self, name, request):
        searched, capabilities = searched_in(request), CAPABILITIES[name]
        kinds = [*map(type, searched.values())]
        if not capabilities.categoricals and CategoricalDistribution in kinds:
            pytest.skip("it supports numeric parameters only, and a space with others is refused")
        if capabilities.exhaustive:
            if not searched:
                pytest.skip("it draws nothing but the points of its grid")
            if grid_size([to_parameter(*item) for item in searched.items()]) is None:
                pytest.skip("a grid needs a step in every range, and a space without is refused")
        numbers = [found for found in searched.values() if not isinstance(found, CategoricalDistribution)]
        if name == "GPSampler" and any(found not in FEW or found != numbers[0] for found in numbers):
            pytest.skip("a draw takes 0.2 s, so it goes through few distributions")
        return factory(name, searched)


@pytest.mark.parametrize("name", samplers_with(exhaustive=False, multi_objective=True))
class TestMultiObjective(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, name):
        return factory(name, {})


@pytest.mark.parametrize("name", samplers_with(multi_objective=False))
class TestSingleObjective(SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self, name):
        return factory(name, {})


def test_every_sampler_goes_through_the_suite():
    through = chain(samplers_with(exhaustive=False), TOGETHER)
    assert {*through} == CAPABILITIES.keys()
