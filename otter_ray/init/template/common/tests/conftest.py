"""A config for a run of seconds, and what that run exports."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from otter_ray import load_config
from otter_ray.config import Config
from otter_ray.export import Exported, export_checkpoint
from otter_ray.space import SearchProblem, load_space
from otter_ray.train import RunHooks, RunOptions, run_training


@pytest.fixture(scope="session")
def problem() -> SearchProblem:
    """Return the project's config and search space."""
    return SearchProblem(load_config("my_project"), load_space("my_project"))


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def exported(problem: SearchProblem, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Train and export: the gate checks that onnxruntime and PyTorch agree, and their metrics as well."""
    folder = tmp_path_factory.mktemp("run")
    options = problem.options
    run = RunOptions(metric=options.metric, direction=options.direction)
    best = run_training(config, folder, print, run, RunHooks())
    return export_checkpoint(best, folder, project=config.project)


@pytest.fixture
def run_example(exported: Exported, tmp_path: Path) -> Callable[[np.ndarray], str]:
    """Run the example of the model's card, as printed there, on an RGB image, and return what it prints."""

    def run(image: np.ndarray) -> str:
        folder = exported.onnx.parent
        example = re.findall(r"```python\n(.*?)```", (folder / "MODEL.md").read_text(), re.DOTALL)[0]
        assert len(example.splitlines()) <= 10
        cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
        line = [sys.executable, "-c", example, str(tmp_path / "image.png")]
        return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stdout

    return run
