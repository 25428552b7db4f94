"""A study that goes on with more, with other, or from another: over real journals."""

import dataclasses
from unittest.mock import Mock

import pytest
import yaml
from optuna.trial import TrialState

from otter_ray.config import load_config
from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem, load_space
from otter_ray.study import migration
from otter_ray.study.diff import check_or_record
from otter_ray.study.initial_trials import enqueue_first, warm_start_params
from otter_ray.study.layout import StudyFolder
from otter_ray.study.migration import migrate
from otter_ray.study.opening import create_folder, open_study
from otter_ray.study.outcomes import common_failure
from otter_ray.study.trials import read_records
from otter_ray.tune.messages import EpochResult, TrialFailure
from otter_ray.tune.samplers.factory import make_sampler
from otter_ray.tune.search.searcher import OptunaSearcher

METRIC = "valid_fpr@4"
LR, NAME, SCALE = "optimizer.options.lr", "model.loss.name", "model.loss.options.s"
PARAMETERS = {
    LR: {"type": "float", "low": 2e-3, "high": 2e-2, "log": True},
    NAME: {"type": "categorical", "choices": ["CosFace"]},
    f"{NAME[:-4]}options.m": [{"when": {NAME: "CosFace"}, "type": "float", "low": 0.0, "high": 0.4}],
}
WIDER = {
    **PARAMETERS,
    LR: {"type": "float", "low": 1e-3, "high": 2e-2, "log": True},
    NAME: {"type": "categorical", "choices": ["CosFace", "ArcFace"]},
    SCALE: {"type": "categorical", "choices": [12, 16, 24]},
}


@pytest.fixture
def space_of(tmp_path):
    """A search space with these parameters."""

    def make(parameters, **study):
        path = tmp_path / "space.yaml"
        study = {"metric": "valid_fpr@4", **study}
        path.write_text(yaml.safe_dump({"parameters": parameters, "study": study}))
        return load_space(str(path))

    return make


@pytest.fixture
def config():
    return load_config("demo")


def begin(folder, config, space, *values):
    """A study of trials that ended with these values; None breaks one off after its first epoch."""
    check_or_record(folder, SearchProblem(config, space))
    study = open_study(
        folder,
        space.study,
        make_sampler(space.study, 0),
        lambda new: enqueue_first(new, SearchProblem(config, space)),
    )
    searcher = OptunaSearcher(study, SearchProblem(config, space))
    for index, value in enumerate(values):
        searcher.suggest(str(index))
        searcher.record(str(index), EpochResult(1, value or 0.3, {"loss": 1.0}))
        if value is not None:
            searcher.on_trial_complete(str(index), {"done": True})
    return study


def resume(folder, config, space, accept=False):
    changes = check_or_record(folder, SearchProblem(config, space), accept)
    study = open_study(folder, space.study, make_sampler(space.study, 0))
    return migrate(folder, study, changes, SearchProblem(config, space)) if changes else study


def test_a_change_is_noted_once_whenever_a_kill_comes(space_of, config, tmp_path, monkeypatch):
    folder = create_folder(tmp_path / "runs", "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5)
    changes = folder.path / "changes.txt"
    with monkeypatch.context() as patch:
        # At the last moment before the folder says that it is about the new space.
        patch.setattr(migration, "record", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(folder, config, space_of(WIDER))
    assert changes.read_text().count("after 1 trials") == 1
    study = resume(folder, config, space_of(WIDER))
    assert changes.read_text().count("after 1 trials") == 1
    assert [trial.value for trial in study.trials] == [0.5]
    resume(folder, config, space_of(WIDER))
    assert changes.read_text().count("after") == 1


def test_a_space_survives_being_written_down(space_of, config, tmp_path):
    for space in (space_of(WIDER), load_space("demo"), load_space("unique_pool")):
        (tmp_path / "again.yaml").write_text(yaml.safe_dump(space.to_dict(), sort_keys=False))
        again = load_space(str(tmp_path / "again.yaml"))
        plain = [[dataclasses.replace(p, file=None, line=None) for p in s.parameters] for s in (space, again)]
        assert plain[0] == plain[1]
        assert again.study == space.study


def test_nothing_has_changed_with_more_trials(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5)
    assert not check_or_record(
        folder, SearchProblem(config, space_of(PARAMETERS, num_trials=99, resources={"cpus_per_worker": 4}))
    )


def test_a_wider_space_goes_on_with_all_trials(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, None)
    before = read_records(open_study(folder, space_of(PARAMETERS).study))
    wider = space_of(WIDER)
    study = resume(folder, config, wider)
    assert read_records(study) == before
    # The base config's own value of what is new, too: Optuna knows where the old trials lie.
    assert [trial.params[SCALE] for trial in study.trials] == [config.get(SCALE)] * 3
    searcher = OptunaSearcher(study, SearchProblem(config, wider))
    assert searcher.suggest("a")["number"] == 2
    drawn = [searcher.suggest(str(index)) for index in range(12)]
    assert [trial["number"] for trial in drawn] == list(range(3, 15))
    assert {trial["values"][NAME] for trial in drawn} == {"CosFace", "ArcFace"}
    # What it goes on with is kept: the same command once more changes nothing.
    assert not check_or_record(folder, SearchProblem(config, wider))
    assert len(open_study(folder, wider.study).trials) == 15


@pytest.mark.parametrize(
    ("key", "entry", "says"),
    [
        (
            LR,
            {"type": "float", "low": 3e-3, "high": 2e-2, "log": True},
            "float 0.002 to 0.02, log -> float 0.003",
        ),
        (LR, {"type": "float", "low": 1e-3, "high": 2e-2}, "float 0.002 to 0.02, log -> float 0.001 to 0.02"),
        (NAME, {"type": "categorical", "choices": ["ArcFace"]}, "one of CosFace -> one of ArcFace"),
    ],
)
def test_a_narrower_space_is_shown_and_refused(space_of, config, tmp_path, key, entry, says):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5)
    other = {name: PARAMETERS[name] for name in PARAMETERS if key != NAME or "options.m" not in name}
    with pytest.raises(StudyError) as caught:
        check_or_record(folder, SearchProblem(config, space_of(other | {key: entry})))
    assert f"space  {key}: {says}" in str(caught.value)
    assert "--accept-changes" in str(caught.value)


def test_a_narrower_space_that_is_accepted_keeps_what_it_cannot_express(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, 0.7)
    before = read_records(open_study(folder, space_of(PARAMETERS).study))
    narrow = space_of({LR: {"type": "float", "low": 0.019, "high": 0.02, "log": True}})
    study = resume(folder, config, narrow, accept=True)
    assert read_records(study) == before
    assert all(set(trial.params) <= {LR} for trial in study.trials)
    assert 0.019 <= OptunaSearcher(study, SearchProblem(config, narrow)).suggest("a")["values"][LR] <= 0.02


def test_another_config_is_shown_and_refused(space_of, config, tmp_path):
    folder, space = create_folder(tmp_path, "demo", "first"), space_of(PARAMETERS)
    begin(folder, config, space, 0.5)
    other = config.with_values({"optimizer.options.weight_decay": 0.5, "optimizer.options.lr": 0.01})
    with pytest.raises(StudyError) as caught:
        check_or_record(folder, SearchProblem(other, space))
    shown = [line.split() for line in str(caught.value).splitlines() if line.startswith("  config")]
    assert ["config", "optimizer.options.lr:", "0.003", "->", "0.01"] in shown
    assert len(shown) == 2


def test_another_config_that_is_accepted(space_of, config, tmp_path):
    """What ended is kept with what it ran with; the rest begins anew, and so does the base."""
    folder, space = create_folder(tmp_path, "demo", "first"), space_of(PARAMETERS)
    begin(folder, config, space, 0.5, 0.6, None)
    checkpoint = folder.trial(2) / "checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    other = config.with_values({"optimizer.options.lr": 0.01})
    study = resume(folder, other, space, accept=True)
    rows = read_records(study)
    assert [(row.state, row.config, row.value) for row in rows] == [
        ("complete", "config.1.yaml", 0.5),
        ("complete", "config.1.yaml", 0.6),
        ("unfinished", None, None),
        ("waiting", None, None),
    ]
    assert load_config(str(folder.path / "config.1.yaml")).to_dict() == config.to_dict()
    assert not checkpoint.exists()
    assert [row.is_base for row in rows] == [False, False, False, True]
    searcher = OptunaSearcher(study, SearchProblem(other, space))
    assert [searcher.suggest(name)["number"] for name in "ab"] == [2, 3]
    assert study.trials[3].params[LR] == 0.01
    assert LR + ": 0.003 -> 0.01" in (folder.path / "changes.txt").read_text()


@pytest.mark.parametrize("lines", [1, 3, 5, 6, 7])
def test_killed_while_trials_are_carried_over_it_is_done_again(space_of, config, tmp_path, lines):
    folder, wider = create_folder(tmp_path, "demo", "first"), space_of(WIDER)
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, 0.7, None)
    before = folder.journal.read_bytes()
    kept = {name: (folder.path / name).read_bytes() for name in ("config.yaml", "space.yaml")}
    rows = read_records(resume(folder, config, wider))
    written = folder.journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(written) == 8  # a study, its trials, its format, its metrics' names and its metric
    folder.journal.write_bytes(before + b"".join(written[:lines]))
    for name, content in kept.items():
        (folder.path / name).write_bytes(content)
    study = resume(folder, config, wider)
    assert read_records(study) == rows
    assert set(study.trials[0].params) == {LR, NAME, f"{NAME[:-4]}options.m[CosFace]", SCALE}


def test_trials_that_all_failed_alike_are_tried_again(space_of, config, tmp_path):
    """What stopped the study is mended: its base config, too, has another attempt."""
    folder, space = create_folder(tmp_path, "demo", "first"), space_of(PARAMETERS)
    study = begin(folder, config, space)
    searcher = OptunaSearcher(study, SearchProblem(config, space))
    numbers = [searcher.suggest(name)["number"] for name in "abc"]
    for name in "abc":
        searcher.on_trial_complete(name, {**TrialFailure("no such folder /data").to_tune(), "done": True})
    assert searcher.stop_controller.is_fault
    assert common_failure(study) == numbers == [0, 1, 2]
    before = [trial.params for trial in study.trials]
    again = migrate(
        folder,
        study,
        check_or_record(folder, SearchProblem(config, space)),
        SearchProblem(config, space),
        again=common_failure(study),
    )
    assert [(row.state, row.error) for row in read_records(again)] == [("unfinished", None)] * 3
    assert [trial.params for trial in again.trials] == before
    assert not (folder.path / "changes.txt").exists()
    resumed = OptunaSearcher(again, SearchProblem(config, space))
    assert resumed.suggest("base") == {"number": 0, "values": {}}


def test_another_metric_is_another_study(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5)
    with pytest.raises(StudyError, match=r"about valid_fpr@4 \(max\), not loss \(min\).*--warm-start first"):
        check_or_record(
            folder, SearchProblem(config, space_of(PARAMETERS, metric="loss", mode="min")), accept=True
        )


@pytest.fixture
def warm(tmp_path, printed):
    """Begins with the best of a study; gives its parameters and what was printed."""

    def start(name, config, space):
        return warm_start_params(name, tmp_path, SearchProblem(config, space)), printed()

    return start


def test_a_study_begins_with_the_best_of_another(space_of, config, tmp_path, warm):
    values = [0.5, 0.2, 0.9, 0.1, 0.6, 0.7, 0.8, None]
    other = begin(create_folder(tmp_path, "demo", "other"), config, space_of(PARAMETERS), *values)
    wider = space_of(WIDER)
    first, printed = warm("other", config, wider)
    assert "trials 2 (0.9000), 6 (0.8000), 5 (0.7000), 4 (0.6000), 7 (0.3000)" in printed
    assert [params[LR] for params in first] == [other.trials[number].params[LR] for number in (2, 6, 5, 4, 7)]
    folder = create_folder(tmp_path, "demo", "new")

    problem = SearchProblem(config, wider)

    def open_warm():
        sampler = make_sampler(wider.study, 0)
        return open_study(folder, wider.study, sampler, lambda new: enqueue_first(new, problem, first))

    searcher = OptunaSearcher(open_warm(), SearchProblem(config, wider))
    assert searcher.suggest("base")["values"] == {}
    assert [searcher.suggest(str(index))["values"][LR] for index in range(2)] == [first[0][LR], first[1][LR]]
    # A later driver, by the same command, queues nothing twice.
    again = OptunaSearcher(open_warm(), SearchProblem(config, wider))
    assert [again.suggest(str(index))["number"] for index in range(7)] == list(range(7))
    assert [trial.params[LR] for trial in again.study.trials[1:6]] == [params[LR] for params in first]


def test_where_there_is_nothing_to_begin_with(space_of, config, tmp_path, warm):
    space = space_of(PARAMETERS)
    begin(create_folder(tmp_path, "demo", "empty"), config, space)
    begin(create_folder(tmp_path, "demo", "base"), config, space, 0.5)
    with pytest.raises(StudyError, match=r"no such study.*There are: demo/base, demo/empty"):
        warm("absent", config, space)
    with pytest.raises(StudyError, match="has no trial with a value yet"):
        warm("empty", config, space)
    with pytest.raises(StudyError, match="none of its trials fits this search space"):
        warm("demo/base", config, space)
    begin(create_folder(tmp_path, "demo", "apart"), config, space, 0.5, 0.6)
    decay = {"optimizer.options.weight_decay": {"type": "float", "low": 0.1, "high": 0.5}}
    with pytest.raises(StudyError, match=f"That study searched .*{LR}"):
        warm(str(tmp_path / "demo/apart"), config, space_of(decay))


def test_a_study_that_was_killed_before_its_journal_begins_again(space_of, config, tmp_path):
    from otter_ray.study.opening import open_folder

    created = create_folder(tmp_path, "demo", "first")
    folder = open_folder(tmp_path, "demo", "first")
    assert folder == StudyFolder(created.path)
    study = begin(folder, config, space_of(PARAMETERS), 0.5)
    assert study.trials[0].state == TrialState.COMPLETE


def test_no_earlier_config_is_overwritten(tmp_path):
    """A user may have put files of such names there, or taken one away."""
    folder = create_folder(tmp_path, "demo", "a")
    for name, text in {"config.yaml": "now", "config.2.yaml": "second", "config.old.yaml": "mine"}.items():
        (folder.path / name).write_text(text)
    assert migration._keep_earlier(folder) == "config.3.yaml"
    assert (folder.path / "config.2.yaml").read_text() == "second"
