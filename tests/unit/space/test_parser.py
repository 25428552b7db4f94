from __future__ import annotations

import pickle

import pytest

from otter_ray.errors import ConfigError
from otter_ray.space import Parameter, StudyOptions, load_space, space_with_sets


def entry(text: str, name: str = "trainer.max_epochs") -> str:
    return f"parameters:\n  other: {{type: categorical, choices: [a, b]}}\n  {name}: {text}\n"


def test_the_designs_example(design_path):
    space = load_space(design_path)
    assert [p.name for p in space.parameters] == [
        "optimizer.options.lr",
        "embed_dim",
        "model.loss.name",
        "model.loss.options.m[CosFace]",
        "model.loss.options.m[ArcFace]",
    ]
    margin = space.parameters[3]
    assert (margin.keys, margin.low, margin.high) == (("model.loss.options.m",), 0.2, 0.5)
    assert (margin.when, margin.line) == ({"model.loss.name": ("CosFace",)}, 3)
    assert space.parameters[1].keys == ("model.head.options.embed_dim", "model.loss.embed_dim")
    assert space.study.num_trials == 64
    assert (space.study.scheduler.options.grace_period, space.study.scheduler.options.reduction_factor) == (
        2,
        2,
    )
    assert (space.name, pickle.loads(pickle.dumps(space))) == ("design_space", space)


def test_the_study_section_is_optional(write):
    study = load_space(write(entry("{type: int, low: 1, high: 2}"))).study
    assert study == StudyOptions()
    assert (study.metric, study.mode, study.num_trials) == ("", "max", 32)  # the model's first
    assert (study.sampler.name, study.scheduler.name) == ("TPESampler", "ASHA")
    assert study.resources.model_dump() == {
        "workers_per_trial": 1,
        "cpus_per_worker": 1,
    }


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("{type: float, low: 2, hihg: 3}", "hihg", "Did you mean 'high'"),
        ("{type: flaot, low: 2, high: 3}", "type", "Give float, int or categorical."),
        ("{low: 2, high: 3}", "type", "is missing. Give float"),
        ("{type: float, low: 3, high: 2}", "low", "3 is above high (2). Swap them."),
        ("{type: float, low: 2}", "high", "is missing. Give the highest"),
        ("{type: float, low: x, high: 2}", "low", "'x' is not valid. Give a number."),
        ("{type: float, low: .nan, high: 2}", "low", "Give a number."),
        ("{type: float, low: 0, high: 2, log: true}", "low", "0 has no logarithm"),
        ("{type: float, low: 1, high: 2, log: true, step: 1}", "step", "cannot be combined with log"),
        ("{type: int, low: 1, high: 2, step: 0}", "step", "Give a step > 0."),
        ("{type: float, low: 0, high: 1e300, step: 1e-10}", "step", "too small for 0 to 1e+300"),
        ("{type: float, low: -1e308, high: 1e308}", "high", "Narrow the range"),
        ("{type: int, low: 1.5, high: 2}", "low", "1.5 is not an integer"),
        ("{type: int, low: 1, high: 2, step: 0.5}", "step", "0.5 is not an integer"),
        ("{type: int, low: 1, high: 2, choices: [1]}", "choices", "does not belong to int"),
        ("{type: int, low: 1, high: 2, log: 1}", "log", "Give true or false."),
        ("{type: categorical, choices: []}", "choices", "Optuna's categorical"),
        (f"{{type: categorical, choices: {[*range(1001)]}}}", "choices", "1 to 1000 texts"),
        (f"{{type: int, low: 1, high: 2, when: {{other: {['a'] * 1001}}}}}", "when.other", "up to 1000"),
        ("{type: categorical, choices: [[1, 2]]}", "choices", "Optuna's categorical"),
        ("{type: categorical, choices: [1, true]}", "choices.1", "True is listed twice"),
        ("{type: categorical, choices: [.nan]}", "choices.0", "not a finite number"),
        ("{type: categorical}", "choices", "is missing"),
        ("{type: categorical, choices: [1], low: 1}", "low", "does not belong to a categorical"),
        ("{type: int, low: 1, high: 2, sets: []}", "sets", "a list of names"),
        ("{type: int, low: 1, high: 2, when: {other: []}}", "when.other", "never holds"),
        ("{type: int, low: 1, high: 2, when: {other: {x: 1}}}", "when.other", "Give a value or a list"),
        ("[{type: int, low: 1, high: 2}]", "0.when", "is missing. Name"),
        ("5", "", "is not a mapping"),
    ],
)
def test_faults_of_one_entry(space_faults, text, field, says):
    (fault,) = space_faults(entry(text))
    assert fault.key == f"parameters.trainer.max_epochs.{field}".rstrip(".")
    assert fault.line == 3
    assert says in fault.message


def between(*lines: str) -> str:
    return "parameters:\n" + "".join(f"  {line}\n" for line in lines)


A = "a.x: {type: categorical, choices: [p, q]}"


@pytest.mark.parametrize(
    ("text", "name", "line", "says"),
    [
        (between(A, "b: {type: int, low: 1, high: 2, when: {a.y: p}}"), "b", 3, "Did you mean 'a.x'"),
        (
            between(A, "b: {type: int, low: 1, high: 2, when: {a.x: [p, r]}}"),
            "b",
            3,
            "not one of the choices of a.x ('p', 'q')",
        ),
        (
            between("a: {type: int, low: 1, high: 2}", "b: {type: int, low: 1, high: 2, when: {a: 1}}"),
            "b",
            3,
            "Make 'a' categorical",
        ),
        (
            between(A[:-1] + ", when: {b: 1}}", "b: {type: categorical, choices: [1], when: {a.x: p}}"),
            "a.x",
            2,
            "circular: a.x, b",
        ),
        (between(A[:-1] + ", when: {a.x: p}}"), "a.x", 2, "circular"),
        (
            between(A, "b: {type: int, low: 1, high: 2, sets: [a.x]}"),
            "b",
            3,
            "sets a.x, as a.x in line 2 does",
        ),
        (between(A, "a: {type: int, low: 1, high: 2}"), "a", 3, "sets a.x, as a.x in line 2 does"),
        (
            between(
                A,
                "b:",
                "  - {when: {a.x: p}, type: int, low: 1, high: 2}",
                "  - {when: {a.x: p}, type: int, low: 3, high: 4}",
            ),
            "b[p]",
            5,
            "name and condition of line 4",
        ),
        (
            between(
                A,
                "b:",
                "  - {when: {a.x: p}, type: int, low: 1, high: 2}",
                "  - {when: {a.x: [p, q]}, type: int, low: 3, high: 4}",
            ),
            "b[p|q]",
            5,
            "sets b, as b[p] in line 4 does",
        ),
    ],
)
def test_faults_between_parameters(space_faults, text, name, line, says):
    (fault,) = space_faults(text)
    assert (fault.key, fault.line) == (name, line)
    assert says in fault.message


def test_one_key_may_be_set_in_branches_that_exclude_each_other(write):
    text = between(
        A,
        "b: {type: categorical, choices: [1, 2], when: {a.x: p}}",
        "c: {type: int, low: 1, high: 2, sets: [z], when: {b: 1}}",
        "d: {type: int, low: 1, high: 2, sets: [z], when: {a.x: q}}",
    )
    assert len(load_space(write(text)).parameters) == 4


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("mode: best", "study.mode", "Give max or min."),
        ("num_trials: 0", "study.num_trials", "Give a whole number >= 1."),
        ("trials: 3", "study.trials", "Did you mean 'num_trials'"),
        ("sampler: {name: TPE}", "study.sampler.name", "Did you mean 'TPESampler'? Give TPESampler, "),
        (
            "scheduler: {name: asha}",
            "study.scheduler.name",
            "is not one of the choices. Did you mean 'ASHA'? Give ASHA, ",
        ),
        ("scheduler: {name: asha, options: {x: 1}}", "study.scheduler.name", "ASHA"),
        (
            "scheduler: {name: PBT, options: {quantile_fraction: 0.6}}",
            "study.scheduler.options.quantile_fraction",
            "Give a number above 0, up to 0.5.",
        ),
        (
            "scheduler: {name: PBT, options: {perturbation_factors: []}}",
            "study.scheduler.options.perturbation_factors",
            "Give a list of numbers > 0",
        ),
        ("scheduler: {options: 3}", "study.scheduler.options", "is not a mapping"),
        (
            "scheduler: {name: median, options: {reduction_factor: 2}}",
            "study.scheduler.options.reduction_factor",
            "Known here: grace_period, min_samples_required.",
        ),
        (
            "scheduler: {name: Hyperband, options: {bracket: 2}}",
            "study.scheduler.options.bracket",
            "Did you mean 'brackets'",
        ),
        (
            "scheduler: {name: Hyperband, options: {brackets: 0}}",
            "study.scheduler.options.brackets",
            "from 1 to 20",
        ),
        ("scheduler: {options: {grace: 1}}", "study.scheduler.options.grace", "Did you mean 'grace_period'"),
        ("scheduler: {options: {reduction_factor: 1}}", "study.scheduler.options.reduction_factor", ">= 2"),
        ("resources: {gpus_per_worker: -1}", "study.resources.gpus_per_worker", "from 0 to 1"),
        ("resources: {gpus_per_worker: 1.5}", "study.resources.gpus_per_worker", "a share of one"),
        ("resources: {gpus_per_worker: 2}", "study.resources.gpus_per_worker", "raise workers_per_trial"),
        ("resources: {cpus_per_worker: 0}", "study.resources.cpus_per_worker", "> 0"),
        ("finalists: {top: 3}", "study.finalists.seeds", "is missing. Give a whole number >= 2, of runs"),
        ("finalists: {top: 3}", "study.finalists.seeds", "seeds: 3, say), or leave finalists out."),
        ("finalists: {seeds: 3}", "study.finalists.top", "is missing. Give a whole number >= 1, of trials"),
        (
            "finalists: {top: 3, seeds: 1}",
            "study.finalists.seeds",
            "1 is too small. Give a whole number >= 2",
        ),
        ("finalists: {tops: 3, top: 3, seeds: 2}", "study.finalists.tops", "Did you mean 'top'"),
        ("finalists: 3", "study.finalists", "3 is not a mapping"),
    ],
)
def test_faults_of_the_study(space_faults, text, key, says):
    (fault,) = space_faults(entry("{type: int, low: 1, high: 2}") + f"study:\n  {text}\n")
    assert (fault.key, fault.line) == (key, 5)
    assert says in fault.message


def test_all_problems_at_once(space_faults):
    text = between(
        A,
        "b: {type: flaot}",
        "c: {type: int, low: 2, high: 1}",
        "d: {type: int, low: 1, high: 2, when: {b: 1, e: 1}}",
    )
    faults = space_faults(text + "studdy: {}\n")
    assert [(fault.key, fault.line) for fault in faults] == [
        ("parameters.b.type", 3),
        ("parameters.c.low", 4),
        ("d", 5),
        ("studdy", 6),
    ]


def test_the_number_of_entries_is_limited(space_faults):
    (fault,) = space_faults(between(*(f"p{i}: {{type: int, low: 1, high: 2}}" for i in range(201))))
    assert (fault.key, fault.line) == ("parameters", 1)
    assert "has 201 entries" in fault.message


def test_parameters_are_immutable():
    with pytest.raises(AttributeError):
        Parameter("a", ("a",), "int", 1, 2).low = 3  # type: ignore[misc]


def test_a_space_is_changed_by_its_keys(design_path):
    sets = [
        "study.num_trials=5",
        "study.resources.gpus_per_worker=0.5",
        "parameters.optimizer.options.lr.high=0.5",
        "parameters.common.seed={type: int, low: 1, high: 3}",
    ]
    space = load_space(design_path, sets)
    assert (space.study.num_trials, space.study.resources.gpus_per_worker) == (5, 0.5)
    searched = {parameter.name: parameter for parameter in space.parameters}
    assert searched["optimizer.options.lr"].high == 0.5
    assert searched["optimizer.options.lr"].low == load_space(design_path).parameters[0].low
    assert (searched["common.seed"].low, searched["common.seed"].high) == (1, 3)
    assert space_with_sets(load_space(design_path), sets).to_dict() == space.to_dict()
    assert space_with_sets(load_space(design_path), {"study.num_trials": 5}).study.num_trials == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trainer.max_epochs=3", "--set-space: trainer.max_epochs: is not a key of the search space"),
        (
            "study.num_trial=3",
            r"--set-space: study.num_trial: is not a known key.* Did you mean 'num_trials'",
        ),
        ("study.num_trials=none", r"--set-space: study.num_trials: 'none' is not an integer"),
        ("study.num_trials", "--set-space: study.num_trials: has no value. Write key=value"),
        ("parameters.embed_dim.choices.7=1", r"--set-space: parameters.embed_dim.choices.7: cannot be set"),
    ],
)
def test_a_wrong_change_of_a_space_is_named(design_path, text, says):
    with pytest.raises(ConfigError, match=says):
        load_space(design_path, [text])
