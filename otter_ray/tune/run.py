"""A study, from the plan to the proven ONNX file."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna

from otter_ray.config import Config, Space, StudyOptions, to_yaml
from otter_ray.errors import ExportError, StudyError
from otter_ray.export.run import Exported, export_checkpoint
from otter_ray.report.rows import TrialRow, rank, read_rows, write_parquet
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.plan import Node, Plan

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
    "NO_ALBUMENTATIONS_UPDATE": "1",
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


def build_sampler(options: StudyOptions, seed: int) -> optuna.samplers.BaseSampler:
    """The study's Optuna sampler, seeded by the config's seed unless its options name one."""
    cls = getattr(optuna.samplers, options.sampler.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: optuna.samplers.BaseSampler = cls(**{"seed": seed, **options.sampler.options})
    except (TypeError, ValueError) as exc:
        raise StudyError(f"study.sampler.options: {options.sampler.name} refuses them: {exc}") from exc
    return sampler


@contextmanager
def ray_session(address: str | None) -> Iterator[str | None]:
    """Connects to a Ray, or starts one of this machine's own; gives the dashboard's address, if any.

    Raises:
        StudyError: there is no Ray at the address.
    """
    for key, value in {**TUNE_ENVIRONMENT, **SLOT_ENVIRONMENT}.items():
        os.environ.setdefault(key, value)
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        # "local": without an address ray.init would join any Ray that runs on this machine. The processes
        # of a Ray of our own inherit the environment; a runtime_env would only slow their start.
        options |= {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
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


def refuse_silence(address: str) -> None:
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

    def refuse_changes(self) -> None:
        """Keeps the study's own config.yaml. Raises StudyError where it is another than today's config."""
        path, text = self.folder.path / "config.yaml", to_yaml(self.config)
        if not path.exists():
            path.write_text(text)
        elif path.read_text() != text:
            raise StudyError(
                f"the config is not the one that study {self.folder.name} began with ({path}). "
                "Undo the change, or start a new study with another --name."
            )


def run_trials(search: Search, plan: Plan, callbacks: list[Any]) -> bool:
    """Runs the trials; gives whether all of them were run (False: interrupted)."""
    from ray import tune

    from otter_ray.tune.scheduler import build_scheduler
    from otter_ray.tune.searcher import OptunaBridge, take_up
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
            run_config=tune.RunConfig(name=folder.name, storage_path=scratch, verbose=0, callbacks=callbacks),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return take_up(search.study) >= space.study.num_trials


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
        except ExportError as exc:
            rejected.append(f"trial {row.number} ({row.value:.4f}) failed the gate: {exc}")
            continue
        shutil.copyfile(trial / "checkpoints" / "best.ckpt", folder.path / "best.ckpt")
        (folder.path / "best.yaml").write_text(to_yaml(search.config.with_values(row.values)))
        return Outcome(rows, row, exported, rejected)
    return Outcome(rows, None, None, rejected)
