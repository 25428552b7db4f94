"""What the tests share: one image cache, one tiny config, one tiny trained run."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from commands import Command

from otter_ray.config import Config, Space, StudyOptions, load_config, load_space

SIZE = 32
# Little training at a high BatchNorm momentum: what the evaluation mode sees is not the initial state.
TINY = {
    "common.batch_size": 16,
    "common.image_size": [SIZE, SIZE],
    "global_settings.image_size": [SIZE, SIZE],
    "onnx.input_shape.img.shape": [1, 3, SIZE, SIZE],
    "model.backbone.options.name": "lcnet_035",
    "model.backbone.options.bn_momentum": 0.9,
    "model.head.options.in_dim": -1,
    "model.head.options.feature_map_size": -1,
    "trainer.max_epochs": 2,
    "dataset.train_options.options.drawn": 40,
    "dataset.train_options.options.length_of_dataset": 128,
    "dataset.train_options.options.aug_ratio": 0,
    "dataset.valid_options.options.drawn": 40,
    "dataset.valid_options.options.held_out": 4,
    "dataset.valid_options.options.captures": 6,
    "dataset.valid_options.options.strength": 0.1,
    "dataset.test_options.options.drawn": 40,
    "dataset.test_options.options.held_out": 5,
    "dataset.test_options.options.captures": 4,
}


STUDIES: list[Command] = []  # that the running test has started


@dataclass(frozen=True)
class Run:
    """A trained run: its folder, its best checkpoint and what it reported."""

    folder: Path
    best: Path
    reports: list


def pytest_configure(config: pytest.Config) -> None:
    # Every tiny run earns this warning; the metric's own tests ask for it.
    config.addinivalue_line("filterwarnings", "ignore:valid_fpr@4 rests on:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An image cache of this session's own: no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("image_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTTER_RAY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """The demo at 32 pixels: 8 steps an epoch, 24 validation images, 20 to test with."""
    return load_config("demo").with_values(TINY)


@pytest.fixture(scope="session")
def tiny_sets() -> list[str]:
    """`tiny_config` as the `--set`s of a command."""
    return [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def tiny_run(tiny_config: Config, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run of `tiny_config`. Read it, never write into its folder."""
    from otter_ray.train.run import run_training

    folder, reports = tmp_path_factory.mktemp("tiny_run"), []
    best = run_training(tiny_config, folder, reports.append, cpus=1)
    return Run(folder, best, reports)


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m MODULE ARGUMENTS` on one CPU and gives what it printed."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        # More threads than free cores are slower than one.
        pin = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if LINUX else None
        line = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, preexec_fn=pin, check=False)

    return run


@pytest.fixture(scope="session")
def tune(session_cache: Path) -> Callable[..., Command]:
    """Starts studies; `no_study_is_left` ends those that a test has not."""

    def start(*arguments: object, folder: Path, kind: type = Command) -> Command:
        study = kind(arguments, folder)
        STUDIES.append(study)
        return study

    return start


@pytest.fixture(autouse=True)
def no_study_is_left() -> Iterator[None]:
    """One of a test that failed would take the next one's cores."""
    yield
    for study in STUDIES:
        if study.process.poll() is None:
            os.killpg(study.process.pid, signal.SIGKILL)
            study.process.wait()
    STUDIES.clear()


@pytest.fixture
def demo() -> tuple[Config, Space]:
    """The demo with a cut after epochs 1 and 3, whatever the shipped space says."""
    cuts = StudyOptions(scheduler={"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 3}})
    return load_config("demo"), dataclasses.replace(load_space("demo"), study=cuts)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))


LINUX = hasattr(os, "sched_setaffinity")
