"""One small study, and what it must come to whatever is killed meanwhile."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from optuna.storages.journal._storage import JournalOperation

from otter_ray.study.journal import open_journal
from otter_ray.study.layout import StudyFolder

SPACE = Path(__file__).with_name("one_slot.yaml")
NOT_REPEATED = {"seconds", "host"}


@pytest.fixture(scope="session")
def full():
    """Whether `make chaos` runs."""
    return os.environ.get("OTTER_RAY_CHAOS") == "full"


@pytest.fixture(scope="session", autouse=True)
def dead_nodes_are_noticed_soon():
    """After 3 s instead of 12, in which a slot whose raylet is dead goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        yield


class Subject:
    """A study that is started, disturbed and resumed, each time by the same command."""

    def __init__(self, tune, arguments, trials, runs):
        self.tune, self.trials, self.runs = tune, trials, runs
        self.arguments = [*arguments, "--trials", trials]
        self.folder = StudyFolder(runs / "demo/subject")
        self.own_server = False

    def start(self):
        resume = ["--resume"] if self.folder.path.exists() else []
        return self.tune(
            *self.arguments, "--runs", self.runs, *resume, folder=self.runs, own_server=self.own_server
        )

    def lines(self):
        """What the journal holds."""
        whole = self.folder.journal.read_bytes().rpartition(b"\n")[0] if self.folder.journal.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    def epochs(self):
        """(trial, epoch) of every one in the journal, as often as it is there."""
        return [(line["trial_id"], line["step"]) for line in self.lines() if "step" in line]

    def ends(self):
        """Trial by trial, as often as it ended."""
        told = JournalOperation.SET_TRIAL_STATE_VALUES
        return [line["trial_id"] for line in self.lines() if line["op_code"] == told and line["state"] > 0]

    def is_done(self):
        return len(set(self.ends())) == self.trials

    def outcome(self):
        """All that is determined about a finished study. That nothing is there twice is asserted."""
        for counted in (self.epochs(), self.ends()):
            assert max(Counter(counted).values()) == 1
        storage = open_journal(self.folder.journal)
        [study] = storage.get_all_studies()
        trials = [
            (trial.number, trial.state.name, trial.value, trial.params, trial.intermediate_values,
             {key: value for key, value in trial.user_attrs.items() if key not in NOT_REPEATED})
            for trial in storage.get_all_trials(study._study_id)
        ]  # fmt: skip
        return trials, (self.folder.path / "best.yaml").read_text(), self.gate()

    def gate(self):
        """What the newest exported model's figures are."""
        newest = max(self.folder.path.glob("*_fp32*.json"), key=lambda path: path.stat().st_mtime)
        return json.loads(newest.read_text())["gate"]


@pytest.fixture(scope="session")
def subject(tune, tiny_sets, full):
    """Makes a study in a folder."""

    def make(runs, *more):
        sizes = {"trainer.max_epochs": 4, "dataset.train_options.options.length_of_dataset": 384}
        sets = [part for key, value in sizes.items() for part in ("--set", f"{key}={value}")]
        arguments = ["demo", *tiny_sets, *sets, "--space", SPACE]
        return Subject(tune, [*arguments, "--name", "subject", *more], 40 if full else 6, runs)

    return make


@pytest.fixture(scope="session")
def undisturbed(subject, tmp_path_factory):
    """What the study comes to where nobody disturbs it."""
    calm = subject(tmp_path_factory.mktemp("undisturbed"))
    code, output = calm.start().end()
    assert code == 0, output
    return calm.outcome()
