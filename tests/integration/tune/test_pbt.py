"""Population Based Training in a real study: a copy's config repeats it to the last digit."""

import pytest
import yaml
from optuna.trial import TrialState

from otter_ray.config import find_space, load_config
from otter_ray.space import load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.schema import EPOCH, ORIGIN, TRIAL
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

LR = "optimizer.options.lr"
RANDOM = {"name": "RandomSampler"}


@pytest.fixture(scope="module", params=["in its folder", "in a storage"])
def trained(tune_here, tiny_sets, tmp_path_factory, request):
    """A tiny study: where its trials are, what Optuna knows of them, what the command printed."""
    root = tmp_path_factory.mktemp("pbt")
    space = yaml.safe_load(find_space("demo").read_text())
    space["study"] |= {
        "sampler": RANDOM,
        "scheduler": {"name": "PBT", "options": {"perturbation_interval": 1, "quantile_fraction": 0.5}},
        "resources": {"workers_per_trial": 1, "cpus_per_worker": 1},
    }
    (root / "pbt.yaml").write_text(yaml.safe_dump(space))
    sets = [*tiny_sets, "--set", "trainer.max_epochs=3"]
    is_stored = request.param == "in a storage"
    storage = ["--storage", root / "kept"] if is_stored else []
    arguments = [*sets, "--space", root / "pbt.yaml", "--trials", 8, "--name", "tiny", *storage]
    code, output = tune_here("demo", *arguments, folder=root)
    assert code == 0, output
    folder = StudyFolder(root / "runs/demo/tiny")
    trials = open_study(folder, load_space("demo").study).get_trials()
    return StudyFolder(root / "kept/demo/tiny") if is_stored else folder, trials, output


def test_a_copys_config_repeats_it_to_the_last_digit(trained, tmp_path):
    folder, trials, _ = trained
    copies = [trial for trial in trials if ORIGIN in trial.user_attrs and trial.state == TrialState.COMPLETE]
    copy = max(copies, key=lambda trial: len(trial.user_attrs["values"]["schedule"]))
    config = load_config(str(folder.trial(copy.number) / "config.yaml"))
    assert config.schedule
    curve = {}
    run_training(
        config,
        tmp_path,
        lambda epoch: curve.update({epoch.epoch: epoch.metrics["valid_fpr@4"]}),
        RunOptions(cpus=1),
        RunHooks(),
    )
    assert list(curve) == [1, 2, 3]
    assert {epoch: curve[epoch] for epoch in copy.intermediate_values} == copy.intermediate_values
    # What is before was the parent's.
    parent = trials[copy.user_attrs[ORIGIN][TRIAL]]
    epoch = copy.user_attrs[ORIGIN][EPOCH]
    assert curve[epoch] == parent.intermediate_values[epoch]


def test_no_checkpoint_is_left_that_nothing_begins_from(trained):
    folder, _, output = trained
    assert not [*folder.path.glob("trials/*/checkpoints/epoch-*.ckpt")]
    assert "gate passed" in output
    assert "Traceback" not in output


def test_the_table_says_what_a_copy_was_trained_with_before(trained):
    _, trials, output = trained
    copy = next(trial for trial in trials if ORIGIN in trial.user_attrs)
    then = copy.user_attrs["values"]["schedule"][0]
    line = next(line for line in output.splitlines() if line.split()[:1] == [str(copy.number)])
    assert f"schedule=lr {then['values'][LR]:.4g} to {then['epochs']}" in line
