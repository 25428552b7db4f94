"""What a sampler cannot do in fact is refused, with those that can."""

import pytest

from otter_ray.config import load_config
from otter_ray.space import SearchProblem, check_space, load_space
from otter_ray.space.grid import grid_size, grid_values

LR, SCALE, NAME = "optimizer.options.lr", "model.loss.options.s", "model.loss.name"
STEPS = f"  {LR}: {{type: float, low: 0.1, high: 0.35, step: 0.1}}\n"
NUMBER = f"  {SCALE}: {{type: int, low: 8, high: 25, step: 8}}\n"
RATE = "  optimizer.options.lr: {type: float, low: 0.001, high: 0.1, log: true}\n"
LOSS = f"  {NAME}: {{type: categorical, choices: [CosFace, ArcFace]}}\n"
MARGIN = f"  model.loss.options.m: {{when: {{{NAME}: CosFace}}, type: float, low: 0, high: 0.4}}\n"
ON_BASE = "  model.loss.options.m: {when: {model.loss.name: CosFace}, type: float, low: 0, high: 0.4}\n"


@pytest.fixture
def config():
    return load_config("demo")


@pytest.fixture
def problems(write, config):
    """What is wrong with these parameters for a sampler."""

    def find(name, *parameters):
        text = "parameters:\n" + "".join(parameters) + f"study: {{sampler: {{name: {name}}}}}\n"
        return check_space(SearchProblem(config, load_space(write(text))))

    return find


@pytest.mark.parametrize("name", ["GPSampler", "QMCSampler", "GridSampler", "NSGAIISampler"])
def test_conditions_are_refused_by_who_would_draw_at_random(problems, name):
    (problem,) = problems(name, NUMBER, LOSS, MARGIN)
    assert (problem.key, problem.line) == ("study.sampler.name", 5)
    assert problem.message == (
        f"{name} does not support conditions (`when:`): model.loss.options.m would be drawn at random. "
        "Choose TPESampler or RandomSampler, or remove each `when:` that asks for a searched key."
    )


@pytest.mark.parametrize("name", ["TPESampler", "RandomSampler"])
def test_conditions_are_fine_with_who_can(problems, name):
    assert not problems(name, NUMBER, LOSS, MARGIN)


def test_a_condition_on_the_base_config_is_none(problems):
    assert not problems("GPSampler", NUMBER, ON_BASE)


def test_cma_es_moves_numbers_alone(problems):
    (problem,) = problems("CmaEsSampler", NUMBER, LOSS)
    assert (
        "supports numeric parameters only: model.loss.name would be drawn at random. Choose"
        in problem.message
    )
    assert not problems("CmaEsSampler", NUMBER, LOSS.replace("[CosFace, ArcFace]", "[CosFace]"))


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [
        ("{type: float, low: 0.1, high: 0.3}", "Either give it a `step`, or choose QMCSampler"),
        ("{type: float, low: 0.1, high: 0.3, log: true}", "`choices` of a categorical"),
        ("{type: int, low: 1, high: 100, log: true}", "`choices` of a categorical"),
    ],
)
def test_a_grid_needs_values(problems, entry, remedy):
    (problem,) = problems("GridSampler", NUMBER, f"  {LR}: {entry}\n")
    assert (problem.key, problem.line) == (LR, 3)
    assert remedy in problem.message


def test_a_grid_that_nobody_could_run(problems):
    (problem,) = problems("GridSampler", f"  {SCALE}: {{type: int, low: 1, high: 100001}}\n")
    assert "the grid has 100001 points, but at most 100000 are allowed. Use larger steps" in problem.message


def test_the_grid_of_a_space(write, config):
    space = load_space(write("parameters:\n" + STEPS + NUMBER + LOSS))
    assert [grid_values(parameter) for parameter in space.parameters] == [
        [0.1, 0.2, 0.3],
        [8, 16, 24],
        ["CosFace", "ArcFace"],
    ]
    assert grid_size(space.parameters) == 18
    assert SearchProblem(config.with_values({LR: 0.2, SCALE: 16}), space).grid_trials == 18
    assert SearchProblem(config.with_values({LR: 0.25, SCALE: 16}), space).grid_trials == 19


@pytest.mark.parametrize(("brackets", "fits"), [(4, True), (5, False)])
def test_every_bracket_has_a_rung(write, config, brackets, fits):
    config = config.with_values({"trainer.max_epochs": 27})
    options = f"{{grace_period: 1, reduction_factor: 3, brackets: {brackets}}}"
    text = "parameters:\n" + NUMBER + f"study: {{scheduler: {{name: Hyperband, options: {options}}}}}\n"
    found = check_space(SearchProblem(config, load_space(write(text))))
    assert [problem.message for problem in found] == ([] if fits else [
        "scheduler.brackets is 5, and the last bracket's first rung lies at 81 epochs but must be "
        "<= max_epochs (27). Lower it, or raise trainer.max_epochs."
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("searched", "sampler", "interval", "says"),
    [
        (RATE, "RandomSampler", 2, []),
        (RATE, "QMCSampler", 2, []),
        (RATE, "TPESampler", 2, ["Choose RandomSampler or QMCSampler for PBT."]),
        (RATE, "RandomSampler", 27, ["below max_epochs (27): nothing changes."]),
        (NUMBER, "RandomSampler", 2, ["none of them is searched. Search one (optimizer.options.lr, say)"]),
    ],
)
def test_a_population_needs_what_it_can_change(write, config, searched, sampler, interval, says):
    config = config.with_values({"trainer.max_epochs": 27})
    scheduler = f"{{name: PBT, options: {{perturbation_interval: {interval}}}}}"
    text = f"parameters:\n{searched}study: {{sampler: {{name: {sampler}}}, scheduler: {scheduler}}}\n"
    found = [problem.message for problem in check_space(SearchProblem(config, load_space(write(text))))]
    assert len(found) == len(says)
    assert all(part in message for part, message in zip(says, found, strict=True))
