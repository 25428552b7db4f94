"""A real study with finalists, kept in a storage; killed, lost and resumed, it comes to the same."""

import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from otter_ray.config import find_space, load_config
from otter_ray.direction import Direction
from otter_ray.study.finalists import by_mean, read_finalists
from otter_ray.study.journal import newest_study, open_journal
from otter_ray.study.layout import JOURNAL
from otter_ray.study.storage import Storage
from otter_ray.study.trials import rank, read_records
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training
from tests.support.commands import descendants, wait_for
from tests.support.storage_fixtures import BUCKET

pytestmark = pytest.mark.timeout(600)
TRIALS = 5


@dataclass(frozen=True)
class Study:
    """One that was run by a command: where, where it is kept, and what it says about itself."""

    root: Path
    storage: Storage

    @property
    def folder(self):
        return self.root / "runs/demo/tiny"

    @property
    def finalists(self):
        study = newest_study(open_journal(self.folder / JOURNAL))
        return read_finalists(study, self.folder, read_records(study), Direction.MAX)

    @property
    def winner(self):
        """The run that is exported."""
        return rank(by_mean(self.finalists, Direction.MAX)[0].runs, Direction.MAX)[0]

    def ended_there(self, journal):
        """Trial or run -> (state, value) of those that have ended, as the storage knows them."""
        if (content := self.storage.read(journal)) is None:
            return {}
        copy = self.root / "copy.journal"
        copy.write_bytes(content)
        rows = read_records(newest_study(open_journal(copy)))
        return {row.number: (row.state, row.value) for row in rows if row.state in ("complete", "pruned")}

    def check_what_is_kept(self):
        """What the storage must hold, and what neither it nor the driver's disk is to hold any more."""
        [onnx] = self.folder.glob("*.onnx")
        assert self.storage.read(onnx.name) == onnx.read_bytes()
        winner = f"finals/trials/{self.winner.number:04d}"
        assert self.storage.exists(f"{winner}/checkpoints/best.ckpt")
        # What nothing can go on from any more takes no room there.
        last = [f"trials/{number:04d}/checkpoints/last.ckpt" for number in range(TRIALS)]
        assert not [
            name for name in (*last, *(f"finals/{name}" for name in last)) if self.storage.exists(name)
        ]
        # Nothing was written to the driver's disk but what was exported, and the base beside it.
        here = [path.relative_to(self.folder) for path in self.folder.glob("**/trials/*")]
        assert sorted(map(str, here)) == [winner, "trials/0000"]


@pytest.fixture(scope="module")
def arguments(tiny_sets):
    """Those of the study, kept in a place."""

    def of(root, place):
        space = yaml.safe_load(find_space("demo").read_text())
        space["study"]["finalists"] = {"top": 2, "seeds": 2}
        (root / "space.yaml").write_text(yaml.safe_dump(space))
        return [
            "demo", *tiny_sets, "--trials", TRIALS,
            "--space", root / "space.yaml", "--storage", place, "--name", "tiny",
        ]  # fmt: skip

    return of


def killed(command, study, journal, enough):
    """Kill a command when so many have ended, lose its folder; give those that the storage knows."""
    wait_for(lambda: len(study.ended_there(journal)) >= enough, 300)
    orphans = descendants(command.process.pid)
    os.killpg(command.process.pid, signal.SIGKILL)
    command.end()
    for orphan in orphans:
        orphan.kill()
    shutil.rmtree(study.root / "runs")
    return study.ended_there(journal)


@pytest.fixture(scope="module")
def ended(arguments, tune, tune_here, tmp_path_factory):
    """(the study, what it printed, what had ended when it was killed): kept in a path."""
    root = tmp_path_factory.mktemp("finals")
    line, study = arguments(root, root / "kept"), Study(root, Storage(str(root / "kept/demo/tiny")))
    before = killed(tune(*line, folder=root, own_server=True), study, JOURNAL, 2)
    code, output = tune_here(*line, "--resume", folder=root)
    assert code == 0, output
    return study, output, before


def test_killed_in_the_search_it_loses_nothing(ended):
    """It was resumed where nothing of it was, and on another Ray: no ended trial is lost or runs again."""
    study, _, before = ended
    assert 2 <= len(before) < TRIALS
    after = study.ended_there(JOURNAL)
    assert {number: after[number] for number in before} == before
    rows = pq.read_table(study.folder / "trials.parquet").to_pylist()
    assert sum(row["state"] in ("complete", "pruned") for row in rows) == TRIALS
    study.check_what_is_kept()


def test_it_says_what_it_will_cost_and_who_won(ended):
    study, output, _ = ended
    assert "+ 4 runs of finalists, 8 epochs: the best 2 of the trials over 2 seeds each" in output
    assert "Finalists by mean valid_fpr@4" in output
    winner = by_mean(study.finalists, Direction.MAX)[0]
    # A run of the base config is not held against the base config.
    assert ("of the best of its seeds: quote the mean" in output) == (winner.trial.number != 0)
    assert f"trial {winner.trial.number} wins" in output
    assert f"{winner.mean:.4f} ± {winner.spread:.4f}" in output
    assert "gate passed" in output


def test_the_best_run_of_the_best_mean_is_exported_and_can_be_repeated(ended, tmp_path):
    study, _, _ = ended
    config = load_config(str(study.folder / "best.yaml"))
    assert config.common.seed == study.winner.values["common.seed"] > 0
    assert len(study.winner.curve) == config.trainer.max_epochs
    curve = []
    run_training(
        config,
        tmp_path,
        lambda epoch: curve.append(epoch.metrics["valid_fpr@4"]),
        RunOptions(cpus=1),
        RunHooks(),
    )
    assert curve == study.winner.curve


def test_the_report_and_the_table_hold_the_finals(ended, capsys):
    from otter_ray.report.__main__ import report

    study, _, _ = ended
    report([study.folder])
    assert f"trial {by_mean(study.finalists, Direction.MAX)[0].trial.number} wins" in capsys.readouterr().out
    table = pq.read_table(study.folder / "finals/trials.parquet").to_pydict()
    assert sorted(zip(table["finalist"], table["common.seed"], strict=True)) == sorted(
        (finalist.trial.number, seed) for finalist in study.finalists for seed in (1, 2)
    )


def test_killed_in_the_finals_it_comes_to_the_same(ended, arguments, tune, s3, tmp_path):
    """On a machine that has nothing of it but what S3 keeps."""
    kept, place = ended[0].root / "kept/demo/tiny", f"s3://{BUCKET}/finals"
    resumed = Study(tmp_path, Storage.of(place, "demo", "tiny"))
    for path in kept.rglob("*"):
        name = path.relative_to(kept)
        if path.is_file() and name.parts[0] != "finals" and "_fp32." not in path.name:
            resumed.storage.put(path, str(name))
    (tmp_path / "storage.txt").write_text(f"{resumed.storage.uri}\n")
    resumed.storage.put(tmp_path / "storage.txt", "storage.txt")
    line = [*arguments(tmp_path, place), "--resume"]
    before = killed(tune(*line, folder=tmp_path, own_server=True), resumed, f"finals/{JOURNAL}", 1)
    assert 1 <= len(before) < 4
    code, output = tune(*line, folder=tmp_path).end()
    assert code == 0, output
    assert f"all {TRIALS} trials are done" in output
    after = resumed.ended_there(f"finals/{JOURNAL}")
    assert {number: after[number] for number in before} == before
    assert told(resumed) == told(ended[0])
    best = [study.folder.joinpath("best.yaml").read_text() for study in (resumed, ended[0])]
    assert best[0] == best[1]
    resumed.check_what_is_kept()


def told(study):
    """All that is determined about the runs."""
    return [
        (
            finalist.trial.number,
            [replace(run, number=0, seconds=None, host=None, log="") for run in finalist.runs],
        )
        for finalist in study.finalists
    ]
