"""The Ray that a study runs on: one of its own, or one that runs already."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Self

from otter_ray.cpus import available_cpus
from otter_ray.errors import StudyError
from otter_ray.host_program import restore_environment
from otter_ray.tune.cluster.auth import MODE, TOKEN_FILE, agree_on_token, provide_token, token_file
from otter_ray.tune.ray_compat import OWN_VARIABLES, bootstrap_address, no_prestart, reload_core_config

# Tune writes logs and pickles of its own, which nobody reads: the journal is the truth. Its strict check
# of metrics would end a study over one trial that failed before its first epoch. A trial that is stopped
# gets the time to close its loaders before its slot is given up. The searcher limits how many trials there
# are; all of them may wait for nodes at once, or an autoscaler would see a demand for one. The progress
# lines report a slot that died; its traceback would be Ray's.
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
    # Seconds between two looks at a group: each report, and the end, waits for the next one. Ray's 2 are more
    # than a short epoch.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # As Tune sets it: Lightning is not to fork.
    "PL_DISABLE_FORK": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
}
CACHE = "OTTER_RAY_CACHE"
DASHBOARD = "OTTER_RAY_DASHBOARD"  # "0": a Ray that is started here has none
# `uv run` would start each worker by itself, in place of what a session starts.
UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
AUTH = (MODE, TOKEN_FILE)
CHANGED = (*OWN_VARIABLES, *SLOT_ENVIRONMENT, "PYTHONBREAKPOINT")
RAY_CLIENT = (
    "is Ray's client, which a study cannot use. Give host:port on the cluster itself; `ray job submit` takes "
    "a study there from elsewhere."
)


class RaySession:
    """The Ray that a command runs on: one of this machine's own, or one that runs already.

    Nothing happens before `start`. As a context manager it is stopped at the block's end, if it was started.
    This process's environment is changed in between only.

    Args:
        address: of a Ray that runs already; None to start one on this machine.
        code: packages and modules that travel to the nodes of a Ray that runs already (`code_of`).
        py_executable: what Ray starts as its workers' Python; None for the one that it knows.
        is_connected: whether the caller has connected this process to the Ray at the address. It is used as
            it is, and stays connected.
    """

    def __init__(
        self,
        address: str | None = None,
        code: Sequence[str] = (),
        py_executable: str | None = None,
        is_connected: bool = False,
    ) -> None:
        self.address, self.code, self.is_connected = address, [*code], is_connected
        self._workers = {} if py_executable is None else {"py_executable": py_executable}
        self._is_started, self._dashboard_url = False, ""
        self._environment: dict[str, str] | None = None  # as it was before `start`

    def start(self) -> Self:
        """Connect to the Ray at the address, or start one, unless that has been done.

        Raises:
            StudyError: there is no Ray at the address, or it requires another token.
        """
        if self._is_started:
            return self
        try:
            return self._started()
        except BaseException:
            self.stop()
            raise

    def _started(self) -> Self:
        wanted = {**TUNE_ENVIRONMENT, **SLOT_ENVIRONMENT}
        if self.address is None:
            wanted[UV] = "0"
        if self._environment is None:
            self._environment = _rays_variables()
        for key, value in wanted.items():
            os.environ.setdefault(key, value)
        import ray
        from ray.exceptions import RuntimeEnvSetupError

        if self.is_connected and ray.is_initialized():
            return self
        options = self._own_options() if self.address is None else self._options_at(self.address)
        try:
            context = ray.init(log_to_driver=False, logging_level="error", **options)
        except (OSError, RuntimeError, ValueError, RuntimeEnvSetupError) as exc:
            raise StudyError(f"no Ray can be used at {self.address or 'this machine'}: {exc}") from exc
        self._is_started, self._dashboard_url = True, context.dashboard_url or ""
        return self

    def stop(self) -> None:
        """Disconnect from the Ray if it was started here; one of this machine's own ends with that.

        The environment is again as it was.
        """
        if self._is_started:
            import ray

            ray.shutdown()
            self._is_started, self._dashboard_url = False, ""
        if self._environment is None:
            return
        now, before = _rays_variables(), self._environment
        self._environment = None
        restore_environment({**dict.fromkeys(now), **before})
        if any(now.get(key) != before.get(key) for key in AUTH):
            reload_core_config()

    @property
    def dashboard_url(self) -> str | None:
        """The dashboard's address for a person to open, with what it will ask for; None if there is none."""
        if not self._dashboard_url:
            return None
        asks = os.environ.get(MODE) == "token"
        return f"http://{self._dashboard_url}" + (
            f" (it asks for the token in {token_file()})" if asks else ""
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _own_options(self) -> dict[str, Any]:
        """Return what `ray.init` needs to start a Ray on this machine."""
        provide_token()
        # "local": without an address ray.init would join any Ray that runs on this machine. The processes
        # of a Ray of our own inherit the environment.
        return {
            "address": "local",
            "include_dashboard": os.environ.get(DASHBOARD) != "0",
            "dashboard_host": "127.0.0.1",
            "num_cpus": available_cpus(),
            "runtime_env": self._workers,
            "_system_config": no_prestart(),
        }

    def _options_at(self, address: str) -> dict[str, Any]:
        """Return what `ray.init` needs to connect to the Ray at an address, and agree with it on a token."""
        found = _resolved(address)
        agree_on_token(found)
        slot = {key: os.environ[key] for key in (*SLOT_ENVIRONMENT, CACHE) if key in os.environ}
        runtime_env: dict[str, Any] = {"env_vars": slot, **self._workers}
        if self.code:
            runtime_env["py_modules"] = self.code
        return {"address": found, "runtime_env": runtime_env}


def _rays_variables() -> dict[str, str]:
    """Return the variables of the environment that a study sets, or Ray does meanwhile."""
    return {key: value for key, value in os.environ.items() if key.startswith(CHANGED)}


def connected_address() -> str | None:
    """Return the address of the Ray that this process is connected to; None if it is not.

    Raises:
        StudyError: it is connected through Ray's client.
    """
    if "ray" not in sys.modules:
        return None
    import ray
    from ray.util.client import ray as client

    if client.is_connected():
        raise StudyError(f"this process is connected to Ray through ray://, which {RAY_CLIENT}")
    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


def _resolved(address: str) -> str:
    """Return `host:port` of the Ray that `address` means.

    Raises:
        StudyError: it means none.
    """
    if "://" in address:
        raise StudyError(f"--address {address} {RAY_CLIENT}")
    if address != "auto":
        return address
    try:
        found = bootstrap_address(address)
    except (ConnectionError, ValueError) as exc:
        raise StudyError(f"--address auto: {exc}") from exc
    if found is None:
        raise StudyError("--address auto finds no Ray on this machine. Give its host:port, or leave it out.")
    return found
