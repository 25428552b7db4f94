"""That the project fits together: its config, its space, a tiny run, and the ONNX file of it."""

from collections.abc import Callable

import numpy as np
import torch
from otter_ray.config import Config
from otter_ray.export import Exported
from otter_ray.space import SearchProblem, check_space
from otter_ray.train import check_config

from my_project.data import Numbers, decode, draw, encode


def test_every_class_takes_its_options(config: Config, problem: SearchProblem) -> None:
    check_config(config, problem.options.metric)


def test_the_space_fits_the_config(problem: SearchProblem) -> None:
    assert check_space(problem) == []


def test_images_are_what_the_model_expects() -> None:
    numbers = Numbers((32, 96), count=8, seed=3)
    images, texts = zip(*numbers, strict=True)
    assert all(image.shape == (3, 32, 96) and 0 <= image.min() < image.max() <= 1 for image in images)
    assert all(decode(keys).isdigit() for keys in texts)
    assert decode(encode("0420")) == "0420"
    assert torch.equal(images[3], numbers[3][0])  # drawn again it is the same


def test_a_tiny_run_learns(exported: Exported) -> None:
    assert exported.gate.metrics["valid_characters"] > 0.6  # one that always answers "" has 0.4


def test_the_example_of_the_models_card_runs_as_printed(run_example: Callable[[np.ndarray], str]) -> None:
    text = run_example(draw("42", (48, 144), np.random.default_rng(0), noise=0.0)).strip()
    assert text.isdigit() or not text
