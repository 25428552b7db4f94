"""What is searched without effect is warned of, with the reason."""

import pytest

from otter_ray.space import SearchProblem, idle_parameters, load_space
from otter_ray.tune.preflight.idle_options import idle_options

PROJECT = """
from functools import partial

from torch import nn

from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import FeatureLearningGAPHead


class Head(FeatureLearningGAPHead):
    "It uses one option in a function of its own, and overrides another."

    def __init__(self, in_dim, embed_dim, width=1, slope=0.1):
        super().__init__(in_dim=in_dim, embed_dim=embed_dim)
        self.act = partial(nn.functional.leaky_relu, negative_slope=slope)
        self.width = 4
"""


@pytest.fixture
def problem(tiny_config, tmp_path):
    """The tiny config with these values and these parameters, one a line."""

    def make(*parameters, values=None):
        lines = [f"  {key}: {entry}\n" for key, entry in parameters]
        (tmp_path / "space.yaml").write_text(f"parameters:\n{''.join(lines)}")
        return SearchProblem(tiny_config.with_values(values or {}), load_space(str(tmp_path / "space.yaml")))

    return make


def test_nothing_is_said_of_the_shipped_space(tiny_config):
    shipped = SearchProblem(tiny_config, load_space("demo"))
    assert [*idle_parameters(shipped), *idle_options(shipped)] == []


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (
            "{type: float, low: 0.1, high: 0.3, when: {model.loss.name: ArcFace}}",
            "is never searched: `when` asks for model.loss.name ArcFace, and the config has CosFace. Correct",
        ),
        (
            "{type: float, low: 0.1, high: 0.2, step: 0.3}",
            "is always 0.1: step 0.3 is larger than its range, up to 0.2. Lower the step, or",
        ),
    ],
)
def test_parameters_that_cannot_vary(problem, parameter, says):
    (found,) = idle_parameters(problem(("model.loss.options.m", parameter)))
    assert (found.key, found.line) == ("model.loss.options.m", 2)
    assert says in found.message


def test_conditions_that_exclude_each_other(problem):
    name, scale, margin = (f"model.loss.{key}" for key in ("name", "options.s", "options.m"))
    searched = problem(
        (name, "{type: categorical, choices: [CosFace, ArcFace]}"),
        (scale, f"{{type: categorical, choices: [12, 16], when: {{{name}: ArcFace}}}}"),
        (margin, f"{{type: float, low: 0, high: 0.4, when: {{{name}: CosFace, {scale}: 12}}}}"),
    )
    (found,) = idle_parameters(searched)
    assert found.message.startswith("is never searched: its conditions never hold together")


def test_an_option_that_the_model_overrides(problem, tmp_path, monkeypatch):
    (tmp_path / "idle_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    head = {"name": "Head", "options": {"embed_dim": 128, "in_dim": -1}}
    searched = problem(
        ("model.head.options.width", "{type: int, low: 1, high: 8}"),
        ("model.head.options.slope", "{type: float, low: 0.1, high: 0.3}"),
        ("model.loss.options.s", "{type: float, low: 8, high: 16}"),
        ("model.backbone.options.drop_path_rate", "{type: float, low: 0, high: 0.2}"),
        ("optimizer.options.lr", "{type: float, low: 0.001, high: 0.01}"),
        values={"project": "idle_project", "model.head": head},
    )
    (found,) = idle_options(searched)
    assert (found.key, found.line) == ("model.head.options.width", 2)
    assert "seems to change nothing: the model is the same with 1 and with 8" in found.message
