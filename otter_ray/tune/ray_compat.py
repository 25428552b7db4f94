"""What the tuner uses of Ray beyond its public API, as of Ray 2.60: one function for each touch.

Nothing else in the package names a private attribute of Ray. `tests/unit/tune/test_ray_compat.py` has a test
for each function here, which fails by its name when Ray has changed. This module is below everything else in
`tune/`, and importing it does not import Ray.
"""

from __future__ import annotations

import logging
import os
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otter_ray.redaction import is_secret_variable

if TYPE_CHECKING:
    from ray.train import WorkerGroupError
    from ray.tune.schedulers import MedianStoppingRule

# The call of Ray's control service that asks for nothing and refuses a wrong token. `ray.init` cannot be used
# for that: with the wrong token it waits for 20 s, and it must be told the mode before.
CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"

# What the names of variables that configure Ray begin with.
OWN_VARIABLES = ("RAY_", "TUNE_", "TRAIN_")


class NotPickled:
    """Mixin of searchers and callbacks, of which Tune pickles nothing.

    Tune pickles them when a run begins, and locks, consoles and Optuna studies cannot be pickled. The journal
    is the state, so no pickle is ever read back.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


def reload_core_config() -> None:
    """Make Ray's core read the environment again: it reads it once, when `ray` is imported."""
    import ray

    ray._raylet.Config.initialize("")


def auth_token() -> str | None:
    """Return the token that Ray would use from this machine; None for none. No public function says it."""
    import ray

    token: str | None = ray._raylet.AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
    return token


def set_process_title(title: str) -> None:
    """Name this process, as Ray does it: it names a worker's process again with each task and report."""
    import ray

    ray._raylet.setproctitle(title)


def draining_nodes() -> Collection[str]:
    """Return the IDs of the nodes that drain. `ray.nodes()` does not know, and the State API is slow."""
    import ray

    draining: Collection[str] = ray._private.state.state.get_draining_nodes()
    return draining


def drain_for_preemption(node_id: str, message: str, deadline_ms: int) -> tuple[bool, str]:
    """Ask Ray to drain a node, as `ray drain-node` does, which is a command without a function.

    Args:
        node_id: the node's.
        message: why, in words.
        deadline_ms: when it will be gone, in milliseconds since 1970.

    Returns:
        Whether Ray accepted, and why not.
    """
    import ray
    from ray.core.generated import autoscaler_pb2

    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, why = client.drain_node(
        node_id, autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, message, deadline_ms
    )
    return accepted, why


def bootstrap_address(address: str) -> str | None:
    """Return `host:port` of an address as `ray.init` understands it (`auto`); None if there is no Ray.

    `ray.init` resolves it as well, but the token has to be settled with that Ray before.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found: str | None = canonicalize_bootstrap_address(address)
    return found


def no_prestart() -> dict[str, Any]:
    """Return `ray.init`'s `_system_config` for a Ray that starts no worker before there is work.

    Ray would start one for each CPU, without the driver's `runtime_env`: no actor of the driver's gets it.
    """
    return {"prestart_worker_first_driver": False}


def node_python() -> str:
    """Return a shell's command that prints the Python that a node's raylet starts its workers with.

    The raylet is the parent of the shell that starts a worker (`py_executable`), and knows it as an option.
    """
    option = "--python_worker_command"
    return f"tr '\\0' '\\n' </proc/$PPID/cmdline | sed -n 's/^{option}=\\([^ ]*\\) .*/\\1/p'"


def kuberay_autoscaler_config(cluster: str, namespace: str) -> dict[str, Any] | None:
    """Return the autoscaler's configuration of a RayCluster of KubeRay; None if it does not scale.

    Ray's autoscaler derives it in the head's pod and keeps it to itself: `get_cluster_config()` is empty.
    """
    import requests
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    try:
        found = node_provider.KubernetesHttpApiClient(namespace).get(f"rayclusters/{cluster}")
    except requests.RequestException:
        # Without autoscaling, the pod may not ask.
        return None
    if not found["spec"].get("enableInTreeAutoscaling"):
        return None
    config: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(found)
    return config


def quiet_local_mode() -> None:
    """Keep back what Ray Train logs whenever it trains in its own process: that one may file a report.

    It would be the first line of every trial's log, and nothing is wrong.
    """
    logging.getLogger("ray.train.v2.api.config").setLevel(logging.WARNING)


def ascii_name(name: str) -> str:
    """Return a name as Ray takes it for a trainable, a Train run or a metric's label: in ASCII.

    Letters that are not ASCII become their numbers: `übung` becomes `xfcbung`.
    """
    return name.encode("ascii", "backslashreplace").decode().replace("\\", "")


def train_run_id(run_context: Any) -> str:
    """Return the ID of a Ray Train run from the context that a callback of the run gets.

    The type of that context is not public, its attributes are not documented.
    """
    return str(run_context.run_id)


def cancel_train_request(run_id: str) -> None:
    """Take back what a Ray Train run asked of the autoscaler.

    A run that is broken off would go on asking for 180 s, and nodes would be added for it. Ray Train itself
    takes the request back only when a run ends in its controller.
    """
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator

    coordinator.get_or_create_autoscaling_coordinator().cancel_request.remote(f"train-{run_id}")


def worker_exceptions(error: WorkerGroupError) -> list[Exception] | None:
    """Return what each failed worker of a group raised, by rank; None if one of them died instead.

    `worker_failures` is public, but wraps what a worker raised in a private class.
    """
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    failures = [failure for _, failure in sorted(error.worker_failures.items())]
    if not all(isinstance(failure, UserExceptionWithTraceback) for failure in failures):
        return None
    return [failure._base_exc for failure in failures]


@contextmanager
def slot_environment() -> Iterator[None]:
    """Keep Tune from handing the driver's secrets to its slots.

    Tune copies variables of the driver, `AWS_SECRET_ACCESS_KEY` among them, into the `runtime_env` of its
    actors, which Ray's dashboard and logs show to everyone. There is no setting for it. Those that configure
    Ray are left.
    """
    from ray.tune.execution import class_cache

    named = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {
        name
        for name in named
        if name.startswith(OWN_VARIABLES) and not is_secret_variable(name, os.environ.get(name, ""))
    }
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = named


def last_median_result(rule: MedianStoppingRule, trial: Any) -> Mapping[str, Any] | None:
    """Return the last result of a trial that a median stopping rule knows; None for none.

    Ray's rule counts a result that is reported twice as two.
    """
    results = rule._results[trial]
    return results[-1] if results else None


def forget_median_stops(rule: MedianStoppingRule) -> None:
    """Make a median stopping rule forget which trials it stopped.

    Ray's rule asserts that no result comes after its "stop". Here the baseline trial continues in spite of
    it, and so does a trial after its last epoch.
    """
    rule._stopped_trials.clear()


@contextmanager
def pickled_by_value(objects: Iterable[Any]) -> Iterator[None]:
    """Let Ray send the classes of these objects, and what is beside them, to workers that cannot import them.

    Ray's cloudpickle does so for `__main__`, which is a notebook too, but not for a test's module. What the
    program has registered itself stays registered.

    Args:
        objects: Classes, objects of them, or sequences of data loaders.
    """
    from ray import cloudpickle

    names = {name for part in _parts(objects) for name in _module_names(part)}
    names -= cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in sorted(names) if name in sys.modules and not _is_found(name)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _parts(objects: Iterable[Any]) -> Iterator[Any]:
    """Yield the objects, and the data sets and functions of loaders among them."""
    for each in objects:
        yield each
        for loader in each if isinstance(each, Sequence) else ():
            collate, dataset = getattr(loader, "collate_fn", None), loader
            yield from (loader, collate, getattr(collate, "func", None))  # of a partial
            while (dataset := getattr(dataset, "dataset", None)) is not None:  # it may be a subset of another
                yield dataset


def _module_names(part: Any) -> set[str]:
    """Return the modules of a function, or of a class and its bases."""
    cls = part if isinstance(part, type) else type(part)
    return {base.__module__ for base in cls.__mro__} | {str(getattr(part, "__module__", None))}


def _is_found(name: str) -> bool:
    """Say whether a worker, which has this process's folder and its environment, can import a module."""
    file = getattr(sys.modules[name], "__file__", None)
    # An editable install of otter_ray is in neither place.
    if name == "__main__" or name.startswith("otter_ray.") or file is None:
        return True
    places = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    path = os.path.join(*name.split("."))
    is_own = any(
        file in (os.path.join(p, f"{path}.py"), os.path.join(p, path, "__init__.py")) for p in places
    )
    installed = [sysconfig.get_path(scheme) for scheme in ("purelib", "platlib", "stdlib", "platstdlib")]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    return is_own or any(Path(file).is_relative_to(place) for place in installed)
