"""What driver and trial tell each other arrives as it was sent, among the keys that Tune adds."""

import pytest
from ray.tune.utils import flatten_dict

from otter_ray.tune.messages import (
    EpochResult,
    FailureKind,
    GpuMemory,
    ParentCheckpoint,
    TrialAssignment,
    TrialFailure,
    TrialResources,
    WorkerGroup,
    is_last,
    read_report,
)

# What Tune adds to each report of a trial.
TUNES = {"done": False, "training_iteration": 3, "config": {"number": 0}, "hostname": "here", "date": "today"}
USED = TrialResources(12.5, "here", GpuMemory(peak=3, total=80))


@pytest.mark.parametrize("parent", [None, ParentCheckpoint(trial=3, epoch=6)])
def test_an_assignment_arrives(parent):
    assignment = TrialAssignment(7, {"optimizer.options.lr": 0.01}, parent)
    assert TrialAssignment.from_tune(assignment.to_tune()) == assignment
    assert not assignment.is_base


def test_the_base_changes_nothing():
    assert TrialAssignment(0, {}).to_tune() == {"number": 0, "values": {}}
    assert TrialAssignment(0, {}).is_base


@pytest.mark.parametrize("used", [USED, TrialResources(1.0, "there"), TrialResources()])
@pytest.mark.parametrize(
    "make",
    [
        lambda used: EpochResult(2, 0.5, {"valid_fpr@4": 0.5, "loss": 1.25}, used),
        lambda used: TrialFailure("a file is busy", resources=used),
        lambda used: TrialFailure("the disk is full", FailureKind.STUDY, used),
    ],
)
def test_a_report_arrives(make, used):
    """Tune flattens a report before schedulers and callbacks get it."""
    message = make(used)
    assert read_report(flatten_dict({**TUNES, **message.to_tune()})) == message


@pytest.mark.parametrize("nothing", [None, {}, {**TUNES, "done": True}])
def test_a_trial_that_reported_nothing_is_told_from_one_that_did(nothing):
    assert read_report(nothing) is None


def test_the_worker_group_goes_along_with_a_report():
    result, group = EpochResult(1, 0.5), WorkerGroup("abc", run="def")
    report = {**result.to_tune(), **group.to_tune()}
    assert WorkerGroup.from_tune(report) == group
    assert read_report(report) == result
    assert WorkerGroup.from_tune(result.to_tune()) is None


def test_tune_says_which_report_is_the_last():
    report = EpochResult(1, 0.5).to_tune()
    assert not is_last(report)
    assert not is_last(None)
    assert is_last({**report, "done": True})
