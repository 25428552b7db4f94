import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from otter_ray.config import load_config, load_space

REPOSITORY = Path(__file__).parents[2]

# The demo, shrunk until an epoch takes a second: what is tested is the search, not what it finds.
TINY = {
    "common.image_size": [32, 32],
    "global_settings.image_size": [32, 32],
    "onnx.input_shape.img.shape": [1, 3, 32, 32],
    "common.batch_size": 16,
    "trainer.max_epochs": 2,
    "model.head.options.feature_map_size": -1,
    "dataset.train_options.options.drawn": 40,
    "dataset.train_options.options.length_of_dataset": 96,
    "dataset.valid_options.options.drawn": 40,
    "dataset.valid_options.options.held_out": 4,
    "dataset.valid_options.options.captures": 6,
}


def tiny_sets(**more):
    """`--set` arguments that shrink the demo."""
    values = {**TINY, **more}
    return [
        part
        for key, value in values.items()
        for part in ("--set", f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}")
    ]


@pytest.fixture
def demo():
    return load_config("demo"), load_space("demo")


@pytest.fixture
def study():
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory):
    """Environment of the commands: a cache of their own, shared by the session."""
    return {**os.environ, "OTTER_RAY_CACHE": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"}


class Command:
    """`python -m otter_ray.tune ...` as a user would start it, in a process group of its own."""

    def __init__(self, arguments, folder, surroundings):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otter_ray.tune", *map(str, arguments)],
            cwd=folder, env=surroundings, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.output = ""

    def read_until(self, text):
        """Reads lines up to the first that holds `text`."""
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"{text!r} was never printed:\n{self.output}")

    def interrupt(self):
        """Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self):
        """(exit code, everything that was printed)."""
        rest, _ = self.process.communicate(timeout=300)
        self.output += rest
        return self.process.returncode, self.output


@pytest.fixture(scope="session")
def tune(surroundings):
    """Starts commands, and leaves none of them behind."""
    started = []

    def start(*arguments, folder):
        command = Command(arguments, folder, surroundings)
        started.append(command)
        return command

    yield start
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def searched(tune, tmp_path_factory):
    """A finished tiny study: (its folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("searched")
    arguments = [*tiny_sets(), "--trials", 4, "--name", "tiny"]
    code, output = tune("demo", *arguments, folder=folder).end()
    assert code == 0, output
    return folder / "runs/demo/tiny", output
