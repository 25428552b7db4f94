"""That the project fits together: its config, its space, a tiny run, and the ONNX file of it."""

from collections.abc import Callable

import numpy as np
import torch
from otter_ray.config import Config
from otter_ray.export import Exported
from otter_ray.space import SearchProblem, check_space
from otter_ray.train import check_config

from my_project.data import Sheets, draw


def test_every_class_takes_its_options(config: Config, problem: SearchProblem) -> None:
    check_config(config, problem.options.metric)


def test_the_space_fits_the_config(problem: SearchProblem) -> None:
    assert check_space(problem) == []


def test_images_are_what_the_model_expects() -> None:
    sheets = Sheets((64, 64), count=8, seed=3)
    images, corners = zip(*sheets, strict=True)
    assert all(image.shape == (3, 64, 64) and 0 <= image.min() < image.max() <= 1 for image in images)
    assert all(each.shape == (4, 2) and each.min() > 0 and each.max() < 1 for each in corners)
    assert torch.equal(images[3], sheets[3][0])  # drawn again it is the same


def test_a_tiny_run_learns(exported: Exported) -> None:
    assert exported.gate.metrics["valid_error"] < 8  # one that always answers the middle has 17


def test_the_example_of_the_models_card_runs_as_printed(run_example: Callable[[np.ndarray], str]) -> None:
    image, _ = draw((80, 60), np.random.default_rng(0), noise=0.0)
    numbers = [float(each) for each in run_example(image).replace("[", "").replace("]", "").split()]
    assert len(numbers) == 8
    assert all(0 <= number <= 80 for number in numbers)
