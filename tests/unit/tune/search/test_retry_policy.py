"""Whether a failed trial is tried again: the rules, without a study."""

import pytest

from otter_ray.tune.messages import FailureKind, TrialFailure
from otter_ray.tune.search.retry_policy import Decision, FailedAttempt, FailureHistory, RetryPolicy

POLICY = RetryPolicy(max_retries=3)


def failed(error="a file is busy", kind=FailureKind.ERROR, epoch=0):
    return FailedAttempt(TrialFailure(error, kind), epoch)


def after(*attempts, deaths=0):
    return FailureHistory(attempts, deaths)


@pytest.mark.parametrize(
    ("kind", "decision"),
    [
        (FailureKind.ERROR, Decision.RETRY),
        (FailureKind.PROCESS_DIED, Decision.RETRY),
        (FailureKind.DETERMINISTIC, Decision.FAIL),
        (FailureKind.STUDY, Decision.ABORT_STUDY),
    ],
)
def test_a_first_failure_is_judged_by_its_kind(kind, decision):
    assert POLICY.decide(failed(kind=kind), after()) is decision


@pytest.mark.parametrize(
    ("error", "epoch", "decision"),
    [
        ("a file is busy", 2, Decision.FAIL),
        ("a file is busy", 3, Decision.RETRY),  # it has come further
        ("the network is down", 2, Decision.RETRY),
    ],
)
def test_the_same_failure_at_the_same_epoch_is_not_tried_again(error, epoch, decision):
    assert POLICY.decide(failed(error, epoch=epoch), after(failed(epoch=2))) is decision


def test_numbers_in_an_error_do_not_make_it_another_one():
    tried = after(failed("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert POLICY.decide(failed("CUDA out of memory. Tried to allocate 20.00 MiB"), tried) is Decision.FAIL


@pytest.mark.parametrize(
    ("reported", "deaths", "decision"),
    [(2, 0, Decision.RETRY), (3, 0, Decision.FAIL), (1, 1, Decision.RETRY), (1, 2, Decision.FAIL)],
)
def test_failures_and_deaths_are_counted_together(reported, deaths, decision):
    tried = after(*(failed(f"error {word}") for word in "abc"[:reported]), deaths=deaths)
    assert POLICY.decide(failed("another one"), tried) is decision


def test_a_death_is_counted_with_deaths_only():
    """As Tune counts it."""
    tried = after(*(failed(f"error {word}") for word in "abc"), deaths=2)
    assert POLICY.decide(failed(kind=FailureKind.PROCESS_DIED), tried) is Decision.RETRY
    tried = after(deaths=3)
    assert POLICY.decide(failed(kind=FailureKind.PROCESS_DIED), tried) is Decision.FAIL


def test_without_retries_every_failure_counts():
    assert RetryPolicy(0).decide(failed(), after()) is Decision.FAIL
    assert RetryPolicy(0).decide(failed(kind=FailureKind.STUDY), after()) is Decision.ABORT_STUDY
