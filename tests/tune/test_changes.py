"""A study that goes on with more, with other, or from another: over real journals."""

import dataclasses
import io

import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

from otter_ray.config import load_config, load_space
from otter_ray.errors import StudyError
from otter_ray.report.rows import read_rows
from otter_ray.tune.changes import agree, carry_over
from otter_ray.tune.endings import failed_alike
from otter_ray.tune.first import best_of, enqueue_first
from otter_ray.tune.folder import StudyFolder, create_folder, open_study
from otter_ray.tune.searcher import OptunaBridge

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
        path.write_text(yaml.safe_dump({"parameters": parameters, "study": study}))
        return load_space(str(path))

    return make


@pytest.fixture
def config():
    return load_config("demo")


def begin(folder, config, space, *values):
    """A study of trials that ended with these values; None breaks one off after its first epoch."""
    agree(folder, config, space)
    study = open_study(folder, space.study, begin=lambda new: enqueue_first(new, config, space))
    bridge = OptunaBridge(study, space, config)
    for index, value in enumerate(values):
        bridge.suggest(str(index))
        bridge.record(str(index), {"epoch": 1, METRIC: value or 0.3, "metrics/loss": 1.0})
        if value is not None:
            bridge.on_trial_complete(str(index), {"done": True})
    return study


def resume(folder, config, space, accept=False):
    changes = agree(folder, config, space, accept)
    study = open_study(folder, space.study)
    return carry_over(folder, study, changes, config, space) if changes else study


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
    assert not agree(folder, config, space_of(PARAMETERS, num_trials=99, resources={"cpus_per_worker": 4}))


def test_a_wider_space_goes_on_with_all_trials(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, None)
    before = read_rows(open_study(folder, space_of(PARAMETERS).study))
    wider = space_of(WIDER)
    study = resume(folder, config, wider)
    assert read_rows(study) == before
    # The base config's own value of what is new, too: Optuna knows where the old trials lie.
    assert [trial.params[SCALE] for trial in study.trials] == [config.get(SCALE)] * 3
    bridge = OptunaBridge(study, wider, config)
    assert bridge.suggest("a")["number"] == 2
    drawn = [bridge.suggest(str(index)) for index in range(12)]
    assert [trial["number"] for trial in drawn] == list(range(3, 15))
    assert {trial["values"][NAME] for trial in drawn} == {"CosFace", "ArcFace"}
    # What it goes on with is kept: the same command once more changes nothing.
    assert not agree(folder, config, wider)
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
        agree(folder, config, space_of(other | {key: entry}))
    assert f"space  {key}: {says}" in str(caught.value)
    assert "--accept-changes" in str(caught.value)


def test_a_narrower_space_that_is_accepted_keeps_what_it_cannot_express(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, 0.7)
    before = read_rows(open_study(folder, space_of(PARAMETERS).study))
    narrow = space_of({LR: {"type": "float", "low": 0.019, "high": 0.02, "log": True}})
    study = resume(folder, config, narrow, accept=True)
    assert read_rows(study) == before
    assert all(set(trial.params) <= {LR} for trial in study.trials)
    assert 0.019 <= OptunaBridge(study, narrow, config).suggest("a")["values"][LR] <= 0.02


def test_another_config_is_shown_and_refused(space_of, config, tmp_path):
    folder, space = create_folder(tmp_path, "demo", "first"), space_of(PARAMETERS)
    begin(folder, config, space, 0.5)
    other = config.with_values({"optimizer.options.weight_decay": 0.5, "optimizer.options.lr": 0.01})
    with pytest.raises(StudyError) as caught:
        agree(folder, other, space)
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
    rows = read_rows(study)
    assert [(row.state, row.config, row.value) for row in rows] == [
        ("complete", "config.1.yaml", 0.5),
        ("complete", "config.1.yaml", 0.6),
        ("unfinished", None, None),
        ("waiting", None, None),
    ]
    assert load_config(str(folder.path / "config.1.yaml")).to_dict() == config.to_dict()
    assert not checkpoint.exists()
    assert [row.is_base for row in rows] == [False, False, False, True]
    bridge = OptunaBridge(study, space, other)
    assert [bridge.suggest(name)["number"] for name in "ab"] == [2, 3]
    assert study.trials[3].params[LR] == 0.01
    assert LR + ": 0.003 -> 0.01" in (folder.path / "changes.txt").read_text()


@pytest.mark.parametrize("lines", [1, 3, 5])
def test_killed_while_trials_are_carried_over_it_is_done_again(space_of, config, tmp_path, lines):
    folder, wider = create_folder(tmp_path, "demo", "first"), space_of(WIDER)
    begin(folder, config, space_of(PARAMETERS), 0.5, 0.6, 0.7, None)
    before = folder.journal.read_bytes()
    kept = {name: (folder.path / name).read_bytes() for name in ("config.yaml", "space.yaml")}
    rows = read_rows(resume(folder, config, wider))
    written = folder.journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(written) == 6  # a study, its trials, its mark
    folder.journal.write_bytes(before + b"".join(written[:lines]))
    for name, content in kept.items():
        (folder.path / name).write_bytes(content)
    study = resume(folder, config, wider)
    assert read_rows(study) == rows
    assert set(study.trials[0].params) == {LR, NAME, f"{NAME[:-4]}options.m[CosFace]", SCALE}


def test_trials_that_all_failed_alike_are_tried_again(space_of, config, tmp_path):
    """What stopped the study is mended: its base config, too, has another attempt."""
    folder, space = create_folder(tmp_path, "demo", "first"), space_of(PARAMETERS)
    study = begin(folder, config, space)
    bridge = OptunaBridge(study, space, config)
    numbers = [bridge.suggest(name)["number"] for name in "abc"]
    for name in "abc":
        bridge.on_trial_complete(name, {"done": True, "error": "no such folder /data"})
    assert bridge.halt.is_fault
    assert failed_alike(study) == numbers == [0, 1, 2]
    before = [trial.params for trial in study.trials]
    again = carry_over(folder, study, agree(folder, config, space), config, space, again=failed_alike(study))
    assert [(row.state, row.error) for row in read_rows(again)] == [("unfinished", None)] * 3
    assert [trial.params for trial in again.trials] == before
    assert not (folder.path / "changes.txt").exists()
    resumed = OptunaBridge(again, space, config)
    assert resumed.suggest("base") == {"number": 0, "values": {}}


def test_another_metric_is_another_study(space_of, config, tmp_path):
    folder = create_folder(tmp_path, "demo", "first")
    begin(folder, config, space_of(PARAMETERS), 0.5)
    with pytest.raises(StudyError, match=r"about valid_fpr@4 \(max\), not loss \(min\).*--warm-start first"):
        agree(folder, config, space_of(PARAMETERS, metric="loss", mode="min"), accept=True)


@pytest.fixture
def warm(tmp_path):
    """Begins with the best of a study; gives its parameters and what was printed."""

    def start(name, config, space):
        console = Console(file=io.StringIO(), width=200)
        return best_of(name, tmp_path, config, space, console), console.file.getvalue()

    return start


def test_a_study_begins_with_the_best_of_another(space_of, config, tmp_path, warm):
    values = [0.5, 0.2, 0.9, 0.1, 0.6, 0.7, 0.8, None]
    other = begin(create_folder(tmp_path, "demo", "other"), config, space_of(PARAMETERS), *values)
    wider = space_of(WIDER)
    first, printed = warm("other", config, wider)
    assert "trials 2 (0.9000), 6 (0.8000), 5 (0.7000), 4 (0.6000), 7 (0.3000)" in printed
    assert [params[LR] for params in first] == [other.trials[number].params[LR] for number in (2, 6, 5, 4, 7)]
    folder = create_folder(tmp_path, "demo", "new")

    def begin_warm(new):
        enqueue_first(new, config, wider, first)

    bridge = OptunaBridge(open_study(folder, wider.study, begin=begin_warm), wider, config)
    assert bridge.suggest("base")["values"] == {}
    assert [bridge.suggest(str(index))["values"][LR] for index in range(2)] == [first[0][LR], first[1][LR]]
    # A later driver, by the same command, queues nothing twice.
    again = OptunaBridge(open_study(folder, wider.study, begin=begin_warm), wider, config)
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
    with pytest.raises(StudyError, match="nothing that it found lies in this search space"):
        warm("demo/base", config, space)
    begin(create_folder(tmp_path, "demo", "apart"), config, space, 0.5, 0.6)
    decay = {"optimizer.options.weight_decay": {"type": "float", "low": 0.1, "high": 0.5}}
    with pytest.raises(StudyError, match=f"It searched .*{LR}"):
        warm(str(tmp_path / "demo/apart"), config, space_of(decay))


def test_a_study_that_was_killed_before_its_journal_begins_again(space_of, config, tmp_path):
    from otter_ray.tune.folder import open_folder

    created = create_folder(tmp_path, "demo", "first")
    folder = open_folder(tmp_path, "demo", "first")
    assert folder == StudyFolder(created.path)
    study = begin(folder, config, space_of(PARAMETERS), 0.5)
    assert study.trials[0].state == TrialState.COMPLETE
