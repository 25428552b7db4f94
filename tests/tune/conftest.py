import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from otter_ray.config import StudyOptions, load_config, load_space

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def demo():
    """The demo with a cut after epochs 1 and 3, whatever the shipped space says."""
    cuts = StudyOptions(scheduler={"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 3}})
    return load_config("demo"), dataclasses.replace(load_space("demo"), study=cuts)


@pytest.fixture
def study():
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))


# In the environment of every command. RAY_AUTH_TOKEN is not among them: it would change who gets in.
SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted/aws+secret", "HF_TOKEN": "planted_hf_token"}


class Command:
    """`python -m otter_ray.tune ...` as a user would start it, in a process group of its own."""

    def __init__(self, arguments, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otter_ray.tune", *map(str, arguments)],
            cwd=folder, env={**os.environ, "COLUMNS": "200", **SECRETS}, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        # Two slots on every machine: a study of six trials is not over before it is interrupted.
        os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:2])
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
def tune(session_cache):
    """Starts commands, and leaves none of them behind."""
    started = []

    def start(*arguments, folder):
        command = Command(arguments, folder)
        started.append(command)
        return command

    yield start
    for command in started:
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def secrets():
    """What must be found nowhere: planted values, and the token of the Ray that a study starts."""
    token = Path.home() / ".ray" / "auth_token"
    return [*SECRETS.values(), *([token.read_text().strip()] if token.exists() else [])]


@pytest.fixture(scope="session")
def searched(tune, tiny_sets, tmp_path_factory):
    """A finished tiny study: (its folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("searched")
    arguments = [*tiny_sets, "--trials", 4, "--name", "tiny"]
    code, output = tune("demo", *arguments, folder=folder).end()
    assert code == 0, output
    return folder / "runs/demo/tiny", output


A_RAY = """
import ray, sys
context = ray.init(
    address="local", num_cpus=2, object_store_memory=10**8, include_dashboard=True, dashboard_port=0
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def ray_with():
    """Starts a Ray in an authentication mode; gives its address."""
    started = []

    def start(mode, token=""):
        environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", A_RAY], env=environment, **pipes))
        return started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.communicate("\n", timeout=60)
