"""That the project fits together: its config, its space, a tiny run, and the ONNX file of it."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from otter_ray import load_config
from otter_ray.config import Config
from otter_ray.export import Exported, export_checkpoint
from otter_ray.space import SearchProblem, check_space, load_space
from otter_ray.train import RunHooks, RunOptions, check_config, run_training

from my_project.data import NAMES, Shapes, draw

METRIC = "valid_accuracy"


@pytest.fixture(scope="module")
def config() -> Config:
    """Load the project's config, for a run of seconds."""
    return load_config(
        "my_project",
        [
            "trainer.max_epochs=2",
            "trainer.accelerator=cpu",
            "optimizer.options.lr=0.01",
            "dataset.valid_options.options.count=200",
        ],
    )


@pytest.fixture(scope="module")
def exported(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Train and export: the gate checks that onnxruntime and PyTorch agree, and their metrics as well."""
    folder = tmp_path_factory.mktemp("run")
    best = run_training(config, folder, print, RunOptions(metric=METRIC), RunHooks())
    return export_checkpoint(best, folder, project=config.project)


def test_every_class_takes_its_options(config: Config) -> None:
    check_config(config, METRIC)


def test_the_space_fits_the_config() -> None:
    problem = SearchProblem(load_config("my_project"), load_space("my_project"))
    assert check_space(problem) == []
    assert problem.options.metric == METRIC


def test_images_are_what_the_model_expects() -> None:
    shapes = Shapes((32, 32), count=8, seed=3)
    images, labels = zip(*shapes, strict=True)
    assert sorted(labels) == sorted([*range(len(NAMES))] * 2)
    assert all(image.shape == (3, 32, 32) and 0 <= image.min() < image.max() <= 1 for image in images)
    assert torch.equal(images[3], shapes[3][0])  # drawn again it is the same


def test_a_tiny_run_learns(exported: Exported) -> None:
    assert exported.gate.metrics[METRIC] > 0.4  # chance is 0.25


def test_the_example_of_the_models_card_runs_as_printed(exported: Exported, tmp_path: Path) -> None:
    folder = exported.onnx.parent
    (example,) = re.findall(r"```python\n(.*?)```", (folder / "MODEL.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 10
    image = draw("star", (80, 60), np.random.default_rng(0), noise=0.0)
    cv2.imwrite(str(tmp_path / "star.png"), image[..., ::-1])
    line = [sys.executable, "-c", example, str(tmp_path / "star.png")]
    name, probability = subprocess.run(
        line, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.split()
    assert name in NAMES
    assert 1 / len(NAMES) <= float(probability) <= 1
