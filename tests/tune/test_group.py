"""Trials of several workers: a real worker group of Ray Train, DDP by gloo."""

import json
from urllib.request import urlopen

import ray
import yaml
from optuna.trial import TrialState
from ray._private.ray_constants import (
    AUTOSCALER_RESOURCE_REQUEST_CHANNEL,
    DASHBOARD_ADDRESS,
    KV_NAMESPACE_DASHBOARD,
)

from otter_ray.config import load_space
from otter_ray.tune.folder import StudyFolder, open_study

SPACE = {
    "parameters": {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}},
    "study": {
        "num_trials": 2,
        "scheduler": {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 2}},
        "resources": {"workers_per_trial": 2, "cpus_per_worker": 1},
    },
}


def test_a_study_of_two_workers_a_trial(tune, ray_with, tiny_sets, tmp_path):
    """On two CPUs: the second trial can only start once the first one's group is gone."""
    address = ray_with("disabled")
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(SPACE))
    arguments = [*tiny_sets, "--space", tmp_path / "two.yaml", "--name", "g", "--address", address]
    code, output = tune("demo", *arguments, folder=tmp_path).end()
    assert code == 0, output
    assert "gate passed" in output
    folder = StudyFolder(tmp_path / "runs/demo/g")
    study = open_study(folder, load_space("demo").study)
    ended = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    assert len(ended) == 2
    assert list(ended[0].intermediate_values) == [1, 2]
    for trial in ended:
        assert (folder.trial(trial.number) / "log.1.txt").is_file()
    gcs = ray._raylet.GcsClient(address=address)
    assert json.loads(gcs.internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL, None)) == []
    dashboard = gcs.internal_kv_get(DASHBOARD_ADDRESS.encode(), KV_NAMESPACE_DASHBOARD).decode()
    with urlopen(f"http://{dashboard}/api/train/v2/runs/v1") as answer:
        runs = {run["name"].rsplit("-", 1)[0]: run["status"] for run in json.load(answer)["train_runs"]}
    for trial in ended:
        finished = runs[f"demo-{trial.number:04d}"] == "FINISHED"
        assert finished == (trial.state == TrialState.COMPLETE)
