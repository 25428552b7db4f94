"""A study within a program that has started a Ray itself."""

import os
import signal
import sys

import pytest
import ray

from otter_ray import Study


@pytest.fixture
def connected():
    """A Ray of one slot, to which this process is connected as any program would be."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False},
    )
    ray.init(nodes.address, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()
    nodes.shutdown()


def as_it_is():
    """What a program and a study share."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("KMP_")}
    return environment, [*sys.path], (sys.stdout, sys.stderr), handlers


def test_a_study_runs_on_the_programs_ray_and_leaves_it(connected, tiny_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    address = ray.get_runtime_context().gcs_address
    study = Study(tiny_config, trials=2, name="mine", enqueue=[{"lr": 0.005}])
    request = study.request()
    assert (request.address, request.is_connected) == (address, True)
    before = as_it_is()
    result = study.run()
    assert as_it_is() == before
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == address
    assert result.folder == tmp_path / "runs/demo/mine"
    assert [*result.trials["optimizer.options.lr"]][1] == 0.005
    assert {*result.trials["state"]} <= {"complete", "pruned"}
    assert result.best.onnx.is_file()
    assert not result.is_interrupted
    assert f"the Ray at {address} is used as it is" in capfd.readouterr().out
