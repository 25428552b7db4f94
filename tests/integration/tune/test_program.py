"""A study within a program that has started a Ray itself."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import ray

from otter_ray import Study

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
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


def test_the_notebooks_run(connected, tiny_sets, tmp_path, monkeypatch):
    """Their cells, one after another, on a tiny study; the second reads what the first has left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    for notebook in ("first_study.ipynb", "read_a_study.ipynb"):
        for cell in json.loads((EXAMPLES / notebook).read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
                if "changes" in names and "study" not in names:
                    names |= {"trials": 2, "changes": tiny_sets[1::2]}
    assert names["result"].best.onnx.is_file()
    assert names["test"]["images"] == 20  # of the test split: five documents, four captures each
    assert np.abs(names["embedding"] - names["same"]).max() < 1e-4
    assert {*names["searched"]} >= {"optimizer.options.lr", "model.loss.name"}
    assert names["curves"].shape[1] == 2
