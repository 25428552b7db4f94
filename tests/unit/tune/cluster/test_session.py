"""A program's environment and its own connection, before and after a study uses a Ray."""

import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import ray
from ray.util.client import ray as client

from otter_ray import Study
from otter_ray.errors import StudyError
from otter_ray.tune.cluster import session
from otter_ray.tune.cluster.auth import MODE, TOKEN_FILE
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.ray_compat import CHECK_ALIVE, reload_core_config


@pytest.fixture
def environment(monkeypatch):
    """A program has a value of its own, and none of the others."""
    for name in (*session.TUNE_ENVIRONMENT, *session.SLOT_ENVIRONMENT, session.UV, MODE, TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNE_FORCE_TRIAL_CLEANUP_S", "9")


@pytest.fixture
def open_address():
    """A server that answers as a Ray without a token does, and can do no more."""
    answers = {"CheckAlive": grpc.unary_unary_rpc_method_handler(lambda request, context: b"")}
    server = grpc.server(ThreadPoolExecutor(1))
    service = CHECK_ALIVE.split("/")[1]
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, answers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def test_a_ray_that_cannot_be_used_leaves_no_trace(environment, open_address, monkeypatch):
    """Else the next study's own Ray would have no token."""
    before, modes = {**os.environ}, []

    def broken(**options):
        modes.append(os.environ[MODE])
        raise ConnectionError("it has died")

    def reload():
        modes.append(os.environ.get(MODE))
        reload_core_config()

    monkeypatch.setattr(ray, "init", broken)
    monkeypatch.setattr(session, "reload_core_config", reload)
    with pytest.warns(UserWarning, match="does not require a token"), pytest.raises(StudyError, match="died"):
        RaySession(open_address).start()
    assert modes == ["disabled", None]
    assert os.environ == before


def test_the_end_of_a_session_leaves_the_environment_of_a_connected_program(environment, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    before = {**os.environ}
    used = RaySession("127.0.0.1:1", is_connected=True)
    for _ in range(2):  # the search, and its finalists
        used.start()
    assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert os.environ["TUNE_FORCE_TRIAL_CLEANUP_S"] == "9"
    used.stop()
    assert os.environ == before


def test_a_program_that_uses_rays_client_is_told(monkeypatch):
    monkeypatch.setattr(client, "is_connected", lambda: True)
    with pytest.raises(
        StudyError, match="connected to Ray through ray://, which is Ray's client, which a stu"
    ):
        Study("demo", trials=2).request()
