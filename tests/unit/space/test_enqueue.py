"""Trials that a space, or a program, asks for: what their keys mean, and what no trial could have."""

import pytest

from otter_ray import Study
from otter_ray.errors import ConfigError, StudyError
from otter_ray.space import load_space, space_to_yaml

LR, NAME, M, SIZE = "optimizer.options.lr", "model.loss.name", "model.loss.options.m", "embed_dim"
PARAMETERS = """
parameters:
  optimizer.options.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  embed_dim:
    {type: categorical, choices: [128, 256], sets: [model.head.options.embed_dim, model.loss.embed_dim]}
  model.loss.name: {type: categorical, choices: [CosFace, ArcFace]}
  model.loss.options.m:
    - {when: {model.loss.name: CosFace}, type: float, low: 0.2, high: 0.5}
    - {when: {model.loss.name: ArcFace}, type: float, low: 0.3, high: 0.6}
  lr_scheduler.options.min_lr: {type: float, low: 0.0, high: 1.0e-5}
"""
COS, ARC = f"{M}[CosFace]", f"{M}[ArcFace]"


@pytest.fixture
def space(tmp_path):
    """Write a space that enqueues trials; give its path."""

    def write(*trials):
        listed = "".join(f"    - {trial}\n" for trial in trials)
        (tmp_path / "space.yaml").write_text(
            f"{PARAMETERS}study:\n  enqueue:\n{listed}" if trials else PARAMETERS
        )
        return tmp_path / "space.yaml"

    return write


@pytest.mark.parametrize(
    ("trial", "params"),
    [
        ("{lr: 0.001}", {LR: 0.001}),
        ("{optimizer.options.lr: 0.001}", {LR: 0.001}),
        ("{optimizer.lr: 0.001}", {LR: 0.001}),
        ("{loss.name: ArcFace, loss.m: 0.55}", {NAME: "ArcFace", ARC: 0.55}),
        ("{m: 0.4}", {COS: 0.4, ARC: 0.4}),
        ('{"model.loss.options.m[CosFace]": 0.2}', {COS: 0.2}),
        ("{embed_dim: 256}", {SIZE: 256}),
        ("{model.head.options.embed_dim: 256, model.loss.embed_dim: 256}", {SIZE: 256}),
    ],
)  # fmt: skip
def test_a_key_may_be_short(space, trial, params):
    assert Study("demo", space(trial)).request().problem.enqueued == (params,)


@pytest.mark.parametrize(
    ("trial", "key", "message"),
    [
        ("{lrr: 0.001}", "lrr", "is not searched. Did you mean 'lr'?"),
        ("{weight_decay: 0.1}", "weight_decay", "is not searched. Searched: optimizer.options.lr, embed_dim"),
        ("{options: 1}", "options", "is not searched."),
        ("{lr: 0.1}", "lr", "0.1 is not searched. Searched: optimizer.options.lr: float 0.0001 to 0.01"),
        ("{lr: fast}", "lr", "'fast' is not searched."),
        ("{lr: true}", "lr", "True is not searched."),
        ("{lr: .nan}", "lr", "nan is not searched."),
        ("{loss.name: CosFase}", "loss.name", "'CosFase' is not searched. Did you mean 'CosFace'?"),
        ("{m: 0.55}", "m", "0.55 is not searched. Searched: model.loss.options.m[CosFace]"),
        ('{"m[ArcFace]": 0.4, name: CosFace}', "m[ArcFace]", "is only searched when model.loss.name is Arc"),
        ("{embed_dim: 256, model.loss.embed_dim: 128}", "model.loss.embed_dim", "128 is also given as 256."),
        ("{name: CosFace, lr: [0.1]}", "", "is not valid. Give a mapping from searched keys to values"),
        ("{}", "", "{} is not valid. Give a mapping"),
    ],
)  # fmt: skip
def test_what_no_trial_could_have_is_refused(space, trial, key, message):
    with pytest.raises(ConfigError) as raised:
        Study("demo", space("{lr: 0.001}", trial)).request()
    [problem] = raised.value.problems
    assert problem.key == ".".join(filter(None, ("study.enqueue.1", key)))
    assert message in problem.message
    assert problem.line == 14


def test_an_ambiguous_key_is_refused(tmp_path):
    (tmp_path / "two.yaml").write_text(
        "parameters:\n"
        "  model.loss.options.s: {type: int, low: 8, high: 32}\n"
        "  model.head.options.s: {type: int, low: 8, high: 32}\n"
        "study: {enqueue: [{s: 8}]}\n"
    )
    with pytest.raises(ConfigError, match=r"enqueue.0.s: could be any of model.loss.options.s, model.head"):
        Study("demo", tmp_path / "two.yaml").request()


def test_a_programs_trials_come_after_the_spaces(space, tmp_path):
    found = Study("demo", space("{lr: 0.001}"), enqueue=[{"lr": 0.002}, {"m": 0.4}]).request().problem
    assert found.enqueued == ({LR: 0.001}, {LR: 0.002}, {COS: 0.4, ARC: 0.4})
    (tmp_path / "again.yaml").write_text(space_to_yaml(found.space))
    assert load_space(str(tmp_path / "again.yaml")).study.enqueue == found.options.enqueue
    with pytest.raises(ConfigError, match=r"^enqueue: study.enqueue.1.lr: 3 is not searched"):
        Study("demo", space("{lr: 0.001}"), enqueue=[{"lr": 3}]).request()
    with pytest.raises(ConfigError, match="Give a mapping from searched keys to values"):
        Study("demo", space(), enqueue=[{"lr": object()}]).request()
    with pytest.raises(StudyError, match=r"enqueue: .* is not a list of mappings. Give \[{"):
        Study("demo", space(), enqueue={"lr": 0.001}).request()
    again = Study("demo", space("{lr: 0.001}"), enqueue=[{}, {"lr": 0.002}]).request().problem
    assert again.enqueued == ({LR: 0.001}, {LR: 0.002})  # {}: the best of another study was its base config
    with pytest.raises(StudyError, match="enqueue: a study that is resumed has begun already"):
        Study("demo", space(), enqueue=[{"lr": 0.001}], resume=True).request()
