"""Each private part of Ray that the tuner uses, asked of the installed Ray: none of these starts one.

A test that fails names the function of `tune/ray_compat.py` whose ground has changed.
"""

import inspect
import logging
import pickle
import shlex
import subprocess
import sys
import sysconfig
import threading
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
import ray
from ray import cloudpickle
from ray.core.generated import autoscaler_pb2, gcs_service_pb2
from ray.train import ScalingConfig, WorkerGroupError
from ray.tune import Callback, registry
from ray.tune.execution import class_cache
from ray.tune.schedulers import MedianStoppingRule
from ray.tune.search import Searcher
from torch.utils.data import DataLoader, Dataset, Subset

from otter_ray.tune import ray_compat
from otter_ray.tune.search.schedulers import Numbered

RAYLET = Path(ray.__file__).parent / "core/src/ray/raylet/raylet"


def parameters_of(function):
    """Those of its author: Ray adds one to each method of a class, for good, when it makes an actor of it."""
    return [name for name in inspect.signature(function).parameters if name != "_ray_trace_ctx"]


@pytest.mark.parametrize("base", [Callback, Searcher])
def test_not_pickled(base):
    class Keeper(ray_compat.NotPickled, base):
        def __init__(self):
            self.lock = threading.Lock()

    copy = cloudpickle.loads(cloudpickle.dumps(Keeper()))
    assert not hasattr(copy, "lock")
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(threading.Lock())


def test_reload_core_config(monkeypatch):
    """Without it the mode of the import stays in force."""
    loader = ray._raylet.AuthenticationTokenLoader.instance()
    try:
        for mode, expected in (("token", True), ("disabled", False)):
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
            monkeypatch.setenv("RAY_AUTH_TOKEN", "of this test")
            loader.reset_cache()
            ray_compat.reload_core_config()
            assert bool(loader.get_token_for_http_header()) is expected
    finally:
        monkeypatch.undo()
        loader.reset_cache()
        ray_compat.reload_core_config()


def test_auth_token(monkeypatch):
    loader = ray._raylet.AuthenticationTokenLoader.instance()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of this test")
    loader.reset_cache()
    try:
        assert ray_compat.auth_token() == "of this test"
    finally:
        monkeypatch.undo()
        loader.reset_cache()


def test_check_alive():
    package, service, method = ray_compat.CHECK_ALIVE.strip("/").replace("/", ".").rsplit(".", 2)
    assert gcs_service_pb2.DESCRIPTOR.package == package
    assert method in gcs_service_pb2.DESCRIPTOR.services_by_name[service].methods_by_name


def test_set_process_title():
    before = ray._raylet.getproctitle()
    ray_compat.set_process_title("ray::a test")
    try:
        assert ray._raylet.getproctitle() == "ray::a test"
        assert b"ray::a test" in Path("/proc/self/cmdline").read_bytes()
    finally:
        ray_compat.set_process_title(before)


def test_draining_nodes(monkeypatch):
    accessor = SimpleNamespace(get_draining_nodes=lambda: {"here": 0})
    monkeypatch.setattr(ray._private.state.state, "_connect_and_get_accessor", lambda: accessor)
    assert "here" in ray_compat.draining_nodes()


def test_drain_for_preemption(monkeypatch):
    asked = parameters_of(ray._raylet.InnerGcsClient.drain_node)
    assert asked[1:5] == ["node_id", "reason", "reason_message", "deadline_timestamp_ms"]
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="head:6379"))
    client = Mock()
    client.return_value.drain_node.return_value = (True, "")
    monkeypatch.setattr(ray._raylet, "GcsClient", client)
    assert ray_compat.drain_for_preemption("here", "spot", 17) == (True, "")
    client.assert_called_once_with(address="head:6379")
    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION
    client.return_value.drain_node.assert_called_once_with("here", reason, "spot", 17)


def test_bootstrap_address(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ray_compat.bootstrap_address("auto") == "10.0.0.1:6379"


def test_no_prestart():
    """Ray's core ends the process over a setting that it does not know."""
    settings = ray_compat.no_prestart()
    assert "_system_config" in inspect.getsource(ray._private.worker.init)
    raylet = RAYLET.read_bytes()
    assert all(name.encode() in raylet for name in settings)


def test_kuberay_autoscaler_config(monkeypatch):
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    limits = {"cpu": "2", "memory": "4Gi"}
    head = {"spec": {"containers": [{"name": "head", "resources": {"limits": limits}}]}}
    cluster = {
        "metadata": {"name": "study", "namespace": "here"},
        "spec": {
            "enableInTreeAutoscaling": True,
            "headGroupSpec": {"rayStartParams": {}, "template": head},
            "workerGroupSpecs": [],
        },
    }
    paths = {"rayclusters/study": cluster}
    monkeypatch.setattr(KubernetesHttpApiClient, "__init__", lambda self, namespace: None)
    monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: paths[path])
    config = ray_compat.kuberay_autoscaler_config("study", "here")
    assert config is not None
    assert config["available_node_types"]["headgroup"]["resources"]["CPU"] == 2
    assert {"max_workers", "head_node_type"} <= config.keys()
    cluster["spec"]["enableInTreeAutoscaling"] = False
    assert ray_compat.kuberay_autoscaler_config("study", "here") is None


def test_train_run_id():
    from ray.train.v2._internal.execution.context import TrainRunContext
    from ray.tune.integration.ray_train import TuneReportCallback

    assert "run_id" in TrainRunContext.__dataclass_fields__
    asked = parameters_of(TuneReportCallback.after_report)
    assert asked == ["self", "run_context", "metrics", "checkpoint"]
    assert ray_compat.train_run_id(SimpleNamespace(run_id="abc")) == "abc"


def test_cancel_train_request(monkeypatch):
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator
    from ray.train.v2._internal.execution.scaling_policy import ScalingPolicy

    ray.remote(coordinator._AutoscalingCoordinatorActor)  # as a study in this process does
    assert parameters_of(coordinator._AutoscalingCoordinatorActor.cancel_request) == ["self", "requester_id"]
    assert 'f"train-{' in inspect.getsource(inspect.getmodule(ScalingPolicy))
    cancelled = []
    actor = SimpleNamespace(cancel_request=SimpleNamespace(remote=cancelled.append))
    monkeypatch.setattr(coordinator, "get_or_create_autoscaling_coordinator", lambda: actor)
    ray_compat.cancel_train_request("abc")
    assert cancelled == ["train-abc"]


def test_worker_exceptions():
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckTimeoutError

    first, second = ValueError("of rank 0"), KeyError("of rank 1")
    raised = {1: UserExceptionWithTraceback(second, ""), 0: UserExceptionWithTraceback(first, "")}
    assert ray_compat.worker_exceptions(WorkerGroupError("", raised)) == [first, second]
    died = {**raised, 2: WorkerHealthCheckTimeoutError("no answer")}
    assert ray_compat.worker_exceptions(WorkerGroupError("", died)) is None


def test_node_python():
    """Its shell is a child of a raylet, whose options say what it starts workers with."""
    from ray._private import services

    assert "--python_worker_command=" in inspect.getsource(services.start_raylet)
    # In place of a raylet: a parent with such an option.
    command = f"bash -c {shlex.quote(ray_compat.node_python())}; true"
    raylet = ["bash", "-c", command, "raylet", "--python_worker_command=/opt/python -u setup.py", "--more=1"]
    assert subprocess.run(raylet, capture_output=True, text=True, check=True).stdout == "/opt/python\n"


def test_slot_environment(monkeypatch):
    """What Tune would start its actors with, which Ray shows: no secret, whatever it is called."""
    asked = []
    monkeypatch.setattr(ray, "remote", lambda runtime_env: asked.append(runtime_env) or (lambda cls: cls))
    named = {*class_cache.ENV_VARS_TO_PROPAGATE, "RAY_AUTH_TOKEN", "HF_TOKEN"}
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", named)
    for name in named:
        monkeypatch.setenv(name, f"planted {name}" if "RAY_TRAIN" not in name else "1")
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    with ray_compat.slot_environment():
        class_cache._ActorClassCache().get(object)
    class_cache._ActorClassCache().get(object)
    within, after = (env["env_vars"] for env in asked)
    assert {"AWS_SECRET_ACCESS_KEY", "RAY_CHDIR_TO_TRIAL_DIR"} <= after.keys()
    assert not [name for name in within if name.startswith("AWS_") or "TOKEN" in name]
    assert "RAY_CHDIR_TO_TRIAL_DIR" in within


@pytest.fixture
def median_rule():
    """A rule that has stopped the worse one of two trials after epoch 2."""
    rule = MedianStoppingRule(
        time_attr="epoch", metric="value", mode="max", grace_period=2, min_samples_required=1,
        min_time_slice=float("inf"), hard_stop=True,
    )  # fmt: skip
    best, worst = Numbered(0), Numbered(1)
    for trial in (best, worst):
        rule.on_trial_add(None, trial)
    said = [
        rule.on_trial_result(None, trial, {"epoch": epoch, "value": value})
        for epoch in (1, 2)
        for trial, value in ((best, 0.9), (worst, 0.1))
    ]
    assert said[-1] == "STOP"
    return rule, worst


def test_last_median_result(median_rule):
    rule, worst = median_rule
    assert ray_compat.last_median_result(rule, worst)["epoch"] == 2
    assert ray_compat.last_median_result(rule, Numbered(7)) is None


def test_forget_median_stops(median_rule):
    rule, worst = median_rule
    ray_compat.forget_median_stops(rule)
    assert rule.on_trial_result(None, worst, {"epoch": 2, "value": 0.2}) == "STOP"


def test_every_function_has_its_test():
    functions = [
        name
        for name, value in vars(ray_compat).items()
        if getattr(value, "__module__", "") == ray_compat.__name__ and inspect.isfunction(value)
    ]
    assert len(functions) > 10
    assert not [name for name in functions if f"test_{name}" not in globals() and name[0] != "_"]


def test_quiet_local_mode(caplog):
    logger = logging.getLogger("ray.train.v2.api.config")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger.name):
            ScalingConfig(num_workers=0)
            assert "Running in local mode" in caplog.text
            caplog.clear()
            ray_compat.quiet_local_mode()
            ScalingConfig(num_workers=0)
            assert caplog.text == ""
    finally:
        logger.removeHandler(caplog.handler)


def test_ascii_name():
    with pytest.raises(UnicodeEncodeError):
        registry._make_key("", "trainable_class", "übung")
    assert ray_compat.ascii_name("demo/a-1") == "demo/a-1"
    assert ray_compat.ascii_name("專案/übung") == "u5c08u6848/xfcbung"


@pytest.fixture
def module_at(monkeypatch):
    """Makes a module that came from a file, which nobody reads."""

    def make(file, name="lit"):
        module = ModuleType(name)
        module.__file__ = str(file)
        module.Dataset = Dataset
        exec("class Lit(Dataset): __len__ = lambda self: 3\ndef collate(batch, pad=0): pass", module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


def by_value(*objects):
    """What is registered in the block."""
    with ray_compat.pickled_by_value(objects):
        return cloudpickle.list_registry_pickle_by_value()


@pytest.mark.parametrize(
    ("file", "is_found"),
    [
        (f"{sys.prefix}_project/lit.py", False),
        (f"{sys.prefix}/src/lit.py", False),  # such as /usr/src
        (f"{sys.base_prefix}/src/lit.py", False),
        (f"{sysconfig.get_path('purelib')}/lit.py", True),
        (f"{sysconfig.get_path('stdlib')}/lit.py", True),
        (Path("lit.py").resolve(), True),
    ],
)
def test_pickled_by_value(module_at, file, is_found):
    lit = module_at(file).Lit
    for given in (lit, lit()):
        assert by_value(given) == (set() if is_found else {"lit"})
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_pickled_by_value_what_loaders_have(module_at):
    data, functions = module_at("/far/lit.py"), module_at("/far/functions.py", "functions")
    loaders = [DataLoader([1]), DataLoader(Subset(data.Lit(), [0]))]
    assert by_value(loaders) == {"lit"}
    for collate in (functions.collate, partial(functions.collate, pad=1)):
        assert by_value([DataLoader([1], collate_fn=collate)]) == {"functions"}


def test_pickled_by_value_leaves_what_the_program_has_registered(module_at):
    module = module_at("/far/lit.py")
    cloudpickle.register_pickle_by_value(module)
    try:
        assert by_value(module.Lit) == {"lit"}
        assert cloudpickle.list_registry_pickle_by_value() == {"lit"}
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_otter_ray_itself_is_not_pickled_by_value(monkeypatch):
    """An editable install lies where its checkout is."""
    monkeypatch.chdir("/")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert by_value(ray_compat.NotPickled) == set()
