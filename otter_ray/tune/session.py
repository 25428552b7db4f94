"""The Ray that a study runs on: one of its own, or one that runs already."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otter_ray.errors import StudyError
from otter_ray.train.builders import available_cpus

# Tune writes logs and pickles of its own, which nobody reads: the journal is the truth. Its strict check
# of metrics would end a study over one trial that failed before its first epoch. A trial that is stopped
# gets the time to close its loaders before its slot is given up. The bridge limits how many trials there
# are; all of them may wait for nodes at once, or an autoscaler would see a demand for one.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
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
TOKEN = Path.home() / ".ray" / "auth_token"


@contextmanager
def ray_session(address: str | None) -> Iterator[str | None]:
    """Connects to a Ray, or starts one of this machine's own; gives the dashboard's address, if any.

    Raises:
        StudyError: there is no Ray at the address.
    """
    for key, value in {**TUNE_ENVIRONMENT, **SLOT_ENVIRONMENT}.items():
        os.environ.setdefault(key, value)
    if TOKEN.exists():
        # Ray finds the token by itself for a Ray that it finds by itself, but not for a given address.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
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
        raise StudyError(
            f"no Ray can be used at {address or 'this machine'}: {exc}. One that asks for a token wants "
            f"RAY_AUTH_MODE=token and its token in {TOKEN}."
        ) from exc
    try:
        yield _dashboard(context.dashboard_url)
    finally:
        ray.shutdown()


def _dashboard(url: str | None) -> str | None:
    """The dashboard's address for a person to open, with what it will ask for."""
    if not url:
        return None
    asks = os.environ.get("RAY_AUTH_MODE") == "token"
    return f"http://{url}" + (f" (it asks for the token in {TOKEN})" if asks else "")


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
