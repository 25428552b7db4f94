"""A trial whose process a signal ends: the user is told which, and where."""

from otter_ray.study.trials import read_records

PROJECT = '''
"""The documents' project, with a loss whose third step aborts: the pre-flight takes one, in one process."""
import os

from otter_ray.projects.docclassifier import *


class AbortingLoss(CosFace):
    steps = 0

    def forward(self, embeddings, labels):
        self.steps += 1
        if self.steps == 3:
            os.abort()
        return super().forward(embeddings, labels)
'''
SPACE = """
parameters:
  model.loss.name: {type: categorical, choices: [AbortingLoss]}
study: {num_trials: 2, retries: 1}
"""


def test_a_trial_whose_process_aborts_says_so(tune_here, tiny_sets, reopened, tmp_path, monkeypatch):
    (tmp_path / "aborting.py").write_text(PROJECT)
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = [*tiny_sets, "--set", "project=aborting", "--space", tmp_path / "space.yaml", "--name", "aborts"]
    given += ["--storage", tmp_path / "copy"]  # so its own folder is gone with the process
    code, output = tune_here("demo", *given, folder=tmp_path)
    assert code == 0, output
    died = "its process died (SIGABRT; crash.txt in its folder says where)"
    assert f"{died}; it resumes from its last checkpoint" in output
    base, other = read_records(reopened(tmp_path / "runs/demo/aborts").study)
    assert (base.state, other.state, other.error) == ("complete", "failed", died)
    assert "in forward" in (tmp_path / "runs/demo/aborts/trials/0001/crash.txt").read_text()
    assert not (tmp_path / "runs/demo/aborts/trials/0000/crash.txt").exists()
    assert (tmp_path / "copy/demo/aborts/trials/0000/log.txt").is_file()
