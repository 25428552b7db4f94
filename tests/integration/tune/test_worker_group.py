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

from otter_ray.config.lookup import find_config
from otter_ray.space import load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study

SPACE = {
    "parameters": {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}},
    "study": {
        "num_trials": 2,
        "scheduler": {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 2}},
        "resources": {"workers_per_trial": 2, "cpus_per_worker": 1},
    },
}


def test_a_study_of_two_workers_a_trial(tune_here, open_ray, tiny_sets, tmp_path):
    """On two CPUs: the second trial can only start once the first one's group is gone.

    Config and study have names that are not ASCII, which Ray Train and the dashboard meet.
    """
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(SPACE))
    (tmp_path / "專案.yaml").write_text(find_config("demo").read_text())
    arguments = [*tiny_sets, "--space", tmp_path / "two.yaml", "--name", "übung"]
    code, output = tune_here("專案.yaml", *arguments, folder=tmp_path)
    assert code == 0, output
    assert "gate passed" in output
    assert "shows nothing any more" not in output
    folder = StudyFolder(tmp_path / "runs/專案/übung")
    study = open_study(folder, load_space("demo").study)
    ended = study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    assert len(ended) == 2
    assert list(ended[0].intermediate_values) == [1, 2]
    for trial in ended:
        assert (folder.trial(trial.number) / "log.1.txt").is_file()
    gcs = ray._raylet.GcsClient(address=open_ray.address)
    assert json.loads(gcs.internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL, None)) == []
    dashboard = gcs.internal_kv_get(DASHBOARD_ADDRESS.encode(), KV_NAMESPACE_DASHBOARD).decode()
    with urlopen(f"http://{dashboard}/api/train/v2/runs/v1") as answer:
        runs = {run["name"].rsplit("-", 1)[0]: run["status"] for run in json.load(answer)["train_runs"]}
    for trial in ended:
        finished = runs[f"u5c08u6848-{trial.number:04d}"] == "FINISHED"
        assert finished == (trial.state == TrialState.COMPLETE)
