"""A node that is gone without a word, in the middle of a trial: real nodes, real training."""

import re

import pytest
import yaml
from ray.cluster_utils import Cluster
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from otter_ray.space import load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training
from tests.support.commands import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SMALL = {"object_store_memory": 10**8}
LONGER = {"dataset.train_options.options.length_of_dataset": 1024, "trainer.max_epochs": 8}
SPACE = {
    "parameters": {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}},
    "study": {"num_trials": 2, "scheduler": {"name": "none"}},
}


@pytest.fixture
def cluster():
    """A head that runs no trials."""
    nodes = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


def first_step(events):
    """Of what one process logged of a trial."""
    accumulator = EventAccumulator(str(events)).Reload()
    return min(scalar.step for tag in accumulator.Tags()["scalars"] for scalar in accumulator.Scalars(tag))


def test_its_trial_goes_on_elsewhere_and_the_other_one_is_not_disturbed(
    cluster, tune, tiny_config, tiny_sets, tmp_path
):
    """Both come to what they come to where each trains alone, to the last digit."""
    lost, _ = (cluster.add_node(num_cpus=1, **SMALL) for _ in range(2))
    sets = [*tiny_sets, *(part for key, value in LONGER.items() for part in ("--set", f"{key}={value}"))]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(SPACE))
    arguments = [*sets, "--space", tmp_path / "two.yaml", "--name", "n", "--address", cluster.address]
    command = tune("demo", *arguments, folder=tmp_path)
    checkpoints = [tmp_path / f"runs/demo/n/trials/000{number}/checkpoints/last.ckpt" for number in (0, 1)]
    wait_for(lambda: all(path.exists() for path in checkpoints), 300)
    cluster.remove_node(lost, allow_graceful=False)
    code, output = command.end()
    assert code == 0, output
    assert len(re.findall("its process died; it resumes from its last checkpoint", output)) == 1
    folder = StudyFolder(tmp_path / "runs/demo/n")
    rows = read_records(open_study(folder, load_space(str(tmp_path / "two.yaml")).study))
    assert [row.state for row in rows] == ["complete", "complete"]
    logs = [sorted(path.parents[1].glob("logger/events*"), key=first_step) for path in checkpoints]
    assert sorted(map(len, logs)) == [1, 2]
    # It did not begin anew.
    assert first_step(max(logs, key=len)[1]) > 1024 / 16
    for row in rows:
        alone = []
        config = tiny_config.with_values({**LONGER, **row.values})
        run_training(config, tmp_path / f"{row.number}", alone.append, RunOptions(cpus=1), RunHooks())
        assert row.curve == [report.metrics["valid_fpr@4"] for report in alone]
