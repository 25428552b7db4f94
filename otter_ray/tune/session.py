"""The Ray that a study runs on: one of its own, or one that runs already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from otter_ray.config import StudyOptions
from otter_ray.errors import StudyError
from otter_ray.train.cpus import available_cpus
from otter_ray.tune.auth import MODE, agree_on_token
from otter_ray.tune.job import code_of

# Tune writes logs and pickles of its own, which nobody reads: the journal is the truth. Its strict check
# of metrics would end a study over one trial that failed before its first epoch. A trial that is stopped
# gets the time to close its loaders before its slot is given up. The bridge limits how many trials there
# are; all of them may wait for nodes at once, or an autoscaler would see a demand for one. The progress
# lines tell of a slot that died; its traceback would be Ray's.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
SLOT_ENVIRONMENT = {
    # A slot without a share of a GPU is to see none: Ray leaves them all visible otherwise.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # A trial with a worker group is one of the dashboard's Train runs.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # As Tune sets it: Lightning is not to fork.
    "PL_DISABLE_FORK": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
}
# What a trial imports. None of it asks the GPU's driver, which would settle what the process sees.
SLOT_IMPORTS = ("otter_ray.tune.trial", "otter_ray.train.run", "ray.tune", "ray.train.torch")
CACHE = "OTTER_RAY_CACHE"
NVIDIA = Path("/proc/driver/nvidia/gpus")
TOKEN = Path.home() / ".ray" / "auth_token"


@contextmanager
def ray_session(address: str | None, project: str | None = None, ahead: int = 0) -> Iterator[str | None]:
    """Connects to a Ray, or starts one of this machine's own; gives the dashboard's address, if any.

    The project's code travels to the nodes of a Ray that runs already.

    Args:
        ahead: processes of a Ray of our own that begin at once to import what a trial needs.

    Raises:
        StudyError: there is no Ray at the address, or it wants another token.
    """
    for key, value in {**TUNE_ENVIRONMENT, **SLOT_ENVIRONMENT}.items():
        os.environ.setdefault(key, value)
    import ray
    from ray.exceptions import RuntimeEnvSetupError

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        # "local": without an address ray.init would join any Ray that runs on this machine. The processes
        # of a Ray of our own inherit the environment; a runtime_env would only slow their start.
        options |= {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
        options["num_cpus"] = available_cpus()
        if ahead:
            options["_system_config"] = _importing(ahead, project)
    else:
        found = _found(address)
        agree_on_token(found)
        slot = {key: os.environ[key] for key in (*SLOT_ENVIRONMENT, CACHE) if key in os.environ}
        runtime_env: dict[str, Any] = {"env_vars": slot}
        if project is not None and (code := code_of(project)):
            runtime_env["py_modules"] = code
        options |= {"address": found, "runtime_env": runtime_env}
    try:
        context = ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, RuntimeEnvSetupError) as exc:
        raise StudyError(f"no Ray can be used at {address or 'this machine'}: {exc}") from exc
    try:
        yield _dashboard(context.dashboard_url)
    finally:
        ray.shutdown()


def imports_at_once(options: StudyOptions, accelerator: str) -> int:
    """Worker processes that this machine's first trials will want; guessed, before torch can be asked."""
    wanted = options.resources
    workers = available_cpus() / wanted.cpus_per_worker
    share = 1.0 if wanted.gpus_per_worker is None else wanted.gpus_per_worker
    if accelerator != "cpu" and share and (gpus := len(list(NVIDIA.glob("*")))):
        workers = min(workers, gpus / share)
    return min(options.num_trials, int(workers / wanted.workers_per_trial)) * wanted.workers_per_trial


def _importing(processes: int, project: str | None) -> dict[str, Any]:
    """Ray's settings for so many worker processes, each of which imports before it takes work.

    Ray would start one for each CPU. Those that a limit on starts keeps back are not started later.
    """
    modules = [*SLOT_IMPORTS, *filter(_is_there, [f"otter_ray.{project}"])]
    return {"preload_python_modules": modules, "worker_maximum_startup_concurrency": processes}


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False


def _dashboard(url: str | None) -> str | None:
    """The dashboard's address for a person to open, with what it will ask for."""
    if not url:
        return None
    asks = os.environ.get(MODE) == "token"
    return f"http://{url}" + (f" (it asks for the token in {TOKEN})" if asks else "")


def _found(address: str) -> str:
    """`host:port` of the Ray that `address` means.

    Raises:
        StudyError: it means none.
    """
    from ray._private.services import canonicalize_bootstrap_address

    if "://" in address:
        message = "Give host:port on the cluster itself; `ray job submit` takes a study there from elsewhere."
        raise StudyError(f"--address {address} is Ray's client, which a study cannot use. {message}")
    if address != "auto":
        return address
    try:
        found: str | None = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as exc:
        raise StudyError(f"--address auto: {exc}") from exc
    if found is None:
        raise StudyError("--address auto finds no Ray on this machine. Give its host:port, or leave it out.")
    return found
