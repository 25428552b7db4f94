"""That the project fits together: its config, its space, a tiny run, and the ONNX file of it."""

from collections.abc import Callable

import numpy as np
import torch
from otter_ray.config import Config
from otter_ray.export import Exported
from otter_ray.space import SearchProblem, check_space
from otter_ray.train import check_config

from my_project.data import NAMES, Shapes, draw


def test_every_class_takes_its_options(config: Config, problem: SearchProblem) -> None:
    check_config(config, problem.options.metric)


def test_the_space_fits_the_config(problem: SearchProblem) -> None:
    assert check_space(problem) == []


def test_images_are_what_the_model_expects() -> None:
    shapes = Shapes((32, 32), count=8, seed=3)
    images, labels = zip(*shapes, strict=True)
    assert sorted(labels) == sorted([*range(len(NAMES))] * 2)
    assert all(image.shape == (3, 32, 32) and 0 <= image.min() < image.max() <= 1 for image in images)
    assert torch.equal(images[3], shapes[3][0])  # drawn again it is the same


def test_a_tiny_run_learns(exported: Exported) -> None:
    assert exported.gate.metrics["valid_accuracy"] > 0.4  # chance is 0.25


def test_the_example_of_the_models_card_runs_as_printed(run_example: Callable[[np.ndarray], str]) -> None:
    name, probability = run_example(draw("star", (80, 60), np.random.default_rng(0), noise=0.0)).split()
    assert name in NAMES
    assert 1 / len(NAMES) <= float(probability) <= 1
