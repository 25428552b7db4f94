"""Finalists over real journals: who they are, which runs they are to have, and who wins."""

import io
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from otter_ray.direction import Direction
from otter_ray.report.finalists_table import print_finals
from otter_ray.space import SearchProblem
from otter_ray.space.study_options import Finalists
from otter_ray.study.finalists import are_decided, by_mean, finalists_of, rank_with_finals
from otter_ray.study.layout import StudyFolder
from otter_ray.study.optuna_compat import continue_trial
from otter_ray.study.trials import read_records
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.pipeline import TrialStages
from otter_ray.tune.request import StopCriteria
from otter_ray.tune.selection.candidates import candidates
from otter_ray.tune.selection.finalists import open_finals

LR = "optimizer.options.lr"


@pytest.fixture
def search(demo, study, tmp_path):
    """A search for the best two of its trials, each over three seeds, that has no trial yet."""
    config, space = demo
    space = replace(space, study=space.study.model_copy(update={"finalists": Finalists(top=2, seeds=3)}))
    study.set_user_attr("finalists", {"top": 2, "seeds": 3})
    return StudyContext(SearchProblem(config, space), StudyFolder(tmp_path), study)


def searched(search, *values, state=TrialState.COMPLETE, **notes):
    """Trials with these values have ended."""
    for value in values:
        number = len(search.study.get_trials())
        search.study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                intermediate_values={1: value},
                user_attrs={"values": {LR: 0.001 * number}, "curve/1": {"epoch": 1}, **notes},
            )
        )


def train(finals, values):
    """The runs that are to come end: with the value of (trial, seed), or failed where that is an error."""
    for frozen in finals.study.get_trials(states=[TrialState.RUNNING]):
        trial = continue_trial(finals.study, frozen)
        value = values[frozen.user_attrs["finalist"], frozen.user_attrs["values"]["common.seed"]]
        trial.set_user_attr("curve/1", {"epoch": 1})
        if isinstance(value, str):
            trial.report(0.99, 1)
            trial.set_user_attr("error", value)
            finals.study.tell(trial, state=TrialState.FAIL)
        else:
            trial.report(value, 1)
            finals.study.tell(trial, value)


def values(first, second):
    """Of trials 1 and 2, by seed."""
    return {
        (trial, seed): value for trial, of in ((1, first), (2, second)) for seed, value in enumerate(of, 1)
    }


def finalists(search, finals):
    rows = read_records(search.study)
    return finalists_of(rows, Direction.MAX, search.study.user_attrs["finalists"], finals.study)


def told(search, finals):
    output = io.StringIO()
    print_finals(
        Console(file=output, width=150).print, finalists(search, finals), "valid_fpr@4", Direction.MAX
    )
    return output.getvalue()


def test_a_trial_that_was_lucky_once_does_not_win(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    train(finals, values([0.4, 0.5, 0.6], [0.58, 0.6, 0.62]))
    assert [f.trial.number for f in by_mean(finalists(search, finals), Direction.MAX)] == [2, 1]
    assert (
        "trial 1 was best in the search (0.9000) but 0.5000 ± 0.1000 over 3 seeds; "
        "trial 2 wins with 0.6000 ± 0.0200"
    ) in told(search, finals)
    # It is the one that the table marks, and that another study begins with.
    rows = read_records(search.study)
    assert [row.number for row in rank_with_finals(rows, Direction.MAX, finalists(search, finals))] == [
        2,
        1,
        0,
    ]
    # The best run of each, then its others: what is exported where one fails the gate. Then the search's.
    runs, trials = [0.62, 0.6, 0.58, 0.6, 0.5, 0.4], [0.9, 0.6, 0.2]
    assert [candidate.row.value for candidate in candidates(search, finals)] == runs + trials
    best = next(iter(candidates(search, finals)))
    assert str(best) == "trial 2 seed 3 (0.6200)"
    assert (best.config.common.seed, best.config.get(LR)) == (3, 0.002)


def test_the_smaller_mean_wins_where_less_is_better(search):
    searched(search, 0.9, 0.3, 0.2)
    finals = open_finals(search)
    train(finals, {(number, seed): 0.1 * number for number in (0, 1, 2) for seed in (1, 2, 3)})
    assert [f.trial.number for f in by_mean(finalists(search, finals), Direction.MIN)] == [0, 1]


def test_the_search_s_own_value_does_not_count(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    runs = [trial.user_attrs for trial in finals.study.trials]
    assert [(run["finalist"], run["values"]["common.seed"]) for run in runs] == [*values([0] * 3, [0] * 3)]
    train(finals, values([0.5] * 3, [0.1] * 3))
    assert (finalists(search, finals)[0].mean, finalists(search, finals)[0].spread) == (0.5, 0.0)
    assert "trial 1 wins: mean valid_fpr@4 0.5000 ± 0.0000, over 3 seeds (0.9000 in the search)" in told(
        search, finals
    )


def test_until_every_run_has_ended_nobody_wins(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    finals.study.tell(0, 0.1)
    finals.study.tell(3, 0.1)
    rows = read_records(search.study)
    assert [row.number for row in rank_with_finals(rows, Direction.MAX, finalists(search, finals))] == [
        1,
        2,
        0,
    ]
    assert not are_decided(finalists(search, finals))
    assert finals.trials_left() == 4
    assert "2 of 6 runs of finalists have ended: until all have, the search's best stands" in told(
        search, finals
    )


def test_a_failed_run_is_left_out_and_a_finalist_without_any_is_out(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    train(finals, values(["no memory", "diverged", "no memory"], [0.5, "diverged", 0.7]))
    text = told(search, finals)
    assert "trial 2: 1 of 3 runs failed (diverged; see finals/trials/0004/log.txt): its mean is over" in text
    assert "trial 1: 3 of 3 runs failed" in text
    assert "it is out" in text
    assert "no run of it ended well; trial 2 wins with 0.6000" in text
    assert [candidate.row.value for candidate in candidates(search, finals)] == [0.7, 0.5, 0.9, 0.6, 0.2]
    # Those have failed; another start does not try them again.
    assert open_finals(search).trials_left() == 0


def test_runs_that_all_failed_alike_are_tried_again(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    train(finals, values(["no such file"] * 3, ["no such file"] * 3))
    assert finals.trials_left() == 0
    again = open_finals(search)
    assert again.trials_left() == 6
    # Another start, before any of them has ended, makes no more.
    assert open_finals(search).trials_left() == 6
    train(again, values([0.5] * 3, [0.6] * 3))
    assert [f.mean for f in by_mean(finalists(search, again), Direction.MAX)] == pytest.approx([0.6, 0.5])


def test_a_stopped_trial_may_be_a_finalist_and_one_that_is_not_over_may_not(search):
    searched(search, 0.2, 0.6)
    searched(search, 0.8, state=TrialState.PRUNED)
    searched(search, 0.95, state=TrialState.FAIL)
    searched(search, 0.9, state=TrialState.RUNNING)
    searched(search, 0.9, config="config.1.yaml")
    assert {label.split()[0] for label in open_finals(search).labels.values()} == {"2", "1"}


def test_of_two_trials_that_are_alike_one_is_a_finalist(search):
    searched(search, 0.2, 0.6)
    searched(search, 0.7, 0.7, values={LR: 0.5})
    assert {label.split()[0] for label in open_finals(search).labels.values()} == {"2", "1"}


def test_a_search_that_went_on_runs_what_is_new_and_gives_up_what_is_not_wanted(search):
    searched(search, 0.2, 0.9, 0.6)
    finals = open_finals(search)
    finals.study.tell(0, 0.5)
    finals.study.tell(3, 0.99)
    searched(search, 0.8)
    more = open_finals(search)
    assert more.trials_left() == 5
    states = [trial.state.name for trial in more.study.trials]
    # Trial 2's: one is done, and does not count any more, two were under way.
    assert states == ["COMPLETE", "RUNNING", "RUNNING", "COMPLETE", "PRUNED", "PRUNED", *["RUNNING"] * 3]
    # Where three are to be finalists it is back, and what was given up begins anew.
    more_finalists = search.problem.with_options(finalists=Finalists(top=3, seeds=3))
    assert open_finals(replace(search, problem=more_finalists)).trials_left() == 7
    more = open_finals(search)
    assert more.trials_left() == 5
    train(more, {(number, seed): 0.5 for number in (1, 3) for seed in (1, 2, 3)})
    assert [f.trial.number for f in finalists(search, more)] == [1, 3]
    assert are_decided(finalists(search, more))


def test_without_finalists_there_is_nothing(search):
    searched(search, 0.2, 0.9)
    plain = replace(search, problem=search.problem.with_options(finalists=None))
    assert open_finals(plain) is None
    assert [candidate.row.number for candidate in candidates(plain)] == [1, 0]
    assert not list(search.folder.path.iterdir())


def test_no_finalist_without_a_value(search):
    searched(search, 0.2, state=TrialState.FAIL)
    assert open_finals(search) is None


def run(context, criteria=None):
    """Runs the trials of a study for which no Ray may start; gives the finalists' runs and why it ended."""
    session = SimpleNamespace(start=partial(pytest.fail, "a Ray was to start"))
    return TrialStages(session, ProgressReporter()).run(context, criteria or StopCriteria())


def test_what_is_done_or_used_up_starts_no_ray(search, printed):
    searched(search, 0.2, 0.9, 0.6)
    train(open_finals(search), values([0.5] * 3, [0.6] * 3))
    finals, controller = run(search, StopCriteria(epochs=3))
    assert controller.reason == "3 epochs are done"
    assert "3 epochs are done already; for more, raise that limit" in printed()
    # A limit of the search, after which the finals count.
    assert finals.trials_left() == 0
    done = replace(search, problem=search.problem.with_trials(3))
    assert run(done)[1] is None


def test_no_finals_follow_when_the_time_is_up(search):
    searched(search, 0.2, 0.9, 0.6)
    finals, controller = run(search, StopCriteria(seconds=0.0, epochs=1))
    assert controller.ends_command
    assert finals is None
