"""A process that a signal ends leaves the signal's name and where it was."""

import subprocess
import sys

import pytest

from otter_ray.study.crash_report import crash_report, describe_death
from otter_ray.study.layout import StudyFolder

DIES = """
import os, signal, sys
from pathlib import Path
from otter_ray.study.crash_report import crash_report

def in_a_kernel():
    os.kill(os.getpid(), int(sys.argv[2]))

with crash_report(Path(sys.argv[1])):
    in_a_kernel()
"""


@pytest.fixture
def study(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.trial(7).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("number", "name"), [(6, "SIGABRT"), (11, "SIGSEGV"), (8, "SIGFPE")])
def test_the_signal_is_named(study, number, name):
    path = study.trial(7) / "crash.txt"
    subprocess.run([sys.executable, "-c", DIES, path, str(number)], check=False)
    assert describe_death(study, 7, "?") == f"its process died ({name}; crash.txt in its folder says where)"
    assert "in in_a_kernel" in path.read_text()


def test_the_workers_of_a_group_have_reports_of_their_own(study):
    (study.trial(7) / "crash.0.txt").touch()
    subprocess.run([sys.executable, "-c", DIES, study.trial(7) / "crash.1.txt", "6"], check=False)
    assert describe_death(study, 7, "?").startswith("its process died (SIGABRT; crash.1.txt ")


def test_a_process_that_was_killed_leaves_nothing(study):
    subprocess.run([sys.executable, "-c", DIES, study.trial(7) / "crash.txt", "9"], check=False)
    assert describe_death(study, 7, "unknown") == "unknown"
    assert describe_death(None, 7, "unknown") == "unknown"


def test_a_trial_that_ends_leaves_nothing(study):
    with crash_report(study.trial(7) / "crash.txt"):
        assert (study.trial(7) / "crash.txt").exists()
    assert not [*study.trial(7).iterdir()]


def test_an_error_that_python_tells_leaves_no_report(study):
    path = study.trial(7) / "crash.txt"
    with pytest.raises(ValueError, match="an ordinary one"), crash_report(path):
        raise ValueError("an ordinary one")
    assert not path.exists()
