"""What the tests share: one image cache, one tiny config, one tiny trained run."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import optuna
import pytest
from rich.console import Console

from otter_ray.config import Config, load_config
from otter_ray.console import log_to_console
from otter_ray.space import Space, StudyOptions, load_space
from otter_ray.tune.cluster.session import DASHBOARD
from otter_ray.tune.worker.forks import SWITCH
from tests.support.commands import Command
from tests.support.tiny import MOMENTUM, SMALL

pytest_plugins = [
    "tests.support.config_fixtures",
    "tests.support.image_fixtures",
    "tests.support.rays",
    "tests.support.storage_fixtures",
    "tests.support.study_fixtures",
]
TINY = {
    **SMALL,
    **MOMENTUM,
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


# Tests that share what takes long to start. Each group runs in one process, and the groups come first.
GROUPS = {
    # One Ray, and one finished study.
    "the open Ray": (
        "tests/integration/tune/test_auth.py",
        "tests/integration/tune/test_dashboards.py",
        "tests/integration/tune/test_existing_ray.py",
        "tests/integration/tune/test_extend.py",
        "tests/integration/tune/test_finalists.py",
        "tests/integration/tune/test_native_crash.py",
        "tests/integration/tune/test_objectives.py",
        "tests/integration/tune/test_pbt.py",
        "tests/integration/tune/test_refused.py",
        "tests/integration/tune/test_study.py",
        "tests/integration/tune/test_worker_group.py",
    ),
    # A machine that is full, and an undisturbed study to compare with.
    "kills": ("tests/system/chaos/test_full_disk.py", "tests/system/chaos/test_kills.py"),
    # One process at a time has clusters whose nodes come and go, and looks at Rays from outside.
    "clusters": (
        "tests/integration/doctor/",
        "tests/integration/tune/test_job_submission.py",
        "tests/integration/tune/test_joining_nodes.py",
        "tests/integration/tune/test_lost_nodes.py",
        "tests/integration/tune/test_node_checks.py",
        "tests/integration/tune/test_program.py",
        "tests/integration/tune/test_search.py",
        "tests/integration/tune/test_stop_criteria.py",
        "tests/system/chaos/",
        "tests/system/cluster/",
    ),
}
# The other long files. They come before the short ones, so that no process waits for one at the end.
LONG = (
    "tests/integration/test_seed.py",
    "tests/compat/test_study_v0_1.py",
    "tests/integration/tune/test_fork_server.py",
    "tests/integration/test_wheel.py",
    "tests/integration/export/test_kills.py",
    "tests/integration/init/test_init.py",
    "tests/integration/tune/test_lightning_study.py",
    "tests/integration/tune/test_odd_machine.py",
    "tests/integration/tune/test_study_of_objects.py",
    "tests/integration/docclassifier/test_timm_backbones.py",
    "tests/integration/docaligner/test_bad_input.py",
    "tests/integration/train/test_trainer.py",
    "tests/integration/export/test_export.py",
    "tests/integration/train/test_distributed.py",
    "tests/unit/tune/test_bad_input.py",
    "tests/unit/tune/samplers/test_optuna_suite.py",
    "tests/test_layout.py",
    "tests/unit/docclassifier/test_clip_teacher.py",
    "tests/unit/docclassifier/test_training_set.py",
    "tests/unit/docclassifier/test_device_augment.py",
    "tests/unit/tune/selection/test_winner.py",
    "tests/unit/doctor/test_doctor.py",
    "tests/unit/tune/samplers/test_samplers.py",
    "tests/unit/config/test_properties.py",
)
STUDIES: list[Command] = []  # that the running test has started


@dataclass(frozen=True)
class Run:
    """A trained run: its folder, its best checkpoint and what it reported."""

    folder: Path
    best: Path
    reports: list


# `make test` goes through many more examples of each property than `make test-fast`.
hypothesis.settings.register_profile("thorough", max_examples=300)


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in the background with Ctrl-C ignored, and tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Every tiny run earns this warning; the metric's own tests ask for it.
    config.addinivalue_line("filterwarnings", "ignore:with only .* valid_fpr@4:UserWarning")


def scope_of(nodeid: str) -> str:
    """Return which tests run in one process: those of a file, or of a group of files."""
    file = nodeid.partition("::")[0]
    return next((group for group, where in GROUPS.items() if file.startswith(where)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say what `pytest -n 3` runs in one process.

    The tests of a file share its fixtures. Each process begins with one of the three groups and then takes
    file by file.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # pytest_collection_modifyitems says the order
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups first, then the longest files: the others fill what remains."""
    places = {scope: place for place, scope in enumerate([*GROUPS, *LONG])}
    items.sort(key=lambda item: places.get(scope_of(item.nodeid), len(places)))


@pytest.fixture(scope="session", autouse=True)
def one_thread_each() -> Iterator[None]:
    """Beside another process, torch's second thread would mostly wait for a core, and spin meanwhile.

    So would that of a command: a tiny study took 36 s of CPU time on busy cores, 25 s on free ones.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An image cache of this session's own: no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("image_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTTER_RAY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def rays_have_no_dashboard() -> Iterator[None]:
    """It takes a study's Ray 4 s of CPU time. Tests that look at one start it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DASHBOARD, "0")
        yield


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
    from otter_ray.train.run_options import RunOptions
    from otter_ray.train.trainer import run_training

    folder, reports = tmp_path_factory.mktemp("tiny_run"), []
    best = run_training(tiny_config, folder, reports.append, RunOptions(cpus=1))
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
def tune(session_cache: Path, fork_server: str) -> Callable[..., Command]:
    """Starts studies; `no_study_is_left` ends those that a test has not.

    Their processes are children of the tests' fork server, or of one of their own.
    """

    def start(*arguments: object, folder: Path, kind: type = Command, own_server: bool = False) -> Command:
        forks = {} if own_server else {SWITCH: fork_server}
        study = kind(arguments, folder, {**forks, **os.environ})
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


@pytest.fixture
def printed() -> Iterator[Callable[[], str]]:
    """Prints what is logged, as a command does; gives what was printed since it was last asked."""
    output = io.StringIO()

    def read() -> str:
        text = output.getvalue()
        output.seek(0)
        output.truncate()
        return text

    with log_to_console(Console(file=output, highlight=False, markup=False, soft_wrap=True)):
        yield read


LINUX = hasattr(os, "sched_setaffinity")
