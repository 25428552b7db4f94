"""The state of a running study, fed with events of no Tune."""

import pytest

from otter_ray.space import StudyOptions
from otter_ray.study.naming import StudyNames
from otter_ray.study.status import TrialStatus
from otter_ray.study.trials import TrialRecord
from otter_ray.tune.cluster.planner import make_plan
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.messages import EpochResult, GpuMemory, TrialResources

METRIC = "valid_fpr@4"
ASHA = {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 3}}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(clock):
    """Makes the state of a study of trials of 9 epochs."""

    def make(trials=4, slots=2, scheduler=ASHA, mode="max", **more):
        options = StudyOptions(num_trials=trials, scheduler=scheduler, mode=mode)
        plan = make_plan(options, [Node(slots)], accelerator="cpu", max_epochs=9)
        return StudyState(options, 9, plan, clock=clock, **more)

    return make


def row(number, curve, state="complete", is_base=False, is_feasible=True, first=1):
    best = max(curve, default=None)
    return TrialRecord(
        number=number, is_base=is_base, state=TrialStatus(state), value=best,
        best_epoch=curve.index(best) + first if curve else 0, epochs=len(curve) and first + len(curve) - 1,
        values={} if is_base else {"a": number}, curve=curve, metrics=[], seconds=1.0, host="here",
        error=None, log="", config=None, is_feasible=is_feasible,
    )  # fmt: skip


def train(state, number, curve, end=None, values=None):
    """A trial's events, from its first epoch on."""
    state.began(number, {"a": number} if values is None else values)
    for epoch, value in enumerate(curve, 1):
        assert state.epoch_done(number, EpochResult(epoch, value))
    if end:
        state.ended_as(row(number, curve, end, is_base=values == {}))


def test_the_best_so_far_stands_beside_the_base(begin):
    state = begin()
    assert state.best is state.base is None
    train(state, 0, [0.5, 0.7, 0.6], values={})
    assert (state.base.value, state.base.epoch, state.best.number) == (0.7, 2, 0)
    train(state, 1, [0.2, 0.7])
    assert state.best.number == 0  # the first of equals
    train(state, 2, [0.9], "failed")
    assert state.best.number == 0  # a model that failed is none
    state.ended_as(row(1, [0.2, 0.7, 0.8]))
    assert (state.best.value, state.best.number, state.best.epoch) == (0.8, 1, 3)
    assert (state.base.value, state.states) == (0.7, {0: "unfinished", 1: "complete", 2: "failed"})


def test_less_is_better_where_the_study_says_so(begin):
    state = begin(mode="min")
    train(state, 0, [0.5, 0.3, 0.6], values={})
    train(state, 1, [0.4])
    assert (state.best.value, state.best.number, state.best.epoch) == (0.3, 0, 2)


def test_a_base_that_violates_a_constraint_is_shown_and_never_the_best(begin):
    state = begin(base_counts=False)
    train(state, 0, [0.9], values={})
    assert (state.base.value, state.best) == (0.9, None)
    state.ended_as(row(0, [0.9], is_base=True, is_feasible=False))
    assert state.best is None


def test_an_epoch_that_is_told_again_counts_once(begin):
    state = begin(rows=[row(0, [0.5, 0.6], "unfinished", is_base=True), row(1, [0.3], "pruned")])
    state.began(0, {})
    assert not state.epoch_done(0, EpochResult(2, 0.6))
    assert state.epoch_done(0, EpochResult(3, 0.4))
    assert state.running[0].curve == [0.5, 0.6, 0.4]
    assert (state.base.value, state.base.epoch) == (0.6, 2)
    state.began(0, {})  # its node died
    assert state.running[0].epoch == 3


def test_rungs_count_who_arrived_and_who_went_on(begin):
    state = begin(rows=[row(0, [0.1] * 9, is_base=True), row(1, [0.1], "pruned")])
    assert state.rungs == [1, 3]
    train(state, 2, [0.1, 0.1], "pruned")  # as another scheduler's rung would, at an epoch between two
    train(state, 3, [0.1, 0.1, 0.1])
    assert [(state.arrived[rung], state.passed(rung)) for rung in state.rungs] == [(4, 2), (2, 2)]
    state.ended_as(row(3, [0.1] * 3, "pruned"))
    assert [(state.arrived[rung], state.passed(rung)) for rung in state.rungs] == [(4, 2), (2, 1)]
    assert begin(scheduler={"name": "median"}).rungs == begin(scheduler={"name": "Hyperband"}).rungs == []


def test_ended_trials_are_counted_and_those_that_are_to_go_on_are_not(begin):
    state = begin(rows=[row(0, [0.1], "failed"), row(1, [0.1], "unfinished"), row(2, [], "infeasible")])
    assert (state.ended, state.trials) == (1, 5)
    train(state, 3, [0.1], "unfinished")
    assert (state.ended, len(state.running)) == (1, 0)
    train(state, 3, [], "complete")
    assert state.ended == 2
    # One of a population gives its place to another trial, which counts in its stead.
    population = begin(scheduler={"name": "PBT"})
    train(population, 0, [0.1], "pruned")
    assert population.ended == 0


def test_the_time_left_follows_the_pace_and_what_trials_take(begin, clock):
    state = begin(trials=4, scheduler={"name": "none"})
    assert state.seconds_left is state.trials_an_hour is None
    for number in (0, 1):
        state.began(number, {"a": number})
    for epoch in range(1, 10):
        for number in (0, 1):
            clock.now += 5
            state.epoch_done(number, EpochResult(epoch, 0.1))
    for number in (0, 1):
        state.ended_as(row(number, [0.1] * 9))
    # Two trials of nine epochs are to come, at one epoch in 5 s.
    assert state.seconds_left == pytest.approx(90)
    assert state.trials_an_hour == pytest.approx(2 * 3600 / 90)
    clock.now += 85
    assert state.seconds_left == pytest.approx(180)  # nothing came meanwhile
    assert begin(until=clock.now + 7).seconds_left is None
    state.until = clock.now + 7
    assert state.seconds_left == 7


def test_trials_that_are_stopped_sooner_than_expected_shorten_the_time_left(begin, clock):
    state = begin(trials=100)
    before = state.plan.epochs_expected / 100
    for number in range(40):
        clock.now += 1
        train(state, number, [0.1], "pruned")
    clock.now += 1
    state.began(40, {"a": 1})
    left = state.seconds_left
    assert 60 < left < 60 * before


def test_memory_of_a_gpu_is_the_most_that_a_trial_needed(begin):
    state = begin()
    assert state.gpu is None
    for number, peak in ((0, 3), (1, 5), (2, 4)):
        state.began(number, {"a": number})
        state.epoch_done(number, EpochResult(1, 0.1, resources=TrialResources(gpu=GpuMemory(peak, 80))))
    assert state.gpu == GpuMemory(5, 80)


def test_names_and_logs_of_finalists_are_their_own(begin):
    state = begin(names=StudyNames("demo/s", {3: "5 seed 1"}, "finals/"))
    assert (state.names.trial(3), state.names.log(3)) == ("5 seed 1", "finals/trials/0003/log.txt")


def test_an_event_costs_as_much_in_a_long_study(begin):
    """What is kept of a trial that ended is its state."""
    state = begin(trials=3000)
    for number in range(3000):
        train(state, number, [0.1], "pruned")
    assert (len(state.running), len(state.rows_left), state.counts["pruned"]) == (0, 0, 3000)
