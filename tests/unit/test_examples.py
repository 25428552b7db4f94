"""The example of a loss without a fork, and the page that shows it."""

import ast
import math
import re
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from otter_ray import Study
from otter_ray.train import check_config, find_class
from otter_ray.train.builders import build_model

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/new_loss"


def test_a_loss_needs_no_fork(monkeypatch):
    monkeypatch.chdir(EXAMPLE)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    problem = Study("demo", "margins", set={"project": "my_documents"}).request().problem
    check_config(problem.config.with_values({"model.loss.name": "MixedMargin"}))
    loss = find_class("MixedMargin", "loss", "my_documents")(num_classes=5, embed_dim=8, m=0.2)
    cosines = torch.tensor([math.cos(0.3), 1.0], requires_grad=True)
    target = loss.margin(cosines)
    assert math.isclose(target[0].item(), math.cos(0.4) - 0.1, abs_tol=1e-6)
    target.sum().backward()
    assert cosines.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_a_step_of_training_with_the_loss(monkeypatch, tiny_config):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    loss = {"project": "my_documents", "model.loss.name": "MixedMargin", "model.loss.num_classes": 4}
    model = build_model(tiny_config.with_values(loss))
    assert type(model.loss).__name__ == "MixedMargin"
    monkeypatch.setattr(model, "get_lr", lambda: 0.0)  # there is no trainer to ask
    batch = [torch.rand(8, 3, 32, 32), torch.arange(4).repeat(2)]
    centres = model.loss.weight.detach().clone()
    loss = model.training_step(batch, 0)
    loss.backward()
    assert loss.isfinite()
    assert all(each.grad.isfinite().all() for each in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert (model.loss.weight != centres).any(dim=1).all()


def test_the_page_shows_the_class_of_the_example():
    def code(text):
        return next(ast.unparse(node) for node in ast.parse(text).body if isinstance(node, ast.ClassDef))

    page = (ROOT / "docs/how-to/add-a-loss.md").read_text()
    shown = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "MixedMargin" in block
    )
    example = (EXAMPLE / "my_documents/__init__.py").read_text()
    assert code(textwrap.dedent(shown)) == code(example)


def test_the_page_shows_the_space_of_the_example():
    page = (ROOT / "docs/how-to/add-a-loss.md").read_text()
    shown = next(
        block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "MixedMargin" in block
    )
    example = (EXAMPLE / "search_spaces/margins.yaml").read_text()
    assert yaml.safe_load(textwrap.dedent(shown)) == yaml.safe_load(example)
