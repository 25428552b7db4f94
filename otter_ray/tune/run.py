"""A study, from the plan to the proven ONNX file."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from rich.console import Console

from otter_ray.config import Config, Space, to_yaml
from otter_ray.errors import OtterError, StudyError
from otter_ray.export.run import Exported, export_checkpoint
from otter_ray.report.rows import TrialRow, rank, read_rows, write_parquet
from otter_ray.train.builders import available_cpus
from otter_ray.tune.folder import StudyFolder, keep_or_compare, open_study, write_environment
from otter_ray.tune.plan import Node, Plan
from otter_ray.tune.prepare import prepare_data
from otter_ray.tune.requeue import requeue_interrupted

# Tune writes logs and pickles of its own, which nobody reads: the journal is the truth. Its strict check
# of metrics would end a study over one trial that failed before its first epoch. A trial that is stopped
# gets the time to close its loaders before its slot is given up.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
SLOT_ENVIRONMENT = {
    # A slot without a share of a GPU is to see none: Ray leaves them all visible otherwise.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
}
CACHE = "OTTER_RAY_CACHE"


@dataclass(frozen=True)
class Outcome:
    """What a study leaves behind.

    Attributes:
        rows: its trials.
        winner: the best trial whose ONNX file passed the gate; None where none did.
        exported: that file.
        rejected: candidates that failed the gate, with the reason.
    """

    rows: list[TrialRow]
    winner: TrialRow | None
    exported: Exported | None
    rejected: list[str]


@contextmanager
def ray_session(address: str | None) -> Iterator[str | None]:
    """Connects to a Ray, or starts one of this machine's own; gives the dashboard's address, if any.

    Raises:
        StudyError: there is no Ray at the address.
    """
    for key, value in {**TUNE_ENVIRONMENT, **SLOT_ENVIRONMENT}.items():
        os.environ.setdefault(key, value)
    import ray

    if address is not None:
        _refuse_silence(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        # "local": without an address ray.init would join any Ray that runs on this machine. The processes
        # of a Ray of our own inherit the environment; a runtime_env would only slow their start.
        options |= {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
        options["num_cpus"] = available_cpus()
    else:
        slot = {key: os.environ[key] for key in (*SLOT_ENVIRONMENT, CACHE) if key in os.environ}
        options |= {"address": address, "runtime_env": {"env_vars": slot}}
    try:
        context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise StudyError(f"no Ray can be used at {address or 'this machine'}: {exc}") from exc
    try:
        yield context.dashboard_url or None
    finally:
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Knocks at `host:port` first: with nobody there, ray.init waits for minutes and ends the process."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as exc:
        raise StudyError(
            f"no Ray answers at {address}: {exc}. Give the address of a running one (`ray start --head` "
            "prints it), or leave --address out to start one on this machine."
        ) from exc


def cluster_nodes() -> list[Node]:
    """What each living node of the connected Ray offers."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(entry.get("CPU", 0.0), entry.get("GPU", 0.0)) for entry in resources]


@dataclass(frozen=True)
class Search:
    """A study that is ready to run: what is searched, and where it is written down."""

    config: Config
    space: Space
    folder: StudyFolder
    study: optuna.Study

    def trials_left(self) -> int:
        """Trials still to be run; those that were broken off are put into the queue again."""
        return self.space.study.num_trials - requeue_interrupted(self.study)

    def has_winner(self) -> bool:
        """Whether any trial has a value."""
        return bool(rank(read_rows(self.study), self.space.study.mode))


def prepare(config: Config, space: Space, folder: StudyFolder, console: Console) -> Search:
    """Everything that is done once before the trials start.

    Raises:
        DataError: the data of the config, or of a branch of the space, cannot be used.
        StudyError: the study began with another config or space.
    """
    keep_or_compare(folder, config, space)
    prepare_data(config, space, folder, console)
    study = open_study(folder, space.study, config.common.seed)
    write_environment(folder)
    return Search(config, space, folder, study)


@contextmanager
def removed_if_unused(folder: StudyFolder) -> Iterator[None]:
    """Takes a new study's folder away again where the preparation fails: the name stays free."""
    try:
        yield
    except BaseException:
        if not folder.journal.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def run_trials(search: Search, plan: Plan, console: Console) -> None:
    """Runs the trials that the plan counts; returns early on Ctrl-C."""
    from ray import tune

    from otter_ray.tune.progress import ProgressLines
    from otter_ray.tune.scheduler import build_scheduler
    from otter_ray.tune.searcher import OptunaBridge
    from otter_ray.tune.trial import TrialSetup, run_trial

    config, space, folder = search.config, search.space, search.folder
    setup = TrialSetup(
        config=config.to_dict(),
        config_name=config.name,
        trials=str(folder.path / "trials"),
        metric=space.study.metric,
        mode=space.study.mode,
        cpus=max(1, int(plan.cpus)),
        cwd=os.getcwd(),
    )
    bridge = OptunaBridge(search.study, space, config)
    lines = ProgressLines(console, space.study, config.trainer.max_epochs, plan.trials)
    resources = tune.PlacementGroupFactory([{"CPU": plan.cpus, "GPU": plan.gpus}])
    scratch = tempfile.mkdtemp(prefix="otter_ray_")
    try:
        tuner = tune.Tuner(
            tune.with_resources(partial(run_trial, setup), resources),
            tune_config=tune.TuneConfig(
                search_alg=bridge,
                scheduler=build_scheduler(space.study, bridge, config.trainer.max_epochs),
                num_samples=plan.trials,
                max_concurrent_trials=plan.slots,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(name=folder.name, storage_path=scratch, verbose=0, callbacks=[lines]),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def export_winner(search: Search) -> Outcome:
    """Exports the best trial that passes the gate, and writes `best.yaml`, `best.ckpt`."""
    folder = search.folder
    rows = read_rows(search.study)
    write_parquet(rows, folder.path / "trials.parquet")
    rejected: list[str] = []
    for row in rank(rows, search.space.study.mode):
        trial = folder.trial(row.number)
        try:
            exported = export_checkpoint(trial / "checkpoints" / "best.ckpt", folder.path)
        except OtterError as exc:
            rejected.append(f"trial {row.number} ({row.value:.4f}) failed the gate: {exc}")
            continue
        shutil.copyfile(trial / "checkpoints" / "best.ckpt", folder.path / "best.ckpt")
        (folder.path / "best.yaml").write_text(to_yaml(search.config.with_values(row.values)))
        return Outcome(rows, row, exported, rejected)
    return Outcome(rows, None, None, rejected)
