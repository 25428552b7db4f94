"""When a search ends before all its trials have: over real Optuna studies."""

import pytest
from optuna.trial import TrialState, create_trial

from otter_ray.errors import StudyError
from otter_ray.study.outcomes import normalize_error
from otter_ray.tune.request import StopCriteria, parse_duration
from otter_ray.tune.search import stopping
from otter_ray.tune.search.stopping import StopController, already_met


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_time_is_read(text, seconds):
    assert parse_duration(text) == seconds


NOT_A_TIME = ["", "2", "h", "2 h", "-2h", "2h3", "0s", "2w", "1e3s", "٣m٣", "9" * 400 + "d"]
LONG = {"digits": "1" * 200_000, "fractions": "1." * 100_000, "parts": "1d" * 100_000 + "x"}


@pytest.mark.parametrize("text", NOT_A_TIME)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(StudyError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_is_refused_at_once(text):
    """A number without a unit took a quadratic time: 10 s for 16,000 digits."""
    with pytest.raises(StudyError, match="is not a duration"):
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
    """Make a StopController over the study; returns it, and what it has notified."""

    def start(**criteria):
        notified = []
        return StopController(study, StopCriteria(**criteria), notified.append), notified

    return start


def test_epochs_of_earlier_commands_count(study, watched):
    ended(study, 0.5)
    controller, notified = watched(epochs=3)
    controller.epoch_done()
    assert not controller.reason
    controller.epoch_done()
    assert controller.reason == "3 epochs are done"
    assert notified == ["3 epochs are done: running trials finish their epoch, then the search ends"]
    assert not controller.is_fault


def test_a_used_up_budget_ends_the_next_command_at_once(study, watched):
    ended(study, 0.5)
    assert watched(epochs=1)[0].reason


@pytest.mark.parametrize("criteria", [{"epochs": 2}, {"patience": 1}])
def test_criteria_that_are_met_are_seen_before_anything_starts(study, criteria):
    ended(study, 0.5)
    assert already_met(study, StopCriteria(**criteria)) is None
    ended(study, 0.4)
    assert already_met(study, StopCriteria(**criteria)).reason
    assert not already_met(study, StopCriteria(**criteria)).ends_command


def test_the_time_is_of_this_command(watched, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    controller, _ = watched(seconds=60)
    controller.check_time_budget()
    assert not controller.reason
    assert not controller.ends_command
    now[0] += 60
    assert controller.ends_command
    controller.check_time_budget()
    assert "time budget" in controller.reason


def test_patience_counts_trials_without_a_better_value(study, watched):
    controller, _ = watched(patience=3)
    for value in (0.5, 0.6, 0.1, 0.6, None):
        ended(study, value, error=None if value else "broken")
        controller.trial_ended(len(study.trials) - 1)
        assert bool(controller.reason) == (value is None)
    assert controller.reason == "3 trials in a row brought no better value"


def test_a_study_whose_trials_all_fail_alike_ends(study, watched):
    controller, _ = watched()
    for step in (17, 23):
        ended(study, error=f"the loss is nan after step {step}")
        controller.trial_ended(len(study.trials) - 1)
    assert not controller.reason
    ended(study, error="the loss is nan after step 99")
    controller.trial_ended(len(study.trials) - 1)
    assert controller.is_fault
    assert "all 3 trials so far failed in the same way: the loss is nan after step" in controller.reason
    assert "trials/0000/log.txt" in controller.reason


@pytest.mark.parametrize("other", [{"value": 0.5}, {"error": "another one"}])
def test_one_that_ended_otherwise_shows_that_the_study_is_sound(study, watched, other):
    controller, _ = watched()
    ended(study, **other)
    for _ in range(4):
        ended(study, error="the same")
        controller.trial_ended(len(study.trials) - 1)
    assert not controller.reason


def test_the_first_reason_counts_but_a_fault_outweighs_it(watched):
    controller, notified = watched()
    controller.interrupt()
    controller.request_stop("the time budget is used up")
    assert (controller.reason, controller.is_interrupt, len(notified)) == (
        "interrupted (press Ctrl-C again to stop at once)",
        True,
        1,
    )
    controller.abort("the disk is full")
    assert (controller.reason, controller.is_fault) == ("the disk is full", True)


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
    assert normalize_error(one) == normalize_error(other)
    assert normalize_error(one) != normalize_error("the file is no image")
