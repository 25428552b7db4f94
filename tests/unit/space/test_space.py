from __future__ import annotations

import optuna
import pytest

from otter_ray.space import SearchProblem, check_space, load_space

optuna.logging.set_verbosity(optuna.logging.ERROR)
MARGIN = "model.loss.options.m"
NAME = "model.loss.name"
# Five parameters of ten choices, on each of which a sixth depends.
MANY_BRANCHES = [
    *(f"onnx.options.{name}: {{type: categorical, choices: {[*range(10)]}}}" for name in "abcde"),
    f"x: {{type: int, low: 1, high: 2, when: {{{', '.join(f'onnx.options.{n}: 1' for n in 'abcde')}}}}}",
]
GRACE = "study: {{scheduler: {{name: {name}, options: {{grace_period: {grace}}}}}}}\n"


def ask(**fixed) -> optuna.Trial:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(fixed)
    return study.ask()


@pytest.fixture
def space(design_path):
    return load_space(design_path)


@pytest.mark.parametrize(("loss", "low", "high"), [("CosFace", 0.2, 0.5), ("ArcFace", 0.3, 0.6)])
def test_suggest_follows_the_branch(space, seed, loss, low, high):
    trial = ask(**{NAME: loss, "embed_dim": 128})
    values = space.suggest(trial, seed)
    assert set(trial.params) == {"optimizer.options.lr", "embed_dim", NAME, f"{MARGIN}[{loss}]"}
    assert values[NAME] == loss
    assert low <= values[MARGIN] <= high
    assert values["model.head.options.embed_dim"] == values["model.loss.embed_dim"] == 128
    assert isinstance(trial.distributions["optimizer.options.lr"], optuna.distributions.FloatDistribution)
    assert trial.distributions["optimizer.options.lr"].log


def test_the_base_config_is_the_first_trial(space, seed):
    base = space.base_values(seed)
    assert base == {
        "optimizer.options.lr": 0.001,
        "embed_dim": 256,
        NAME: "CosFace",
        f"{MARGIN}[CosFace]": 0.4,
    }
    trial = ask(**base)
    assert seed.with_values(space.suggest(trial, seed, names=base)) == seed
    assert trial.params == base


def test_base_values_leaves_out_what_does_not_fit(space, seed):
    odd = seed.with_values({MARGIN: 0.9, "model.loss.embed_dim": 128, "optimizer.options": {}})
    assert space.base_values(odd) == {NAME: "CosFace"}
    trial = ask(**{NAME: "CosFace"})
    assert space.suggest(trial, odd, names={NAME}) == {NAME: "CosFace"}


def test_an_unasked_parent_counts_with_its_base_value(space, seed):
    trial = ask(**{f"{MARGIN}[CosFace]": 0.3})
    assert space.suggest(trial, seed, names={f"{MARGIN}[CosFace]"}) == {MARGIN: 0.3}


def test_conditions_on_the_base_config_and_on_names(seed, write):
    text = """\
parameters:
  size: {type: categorical, choices: [1, 2], sets: [model.head.options.a, model.head.options.b]}
  model.loss.options.s: {type: int, low: 1, high: 9, when: {optimizer.name: [SGD, AdamW], size: 2}}
  model.loss.options.t: {type: int, low: 1, high: 9, when: {optimizer.name: SGD}}
"""
    space = load_space(write(text))
    assert set(space.suggest(ask(size=2), seed)) == {
        "model.head.options.a",
        "model.head.options.b",
        "model.loss.options.s",
    }
    assert set(space.suggest(ask(size=1), seed)) == {"model.head.options.a", "model.head.options.b"}
    sgd = seed.with_values({"optimizer.name": "SGD"})
    assert "model.loss.options.t" in space.suggest(ask(size=1), sgd)


def test_a_child_does_not_outlive_its_parent(seed, write):
    text = """\
parameters:
  model.loss.name: {type: categorical, choices: [CosFace, ArcFace]}
  model.head.name: {type: categorical, choices: [A, B], when: {model.loss.name: ArcFace}}
  model.head.options.x: {type: int, low: 1, high: 2, when: {model.head.name: [A, B]}}
"""
    space = load_space(write(text))
    assert space.suggest(ask(**{NAME: "CosFace"}), seed) == {NAME: "CosFace"}
    assert len(space.suggest(ask(**{NAME: "ArcFace"}), seed)) == 3
    assert [branch.values for branch in SearchProblem(seed, space).branches] == [
        {NAME: "CosFace"},
        {NAME: "ArcFace", "model.head.name": "A", "model.head.options.x": 1},
        {NAME: "ArcFace", "model.head.name": "A", "model.head.options.x": 2},
        {NAME: "ArcFace", "model.head.name": "B", "model.head.options.x": 1},
        {NAME: "ArcFace", "model.head.name": "B", "model.head.options.x": 2},
    ]


def test_branches_cover_corners_and_choices(space, seed):
    branches = [branch.values for branch in SearchProblem(seed, space).branches]
    assert branches == [branch.values for branch in SearchProblem(seed, space).branches]
    assert len({tuple(sorted(branch.items())) for branch in branches}) == len(branches) == 12
    cos = [branch for branch in branches if branch[NAME] == "CosFace"]
    assert {branch[MARGIN] for branch in cos} == {0.2, 0.5}
    assert {branch["model.loss.embed_dim"] for branch in cos} == {128, 256, 512}
    assert cos[0]["optimizer.options.lr"] == 1e-4
    assert (cos[-1]["optimizer.options.lr"], cos[-1]["model.loss.embed_dim"], cos[-1][MARGIN]) == (
        1e-2,
        512,
        0.5,
    )


@pytest.mark.parametrize(
    ("text", "inside", "outside", "top"),
    [
        ("{type: int, low: 1, high: 10, step: 4}", [1, 5, 9], [3, 10, 5.0, True, "5"], 9),
        (
            "{type: float, low: 0.1, high: 0.95, step: 0.1}",
            [0.1, 0.30000000000000004, 0.9],
            [0.15, 0.95, 1.0],
            0.9,
        ),
        ("{type: float, low: 1, high: 2}", [1, 1.5, 2], [0.9, None, "1"], 2),
        ("{type: categorical, choices: [1, x, null]}", [1, "x", None], [True, "y"], None),
    ],
)
@pytest.mark.filterwarnings("error")
def test_ranges_are_optunas(write, seed, *, text, inside, outside, top):
    space = load_space(write(f"parameters:\n  optimizer.options.z: {text}\n"))
    (parameter,) = space.parameters
    assert all(parameter.contains(value) for value in inside)
    assert not any(parameter.contains(value) for value in outside)
    assert [branch.values for branch in SearchProblem(seed, space).branches][-1]["optimizer.options.z"] == top
    for value in inside:
        assert space.suggest(ask(**{"optimizer.options.z": value}), seed) == {"optimizer.options.z": value}


def test_a_good_space_has_no_problem(space, seed):
    assert check_space(SearchProblem(seed, space)) == []


@pytest.mark.parametrize(
    ("lines", "key", "line", "says"),
    [
        (["model.los.name: {type: categorical, choices: [A, B, C]}"], "model.los", 2, "Did you mean 'loss'"),
        (
            [
                "optimizer.options.lr: {type: float, low: 1, high: 2}",
                "trainer.max_epochs: {type: float, low: 1.5, high: 3}",
            ],
            "trainer.max_epochs",
            3,
            "Give a whole number >= 1.",
        ),
        (["callbacks.9.name: {type: categorical, choices: [A]}"], "callbacks.9.name", 2, "Count from 0"),
        (["common.image_size.0: {type: categorical, choices: [64]}"], "common.image_size", 2, "not agree"),
        (
            ["onnx.input_shape.img.shape.2: {type: categorical, choices: [128, 64]}"],
            "common.image_size",
            2,
            "do not agree",
        ),
        (
            ["optimizer.options.x: {type: int, low: 1, high: 2, when: {optimizer.nam: SGD}}"],
            "optimizer.options.x",
            2,
            "neither searched nor in the config",
        ),
        (["{}"], "parameters", 1, "Name at least one key"),
        (
            ["trainer.max_epochs: {type: categorical, choices: [1, x]}"],
            "trainer.max_epochs",
            2,
            "is not an integer",
        ),
        (MANY_BRANCHES, "parameters", 1, "more than 10000 combinations"),
    ],
)
def test_check_finds_each_problem_once(write, seed, *, lines, key, line, says):
    path = write("\n  ".join(["parameters:", *lines]))
    (problem,) = check_space(SearchProblem(seed, load_space(path)))
    assert (problem.file, problem.key, problem.line) == (path, key, line)
    assert says in problem.message


def test_a_fault_in_a_conditional_branch_is_found_at_its_alternative(write, seed):
    text = """\
parameters:
  model.loss.name: {type: categorical, choices: [CosFace, ArcFace]}
  common.batch_size:
    - {when: {model.loss.name: CosFace}, type: int, low: 8, high: 16}
    - {when: {model.loss.name: ArcFace}, type: int, low: 0, high: 16}
"""
    (problem,) = check_space(SearchProblem(seed, load_space(write(text))))
    assert (problem.key, problem.line) == ("common.batch_size", 5)


@pytest.mark.parametrize(
    ("epochs", "name", "grace", "limit"),
    [
        (None, "ASHA", 40, None),
        (None, "ASHA", 41, 40),
        (None, "median", 41, 40),
        (None, "Hyperband", 41, 40),
        (None, "none", 41, None),
        (10, "ASHA", 20, 10),
    ],
)
def test_the_grace_period_fits_into_the_epochs(write, seed, *, epochs, name, grace, limit):
    key = "trainer.max_epochs" if epochs else "optimizer.options.x"
    text = f"parameters:\n  {key}: {{type: int, low: {epochs or 1}, high: 30}}\n"
    space = load_space(write(text + GRACE.format(name=name, grace=grace)))
    problems = check_space(SearchProblem(seed, space))
    wanted = f"scheduler.grace_period is {grace} but must be <= max_epochs ({limit})."
    wanted += " Lower it, or raise trainer.max_epochs."
    assert [(p.key, p.line, p.message) for p in problems] == (
        [("study.scheduler.options.grace_period", 3, wanted)] if limit else []
    )


def test_with_trials_leaves_the_space_as_it_was(space):
    assert (space.with_trials(3).study.num_trials, space.study.num_trials) == (3, 64)
    assert space.with_trials(64) == space
