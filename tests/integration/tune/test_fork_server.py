"""A study whose processes are forked, and the same one whose processes all import torch."""

import subprocess
import sys

import pytest

from otter_ray.study.journal import read_study
from otter_ray.study.layout import StudyFolder
from otter_ray.tune.worker.forks import SWITCH

# The command, and what it has imported in the end.
DRIVER = """
import atexit, sys
atexit.register(lambda: print("imported:", *(m for m in ("torch", "lightning", "timm") if m in sys.modules)))
sys.argv[0] = "otter_ray.tune"
import runpy
runpy.run_module("otter_ray.tune", run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tiny_sets, session_cache, tmp_path_factory):
    """Runs two trials; gives what was printed, and each trial's curve."""

    def study(*arguments):
        folder = tmp_path_factory.mktemp("forked")
        line = ["demo", *tiny_sets, "--trials", "2", "--name", "tiny", *arguments]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *line], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        trials = read_study(StudyFolder(folder / "runs/demo/tiny").journal).get_trials()
        return done.stdout, {trial.number: trial.intermediate_values for trial in trials}

    return study


@pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")
def test_the_driver_imports_no_torch_and_no_digit_changes(run, monkeypatch):
    output, curves = run()
    assert output.splitlines()[-1] == "imported:"
    assert "gate passed" in output
    assert "imports torch by itself" not in output
    monkeypatch.setenv(SWITCH, "0")
    output, others = run()
    assert output.splitlines()[-1] == "imported: torch lightning timm"
    assert "each worker imports torch by itself, which takes longer: OTTER_RAY_FORK_SERVER=0" in output
    assert others == curves
