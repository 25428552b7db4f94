"""What cannot be built, trained or exported is named before anything starts: with a project of odd parts."""

import pytest
import yaml

from otter_ray.errors import ConfigError
from otter_ray.space import SearchProblem, load_space
from otter_ray.tune.constraints import ModelStatsCache
from otter_ray.tune.preflight.models import preflight

ODD = '''
"""Parts of the documents' project, and some that break at one stage each."""
import os
import signal

import torch
from torch import nn
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier.modeling.heads import FeatureLearningGAPHead


class FourierHead(FeatureLearningGAPHead):
    def forward(self, features):
        return super().forward([torch.fft.fft2(features[-1]).real])


class BakedHead(FeatureLearningGAPHead):
    def forward(self, features):
        embedding = super().forward(features)
        return embedding + torch.ones(int(embedding.detach().numpy().shape[0]), 1)


class DeafLoss(CosFace):
    def forward(self, embeddings, labels):
        return super().forward(embeddings.detach(), labels).detach()


class TopLoss(CosFace):
    """Wants more classes than a handful."""

    def forward(self, embeddings, labels):
        return super().forward(embeddings, labels) + self.weight.norm(dim=1).topk(100).values.sum()


class HalfLoss(CosFace):
    def forward(self, embeddings, labels):
        raise NotImplementedError


class AbortingLoss(CosFace):
    """What glibc does when an operator has overwritten its lists."""

    def forward(self, embeddings, labels):
        os.abort()


class LateLoss(CosFace):
    """Its backward pass is the one that crashes."""

    def forward(self, embeddings, labels):
        embeddings.register_hook(lambda gradient: os.kill(os.getpid(), signal.SIGSEGV))
        return super().forward(embeddings, labels)


class AbortingHead(FeatureLearningGAPHead):
    def __init__(self, in_dim, embed_dim, feature_map_size):
        super().__init__(in_dim, embed_dim)
        if torch.empty(0).device.type != "meta":
            os.abort()


class ForeignLoss(CosFace):
    """Runs where the trials do, not here."""

    def forward(self, embeddings, labels):
        raise RuntimeError("Expected all on CUDA")
'''
GOOD_HEAD, GOOD_LOSS = "FeatureLearningGAPHead", "CosFace"
HEAD, LOSS = "model.head.name", "model.loss.name"


@pytest.fixture
def fly(tiny_config, tmp_path, monkeypatch, printed):
    """Flies over a space of these heads and losses; gives what was printed."""
    (tmp_path / "odd_project.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tiny_config.with_values({"project": "odd_project", HEAD: GOOD_HEAD})

    def run(base=None, file=None, **choices):
        named = {"head": HEAD, "loss": LOSS}
        parameters = {named[key]: {"type": "categorical", "choices": value} for key, value in choices.items()}
        (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"parameters": parameters}))
        space, book = load_space(str(tmp_path / "odd.yaml")), ModelStatsCache([], file)
        preflight(SearchProblem(config.with_values(base or {}), space), book)
        return printed()

    return run


def problems(fly, **arguments):
    with pytest.raises(ConfigError) as caught:
        fly(**arguments)
    return caught.value.problems


def test_each_choice_that_fails_is_named_at_its_line_all_at_once(fly, capfd):
    heads, losses = [GOOD_HEAD, "FourierHead", "BakedHead"], [GOOD_LOSS, "DeafLoss"]
    found = {HEAD: [], LOSS: []}
    for problem in problems(fly, head=heads, loss=losses):
        assert problem.file.endswith("odd.yaml")
        assert problem.line == {HEAD: 2, LOSS: 8}[problem.key]
        found[problem.key].append(problem.message)
    # Torch would print hundreds of lines of a graph that it cannot export.
    assert "graph" not in capfd.readouterr().out
    fourier, baked = sorted(found[HEAD], reverse=True)
    [deaf] = found[LOSS]
    assert fourier.startswith("FourierHead cannot be exported: the model cannot be traced to ONNX: ")
    assert baked.startswith("BakedHead cannot be exported: its ONNX file ")
    assert deaf.startswith(
        "DeafLoss cannot take a training step: RuntimeError: element 0 of tensors does not"
    )
    assert all(
        message.endswith("Remove it from the search, or fix it.") for message in (fourier, baked, deaf)
    )


def test_a_base_config_that_fails_is_named_once(fly):
    [problem] = problems(fly, base={HEAD: "FourierHead"}, loss=[GOOD_LOSS, "ArcFace"])
    assert (problem.key, problem.message.startswith("the base config's model cannot be exported: ")) == (
        "model",
        True,
    )


def test_an_error_without_a_message_is_named_by_its_method(fly):
    [problem] = problems(fly, loss=[GOOD_LOSS, "HalfLoss"])
    words = "HalfLoss cannot take a training step: NotImplementedError in HalfLoss.forward. Remove it"
    assert problem.message.startswith(words)


def test_a_native_crash_is_one_more_message(fly):
    heads, losses = [GOOD_HEAD, "AbortingHead"], [GOOD_LOSS, "AbortingLoss", "LateLoss"]
    told = sorted(problem.message for problem in problems(fly, head=heads, loss=losses))
    ending = "Remove it from the search, or fix it."
    assert told == [
        f"AbortingHead crashes the process while it is built (SIGABRT). {ending}",
        f"AbortingLoss crashes the process in its first forward pass (SIGABRT). {ending}",
        f"LateLoss crashes the process in its first backward pass (SIGSEGV). {ending}",
    ]


def test_what_is_nobodys_mistake_is_no_problem(fly):
    told = fly(loss=[GOOD_LOSS, "TopLoss", "ForeignLoss"])
    note, told = told.splitlines()
    assert (
        note
        == "warning: pre-flight could not try everything on this machine: RuntimeError: Expected all on CUDA"
    )
    assert told.startswith("pre-flight: 3 models, all exportable (")


def test_what_was_tried_is_not_tried_again(fly, tmp_path):
    file = tmp_path / "figures.json"
    assert "3 models" in fly(file=file, head=[GOOD_HEAD, "FeatureLearningHead", "FeatureLearningLNHead"])
    assert fly(file=file, head=[GOOD_HEAD, "FeatureLearningLNHead"]) == ""
    assert "1 model," in fly(file=file, head=[GOOD_HEAD, "FeatureLearningSqueezeHead"])
