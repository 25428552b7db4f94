"""Trials that run, in the eyes of the sampler."""

import random

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from otter_ray.direction import Direction
from otter_ray.study.optuna_compat import report_value
from otter_ray.tune.samplers.tpe import KEPT_BEST, TPE, WINDOW_SIZE, HistoryWindow

SPACE = {"x": FloatDistribution(0, 1)}
GOOD = 0.8  # where all that is good lies


def crowded():
    """Twenty trials that were stopped early are far from GOOD; four good ones run on, and have reported."""
    study = optuna.create_study(direction="maximize")
    for number in range(20):
        params, curve = {"x": number / 40}, {1: 0.1}
        stopped = create_trial(
            state=TrialState.PRUNED, params=params, distributions=SPACE, intermediate_values=curve
        )
        study.add_trial(stopped)
    for number in range(4):
        running = study.ask()
        study._storage.set_trial_param(running._trial_id, "x", GOOD + number / 1000, SPACE["x"])
        for epoch in (1, 2, 3):
            report_value(study, running, epoch, 0.9)
    return study


def drawn(sampler):
    study = crowded()
    study.sampler = sampler
    return [study.ask(SPACE).params["x"] for _ in range(20)]


def test_good_trials_that_run_draw_others_near():
    near = [abs(x - GOOD) < 0.15 for x in drawn(TPE(seed=0))]
    assert sum(near) > 8
    # Optuna's own keeps away from them, which is why there is another.
    assert sum(abs(x - GOOD) < 0.15 for x in drawn(TPESampler(seed=0))) < 4


def test_trials_that_run_count_for_the_random_beginning():
    study = crowded()
    random = RandomSampler(seed=0).sample_independent(study, study.trials[-1], "x", SPACE["x"])
    study.sampler = TPE(seed=0, n_startup_trials=24)
    assert study.ask(SPACE).params["x"] != random
    study.sampler = TPE(seed=0, n_startup_trials=25)
    assert study.ask(SPACE).params["x"] == random
    assert [trial.state for trial in study.trials].count(TrialState.RUNNING) == 6


def test_with_several_objectives_a_trial_that_runs_is_not_shown_as_stopped():
    """Optuna's TPE refuses one there."""
    study = optuna.create_study(directions=("maximize", "minimize"), sampler=TPE(seed=0, n_startup_trials=1))
    study.add_trial(create_trial(values=[0.5, 1.0], params={"x": 0.5}, distributions=SPACE))
    running = study.ask(SPACE)
    report_value(study, running, 1, 0.9)
    assert 0 <= study.ask(SPACE).params["x"] <= 1


def test_told_what_is_drawn_together_it_draws_the_same():
    together = {"y": FloatDistribution(1, 2), "x": FloatDistribution(0, 1)}

    def draws(sampler):
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(30):
            trial = study.ask(together)
            study.tell(trial, trial.params["x"] - trial.params["y"])
        return [trial.params for trial in study.trials]

    assert draws(TPE(together, seed=0)) == draws(TPE(seed=0))


def test_of_a_long_study_it_looks_at_the_best_and_the_newest():
    trials = [
        create_trial(state=TrialState.COMPLETE, value=float(value), params={}, distributions={})
        for value in [*range(300, 0, -1), *[0] * WINDOW_SIZE]
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    seen = [trial.number for trial in HistoryWindow().select(Direction.MAX, trials)]
    assert seen == [*range(KEPT_BEST), *range(len(trials) - WINDOW_SIZE + KEPT_BEST, len(trials))]
    assert len(seen) == WINDOW_SIZE
    assert HistoryWindow().select(Direction.MIN, trials)[0].number == 300
    assert HistoryWindow().select(Direction.MAX, trials[:WINDOW_SIZE]) == trials[:WINDOW_SIZE]


def test_who_has_looked_before_sees_what_a_new_driver_sees():
    """Trials of the same value, and one that ends long after those around it, among them."""
    draw = random.Random(0)
    trials, window = [], HistoryWindow()
    for number in range(2 * WINDOW_SIZE):
        trials.append(create_trial(state=TrialState.COMPLETE, value=draw.randrange(50) / 50))
        trials[-1].number = number
        if number == 7:
            trials[7].state = TrialState.RUNNING
        if number == WINDOW_SIZE + 300:
            trials[7] = create_trial(state=TrialState.COMPLETE, value=2.0)
            trials[7].number = 7
        if number % 100 == 0:
            assert window.select(Direction.MAX, trials) == HistoryWindow().select(Direction.MAX, trials)
    assert trials[7] in window.select(Direction.MAX, trials)
