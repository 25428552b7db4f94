"""When a search ends before all its trials have: over real Optuna studies."""

import os
import signal
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState, create_trial

from otter_ray.errors import StudyError
from otter_ray.tune import halt as halts
from otter_ray.tune.endings import kind_of
from otter_ray.tune.halt import Halt, HaltTune, two_interrupts, used_up
from otter_ray.tune.limits import Limits, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_time_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2h3", "0s", "2w", "1e3s", "٣m٣"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(StudyError, match="is no time"):
        parse_duration(text)


def ended(study, value=None, error=None):
    """One more trial, with a value or failed."""
    state = TrialState.COMPLETE if error is None else TrialState.FAIL
    study.add_trial(
        create_trial(
            state=state,
            value=value,
            intermediate_values={} if value is None else {1: value},
            user_attrs={} if error is None else {"error": error},
        )
    )


@pytest.fixture
def watched(study):
    """Starts a Halt over the study; gives it, and what it has told."""

    def start(**limits):
        told = []
        return Halt(study, Limits(**limits), told.append), told

    return start


def test_epochs_of_earlier_commands_count(study, watched):
    ended(study, 0.5)
    halt, told = watched(epochs=3)
    halt.epoch_done()
    assert not halt.reason
    halt.epoch_done()
    assert halt.reason == "3 epochs are done"
    assert told == ["3 epochs are done: running trials finish their epoch, then the search ends"]
    assert not halt.is_fault


def test_a_used_up_budget_ends_the_next_command_at_once(study, watched):
    ended(study, 0.5)
    assert watched(epochs=1)[0].reason


@pytest.mark.parametrize("limits", [{"epochs": 2}, {"patience": 1}])
def test_limits_that_are_used_up_are_seen_before_anything_starts(study, limits):
    ended(study, 0.5)
    assert used_up(study, Limits(**limits)) is None
    ended(study, 0.4)
    assert used_up(study, Limits(**limits)).reason
    assert not used_up(study, Limits(**limits)).ends_command


def test_the_time_is_of_this_command(watched, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(halts.time, "monotonic", lambda: now[0])
    halt, _ = watched(seconds=60)
    halt.look_at_the_clock()
    assert not halt.reason
    assert not halt.ends_command
    now[0] += 60
    assert halt.ends_command
    halt.look_at_the_clock()
    assert "time budget" in halt.reason


def test_patience_counts_trials_without_a_better_value(study, watched):
    halt, _ = watched(patience=3)
    for value in (0.5, 0.6, 0.1, 0.6, None):
        ended(study, value, error=None if value else "broken")
        halt.trial_ended(len(study.trials) - 1)
        assert bool(halt.reason) == (value is None)
    assert halt.reason == "3 trials in a row brought no better value"


def test_a_study_whose_trials_all_fail_alike_ends(study, watched):
    halt, _ = watched()
    for step in (17, 23):
        ended(study, error=f"the loss is nan after step {step}")
        halt.trial_ended(len(study.trials) - 1)
    assert not halt.reason
    ended(study, error="the loss is nan after step 99")
    halt.trial_ended(len(study.trials) - 1)
    assert halt.is_fault
    assert "all 3 trials so far failed alike: the loss is nan after step" in halt.reason
    assert "trials/0000/log.txt" in halt.reason


@pytest.mark.parametrize("other", [{"value": 0.5}, {"error": "another one"}])
def test_one_that_ended_otherwise_shows_that_the_study_is_sound(study, watched, other):
    halt, _ = watched()
    ended(study, **other)
    for _ in range(4):
        ended(study, error="the same")
        halt.trial_ended(len(study.trials) - 1)
    assert not halt.reason


def test_the_first_reason_counts_but_a_fault_outweighs_it(watched):
    halt, told = watched()
    halt.interrupt()
    halt.ask("the time budget is used up")
    assert (halt.reason, halt.is_interrupt, len(told)) == ("interrupted (again: at once)", True, 1)
    halt.fail("the disk is full")
    assert (halt.reason, halt.is_fault) == ("the disk is full", True)


def test_the_end_does_not_wait_for_a_trial_that_waits_for_another_slot(watched):
    halting, trial = HaltTune(watched()[0]), SimpleNamespace(trial_id="ray-0")
    halting.on_trial_start(1, [], trial)
    halting.halt.interrupt()
    assert not halting.stop_all()
    halting.on_trial_recover(1, [], trial)
    assert halting.stop_all()


def test_the_second_interrupt_ends_at_once(watched):
    halt, told = watched()
    before = signal.getsignal(signal.SIGINT)
    with two_interrupts(halt):
        os.kill(os.getpid(), signal.SIGINT)
        assert halt.is_interrupt
        assert "running trials finish their epoch" in told[0]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_at_once(watched):
    """`ray job stop` and a container's end wait for some seconds only."""
    halt, _ = watched()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), two_interrupts(halt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not halt.is_interrupt
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.50 GiB",
            "CUDA out of memory. Tried to allocate 512.00 MiB",
        ),
        ("cannot read /tmp/otter_ray_a1b2c3/trials/0001/x", "cannot read /tmp/otter_ray_zz9/trials/0002/x"),
        ("the loss is nan after step 3", "the loss is -inf after step 17"),
        ("DataLoader worker (pid 411) is killed", "DataLoader worker (pid 977) is killed"),
    ],
)
def test_errors_of_one_kind(one, other):
    assert kind_of(one) == kind_of(other)
    assert kind_of(one) != kind_of("the file is no image")
