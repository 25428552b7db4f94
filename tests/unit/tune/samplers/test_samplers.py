"""Every sampler, over real journals: a draw depends on what the journal holds, and on nothing else."""

import itertools
from math import log10
from typing import get_args

import optuna
import pytest
from optuna._transform import _SearchSpaceTransform
from optuna.trial import TrialState

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, StudyOptions
from otter_ray.space.samplers import CAPABILITIES, SamplerClass, samplers_with
from otter_ray.space.space import Space
from otter_ray.study.distributions import relative_search_space
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.outcomes import ended
from otter_ray.tune.samplers.cmaes import CmaEs
from otter_ray.tune.samplers.factory import RELATIVE, make_sampler
from tests.support.sampler_cases import DECAY, GRID, LOSS, LR, NUMBERS, SAMPLERS, SCALE
from tests.support.search_driver import Driver

CASES = [*SAMPLERS.items(), ("CmaEsSampler", {"popsize": 4, "with_margin": True})]


@pytest.fixture
def config():
    return load_config("demo").with_values({DECAY: 0.1})


def space_with(parameters, name, options, trials=12):
    sampler = {"name": name, "options": options}
    study = StudyOptions(num_trials=trials, sampler=sampler, scheduler={"name": "none"})
    return Space("searched", parameters, study)


def space_for(name, options):
    # A Gaussian process takes its time over whole numbers.
    parameters = {"GridSampler": GRID, "GPSampler": NUMBERS[:2]}.get(name, NUMBERS)
    return space_with(parameters, name, options)


def opened(path, config, space):
    """The study in a folder, as a driver opens it."""
    path.mkdir(exist_ok=True)
    sampler = make_sampler(space.study, 0, relative_search_space(SearchProblem(config, space)))
    return open_study(StudyFolder(path), space.study, sampler)


def worth(trial):
    """Highest well within the ranges: at a corner, samplers meet whatever else they know."""
    lr, decay = (trial["values"].get(key, default) for key, default in ((LR, 1e-2), (DECAY, 0.1)))
    return 1 - (log10(lr) + 2.4) ** 2 / 4 - (10 * decay - 0.4) ** 2


def run(driver, count):
    """Trials one after another; what each was given."""
    given = []
    for _ in range(count):
        trial = driver.start()
        given.append(trial.config)
        driver.run([worth(trial.config)] * 4, trial=trial)
    return given


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_driver_that_dies_at_any_line_draws_the_same_again(config, tmp_path, name, options):
    """While another trial runs, which some samplers look at, too."""
    space = space_for(name, options)
    driver = Driver(opened(tmp_path / "whole", config, space), config, space)
    run(driver, 7)
    driver.start()
    journal = tmp_path / "whole/study.journal"
    before = journal.read_bytes()
    expected = driver.start().config
    lines = journal.read_bytes()[len(before) :].splitlines(keepends=True)
    for count in range(len(lines)):
        killed = tmp_path / f"killed{count}"
        killed.mkdir()
        torn = [*lines[:count], lines[count][:9]]
        (killed / "study.journal").write_bytes(before + b"".join(torn))
        resumed = Driver(opened(killed, config, space), config, space)
        resumed.start()
        assert resumed.start().config == expected, count


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_new_driver_for_each_trial_draws_what_one_would(config, tmp_path, name, options):
    space = space_for(name, options)
    one = run(Driver(opened(tmp_path / "one", config, space), config, space), 11)
    many = [run(Driver(opened(tmp_path / "many", config, space), config, space), 1)[0] for _ in range(11)]
    assert one == many
    assert len({str(given["values"]) for given in one}) > 6  # a genetic algorithm repeats itself


def drawn_by(sampler, count=20):
    """Parameters of trials that one sampler drew, with Optuna alone."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({"x": 0.5, "y": 2})
    for _ in range(count):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 1, 9)
        study.tell(trial, -((x - 0.3) ** 2) - (y - 4) ** 2)
    return [trial.params for trial in study.trials], study


SEARCHED = {
    "x": optuna.distributions.FloatDistribution(0, 1),
    "y": optuna.distributions.IntDistribution(1, 9),
}


@pytest.mark.parametrize("more", [{}, {"use_separable_cma": True}, {"with_margin": True}])
@pytest.mark.filterwarnings("ignore")
def test_cma_es_is_where_optunas_pickles_are(more):
    """Told anew from Optuna's own trials, it comes to each optimizer that Optuna has written down."""
    chosen = {"popsize": 4, "seed": 0, **more}
    optunas = optuna.samplers.CmaEsSampler(**chosen)
    _, study = drawn_by(optunas)
    trans = _SearchSpaceTransform(
        SEARCHED, transform_step=not more.get("with_margin", False), transform_0_1=True
    )
    compared = 0
    for trial in study.trials:
        if (written := optunas._restore_optimizer([trial])) is not None:
            ours = CmaEs(SEARCHED, **chosen)
            assert ours._restore_optimizer(study.trials[: trial.number]) is None
            replayed = ours._init_optimizer(trans, study.direction)
            assert state_of(replayed) == state_of(written)
            compared += 1
    assert compared == 4


def test_a_generation_of_cma_es_stays_what_it_was_when_one_of_it_ends_late():
    study = optuna.create_study(sampler=CmaEs(SEARCHED, popsize=4, seed=0))
    study.enqueue_trial({"x": 0.5, "y": 2})
    study.tell(draw(study)[0], 0.5)
    running = [draw(study) for _ in range(5)]
    trans = _SearchSpaceTransform(SEARCHED, transform_0_1=True)
    states = []
    for index in (1, 2, 3, 4, 0):
        study.tell(*running[index])
        if index in (4, 0):
            sampler = CmaEs(SEARCHED, popsize=4, seed=0)
            sampler._restore_optimizer([t for t in study.trials if t.state == TrialState.COMPLETE])
            states.append(sampler._init_optimizer(trans, study.direction))
    assert [optimizer.generation for optimizer in states] == [1, 1]
    assert state_of(states[0]) == state_of(states[1])


def draw(study):
    """A new trial, and its value."""
    trial = study.ask()
    return trial, trial.suggest_float("x", 0, 1) + trial.suggest_int("y", 1, 9)


def state_of(optimizer):
    """What it has learned: no generator, nothing that it computes of the rest, no memory not yet written."""
    left_out = ("_rng", "_cma", "_B", "_D", "_c_1d", "_funhist_values")
    every = {**vars(optimizer), **vars(getattr(optimizer, "_cma", optimizer))}
    return {key: str(value) for key, value in every.items() if key not in left_out}


@pytest.mark.parametrize("more", [{}, {"with_margin": True}])
def test_cma_es_moves_and_writes_no_pickle(more):
    options = StudyOptions(sampler={"name": "CmaEsSampler", "options": {"popsize": 4, **more}})
    _, study = drawn_by(make_sampler(options, 0, SEARCHED), 40)
    attributes = [trial.system_attrs for trial in study.trials]
    assert not any("optimizer" in key for found in attributes for key in found)
    assert max(value for found in attributes for key, value in found.items() if "generation" in key) == 9
    values = [trial.value for trial in study.trials]
    assert sum(values[-8:]) > sum(values[1:9])


def test_a_gaussian_process_without_a_random_beginning_waits_for_a_first_trial():
    """Optuna's would not know the space yet; ours does, and cannot be fitted to nothing."""
    options = StudyOptions(sampler={"name": "GPSampler", "options": {"n_startup_trials": 0}})
    study = optuna.create_study(sampler=make_sampler(options, 0, SEARCHED))
    drawn = [study.ask(SEARCHED).params for _ in range(2)]
    assert drawn[0].keys() == SEARCHED.keys()
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("options", [{}, {"scramble": True}, {"qmc_type": "halton", "scramble": True}])
@pytest.mark.filterwarnings("ignore")
def test_qmc_gives_the_points_that_optunas_gives(options):
    ours = StudyOptions(sampler={"name": "QMCSampler", "options": options})
    params, _ = drawn_by(make_sampler(ours, 5, SEARCHED))
    assert params == drawn_by(optuna.samplers.QMCSampler(seed=5, **options))[0]


@pytest.mark.parametrize("name", samplers_with(relative=True, learns=True))
def test_a_base_config_outside_a_range_takes_no_parameter_out_of_the_search(config, tmp_path, name):
    """Optuna would search what all trials have in common, and draw the rest at random for ever."""
    config = config.with_values({DECAY: 0.9})
    space = space_for(name, SAMPLERS[name])
    driver = Driver(opened(tmp_path, config, space), config, space)
    run(driver, 9)
    assert DECAY not in driver.searcher.study.trials[0].params
    drawn = []
    sampler = driver.searcher.study.sampler
    sampler.sample_independent = lambda *given: drawn.append(given)
    driver.start()
    assert not drawn


def points_of(study):
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


@pytest.mark.parametrize("decay", [0.1, 0.15], ids=["base on the grid", "base off the grid"])
@pytest.mark.parametrize("others", [[], [{DECAY: 0.2, SCALE: 8}] * 2 + [{SCALE: 24, LOSS: "ArcFace"}] * 2])
def test_a_grid_is_done_whole_and_no_point_twice(config, tmp_path, decay, others):
    config = config.with_values({DECAY: decay})
    assert config.get(SCALE) == 16
    space = space_with(GRID, "GridSampler", {}, trials=99)
    space = SearchProblem(config, space).resolved({}).space
    assert space.study.num_trials == 12 + (decay == 0.15)
    enqueue_first(opened(tmp_path, config, space), SearchProblem(config, space), others)
    while True:
        driver = Driver(opened(tmp_path, config, space), config, space)
        if driver.searcher.suggest("is there one more") == "FINISHED":
            break
        driver = Driver(opened(tmp_path, config, space), config, space)
        running = [
            driver.start() for _ in range(min(3, space.study.num_trials - ended(driver.searcher.study)))
        ]
        driver.run([0.5] * 4, trial=running[-1])
    study = driver.searcher.study
    whole = itertools.product(*([(p.name, v) for v in values_of(p)] for p in GRID))
    points = points_of(study)
    assert {tuple(sorted(point)) for point in whole} <= {*points}
    assert len({*points}) == len(points) == space.study.num_trials
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    for queued, trial in zip(others, study.trials[1:], strict=False):
        assert queued.items() <= trial.params.items()


def values_of(parameter):
    return {DECAY: [0.1, 0.2], SCALE: [8, 16, 24]}.get(parameter.name, ["CosFace", "ArcFace"])


def test_names_capabilities_and_classes_of_samplers_agree():
    assert set(get_args(SamplerClass)) == set(CAPABILITIES)
    assert set(RELATIVE) == set(samplers_with(relative=True))
