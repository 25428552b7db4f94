"""A real study that ends with finalists, kept in a storage; killed and lost between, it comes to the same."""

import os
import shutil
import signal
from dataclasses import dataclass, replace

import pyarrow.parquet as pq
import pytest
import yaml
from commands import descendants

from otter_ray.config import find_space, load_config
from otter_ray.report.finals import by_mean, read_finalists
from otter_ray.report.rows import newest_study, open_journal, rank, read_rows
from otter_ray.train.run import run_training

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Study:
    """One that was run by a command: where, and what it says about itself."""

    root: object

    @property
    def folder(self):
        return self.root / "runs/demo/tiny"

    @property
    def finalists(self):
        study = newest_study(open_journal(self.folder / "study.journal"))
        return read_finalists(study, self.folder, read_rows(study), "max")

    @property
    def winner(self):
        """The run that is exported."""
        return rank(by_mean(self.finalists, "max")[0].runs, "max")[0]


@pytest.fixture(scope="module")
def start(tune, tiny_sets):
    """Starts or resumes the study below a folder."""

    def run(root, *more):
        space = yaml.safe_load(find_space("demo").read_text())
        space["study"]["finalists"] = {"top": 2, "seeds": 2}
        (root / "space.yaml").write_text(yaml.safe_dump(space))
        arguments = ["--space", root / "space.yaml", "--storage", root / "kept", "--name", "tiny", *more]
        return tune("demo", *tiny_sets, "--trials", 3, *arguments, folder=root)

    return run


@pytest.fixture(scope="module")
def ended(start, tmp_path_factory):
    """(the study, what the command printed)."""
    root = tmp_path_factory.mktemp("finals")
    code, output = start(root).end()
    assert code == 0, output
    return Study(root), output


def test_it_says_what_it_will_cost_and_who_won(ended):
    study, output = ended
    assert "+ 4 runs of finalists, 8 epochs: the best 2 of the trials over 2 seeds each" in output
    assert "Finalists by mean valid_fpr@4" in output
    winner = by_mean(study.finalists, "max")[0]
    # A run of the base config is not held against the base config.
    assert ("of the best of its seeds: quote the mean" in output) == (winner.trial.number != 0)
    assert f"trial {winner.trial.number} wins" in output
    assert f"{winner.mean:.4f} ± {winner.spread:.4f}" in output
    assert "gate passed" in output


def test_the_best_run_of_the_best_mean_is_exported_and_can_be_repeated(ended, tmp_path):
    study, _ = ended
    config = load_config(str(study.folder / "best.yaml"))
    assert config.common.seed == study.winner.values["common.seed"] > 0
    assert len(study.winner.curve) == config.trainer.max_epochs
    curve = []
    run_training(
        config, tmp_path, lambda epoch: curve.append(epoch.metrics["valid_fpr@4"]), cpus=1, standalone=False
    )
    assert curve == study.winner.curve


def test_the_report_and_the_table_hold_the_finals(ended, capsys):
    from otter_ray.report.__main__ import report

    study, _ = ended
    report([study.folder])
    assert f"trial {by_mean(study.finalists, 'max')[0].trial.number} wins" in capsys.readouterr().out
    table = pq.read_table(study.folder / "finals/trials.parquet").to_pydict()
    assert sorted(zip(table["finalist"], table["common.seed"], strict=True)) == sorted(
        (finalist.trial.number, seed) for finalist in study.finalists for seed in (1, 2)
    )


def test_killed_between_and_in_the_finals_it_comes_to_the_same(ended, start, tmp_path):
    """Each time on a machine that has nothing of it but the storage."""
    shutil.copytree(ended[0].root / "kept", tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept/demo/tiny/finals")
    for file in (tmp_path / "kept/demo/tiny").glob("*_fp32.*"):
        file.unlink()
    (tmp_path / "kept/demo/tiny/storage.txt").write_text(f"{tmp_path / 'kept/demo/tiny'}\n")
    command = start(tmp_path, "--resume")
    command.read_until("seed")
    orphans = descendants(command.process.pid)
    os.killpg(command.process.pid, signal.SIGKILL)
    command.end()
    for orphan in orphans:
        orphan.kill()
    shutil.rmtree(tmp_path / "runs")
    code, output = start(tmp_path, "--resume").end()
    assert code == 0, output
    assert "all 3 trials are done" in output
    resumed = Study(tmp_path)
    assert told(resumed) == told(ended[0])
    best = [study.folder.joinpath("best.yaml").read_text() for study in (resumed, ended[0])]
    assert best[0] == best[1]


def told(study):
    """All that is determined about the runs."""
    return [
        (
            finalist.trial.number,
            [replace(run, number=0, seconds=None, host=None, log="") for run in finalist.runs],
        )
        for finalist in study.finalists
    ]
