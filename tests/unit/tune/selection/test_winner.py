"""Which model a study's folder shows as its own: over real journals and real checkpoints, without a Ray."""

import hashlib
import json
import shlex
import shutil
from dataclasses import replace

import pytest

from otter_ray.direction import Direction
from otter_ray.errors import StudyError
from otter_ray.export import exporter
from otter_ray.export.comparison import gain
from otter_ray.export.model_files import move_model
from otter_ray.projects.docclassifier import ClassifierModel
from otter_ray.report.study_data import StudyData
from otter_ray.report.tables import outcome_lines
from otter_ray.space.constraint import Constraint
from otter_ray.study.gallery import read_gallery
from otter_ray.study.opening import study_lock
from otter_ray.study.storage import Storage
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.pipeline import launch
from otter_ray.tune.request import StudyRequest
from otter_ray.tune.selection.completion import complete, violations
from otter_ray.tune.selection.winner import export_others, export_winner
from tests.support.trained_study import add_trial, export_and_complete, models, trained_study


@pytest.fixture
def context(tiny_config, tiny_run, tmp_path):
    """A study whose base config has been trained."""
    return trained_study(tmp_path, tiny_config, tiny_run.best)


def test_the_folder_has_one_model_the_winners_under_the_plain_name(context, tiny_run):
    folder = context.folder.path
    first = export_winner(context).exported
    [plain] = models(folder)
    assert plain.endswith("_fp32.onnx")
    content = first.onnx.read_bytes()
    better = add_trial(context, tiny_run.best, 0.3)
    export_winner(context)
    # A glob finds the winner, and nothing that was exported is lost.
    assert models(folder) == {plain: 1}
    assert models(folder / "exports") == {plain: 0}
    assert (folder / "exports" / plain).read_bytes() == content
    assert (folder / "MODEL.md").read_text().startswith(f"# {plain}\n")
    assert ", trial 1 of its study" in (folder / "MODEL.md").read_text()
    assert ", trial 0 of its study" in (folder / "exports" / plain).with_suffix(".md").read_text()
    # Both files have the same name; the pictures are of the new one.
    pictures = json.loads((folder / "gallery.json").read_text())
    assert (
        pictures["checkpoint_sha256"]
        == json.loads((folder / plain).with_suffix(".json").read_text())["checkpoint_sha256"]
    )
    assert StudyData.open(folder).pictures
    # Trial 0 wins again: its file comes back.
    better.unlink()
    again = export_winner(context)
    assert again.exported.is_earlier
    assert models(folder) == {plain: 0}
    assert again.exported.onnx.read_bytes() == content
    [(aside, trial)] = models(folder / "exports").items()
    assert trial == 1
    assert {path.suffix for path in (folder / "exports").iterdir()} == {".onnx", ".json", ".md"}
    # As an earlier version left it: the winner's second.
    second = plain.replace(".onnx", "-2.onnx")
    move_model(folder / plain, folder / second)
    move_model(folder / "exports" / aside, folder / plain)
    export_winner(context)
    assert models(folder) == {plain: 0}
    assert models(folder / "exports") == {plain: 1}


def test_other_trials_models_are_not_beside_the_winners(tiny_config, tiny_run, tmp_path):
    context = trained_study(tmp_path / "my runs", tiny_config, tiny_run.best)
    add_trial(context, tiny_run.best, 0.3)
    several = context.exports.of("top2", context.problem.options)
    config = context.config.with_sets(["quantize={do_quant: true, precisions: [fp16]}"])
    problem = replace(context.problem, config=config)
    context = StudyContext(problem, context.folder, context.study, exports=several)
    line, note = export_others(context, None, export_winner(context))
    told, _, pasted = note.partition(" For another trial: ")
    assert told == "files of lower precision are made of the winner alone."
    trial = context.folder.path / "trials/NUMBER"
    assert shlex.split(pasted) == ["python", "-m", "otter_ray.export", str(trial), "--quantize", "fp16"]
    [(name, trial)] = models(context.folder.path / "exports").items()
    assert (trial, name.split("_")[2]) == (0, "trial0")
    assert line.endswith(f"exports/{name}")
    assert [*models(context.folder.path).values()] == [1]


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_better_trial_without_its_checkpoint_is_told(context, tiny_run, is_torn):
    lost = add_trial(context, tiny_run.best, 0.3)
    if is_torn:
        lost.write_bytes(lost.read_bytes()[:1000])
    else:
        lost.unlink()
    outcome = export_winner(context)
    assert outcome.winner.number == 0
    [reason] = outcome.rejected
    assert reason.startswith("trial 1 (0.3000) ")
    assert str(lost) in reason
    assert ("is missing" in reason) != ("cannot be read as a checkpoint" in reason)
    assert outcome.exported.facts["rejected"] == outcome.rejected
    data = StudyData.open(context.folder.path)
    assert data.winner.number == data.exported["trial"] == 0
    assert data.study.user_attrs["rejected"] == outcome.rejected


def test_no_clock_says_which_model_is_the_winners(context, tiny_run):
    """It was set back by three days between two exports."""
    folder = context.folder.path
    export_winner(context)
    add_trial(context, tiny_run.best, 0.3)
    export_winner(context)
    for name, trial in models(folder / "exports").items():
        assert trial == 0
        (folder / "exports" / name).rename(folder / f"earlier_{name}")
        earlier = folder / f"earlier_{name}"
        facts = json.loads((folder / "exports" / name).with_suffix(".json").read_text())
        earlier.with_suffix(".json").write_text(json.dumps({**facts, "date": "2999-01-01T00:00:00+00:00"}))
    data = StudyData.open(folder)
    assert data.exported["trial"] == data.winner.number == 1
    # An earlier version did not note it in the journal.
    context.study.set_user_attr("winner", None)
    data = StudyData.open(folder)
    assert data.exported["trial"] == data.winner.number == 1


def test_a_file_that_did_not_pass_the_gate_is_not_handed_out(context):
    whole = export_winner(context).exported.onnx
    content = whole.read_bytes()
    whole.write_bytes(content[:-100])
    again = export_winner(context).exported
    assert not again.is_earlier
    assert again.facts["onnx_sha256"] == hashlib.sha256(again.onnx.read_bytes()).hexdigest()
    assert len(again.onnx.read_bytes()) >= len(content)


def test_an_onnx_file_is_never_without_its_json(context, tiny_run, monkeypatch):
    """Whenever a kill comes: the JSON is there first, and what an earlier version left goes aside."""
    folder, there = context.folder.path, []
    write_facts = exporter.write_facts

    def write(onnx, facts):
        there.append(onnx.exists())
        write_facts(onnx, facts)

    monkeypatch.setattr(exporter, "write_facts", write)
    exported = export_winner(context).exported
    assert there == [False]
    exported.json.unlink()
    again = export_winner(context).exported
    assert there == [False, False]
    assert (again.onnx, again.is_earlier) == (exported.onnx, False)
    assert [path.name for path in folder.glob("*.onnx")] == [exported.onnx.name]
    assert (folder / "exports" / exported.onnx.name).is_file()


class Intruder(ProgressReporter):
    """Wants to run the study whenever something is reported; notes whether another process runs it."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.is_held = folder, {}

    def event(self, kind, state=None, /, **facts):
        try:
            with study_lock(self.folder):
                self.is_held[kind] = False
        except StudyError:
            self.is_held[kind] = True


def test_the_export_holds_its_study_and_needs_no_report(context, tmp_path, printed):
    """Another `--resume` would take what is being exported for what a killed command left."""
    (context.folder.path / "report.html").mkdir()
    problem = context.problem.with_trials(1)
    request = StudyRequest(problem, runs=tmp_path, name="first", resume=True)
    intruder = Intruder(context.folder)
    assert launch(request, RaySession(), intruder).code == 0
    assert models(context.folder.path)
    assert intruder.is_held == {"study": True, "exported": True, "end": False}
    assert "warning: report.html could not be drawn: IsADirectoryError" in printed()


def test_a_comparison_that_fails_does_not_cost_the_winner(context, tiny_run, monkeypatch):
    """Whatever a project raises."""
    add_trial(context, tiny_run.best, 0.3)

    def fail(*_):
        raise ValueError("one resample too many")

    monkeypatch.setattr(ClassifierModel, "score_replicates", fail)
    outcome = export_and_complete(context)
    assert outcome.winner.number == 1
    facts = outcome.exported.facts
    assert facts["base"] is None
    assert "selection" not in facts
    base, selection = outcome.rejected
    assert base.startswith("the base config cannot be measured for the comparison: ")
    assert selection.startswith("how much too good the selection makes the figure cannot be estimated: ")
    assert all(reason.endswith("ValueError: one resample too many") for reason in outcome.rejected)
    assert facts["rejected"] == context.study.user_attrs["rejected"] == outcome.rejected


def test_the_winner_is_saved_before_it_is_compared(context, tiny_run, monkeypatch):
    """A command that is killed in the comparison has lost nothing else, and the next one makes up for it."""
    folder = context.folder.path
    add_trial(context, tiny_run.best, 0.3)
    first = export_winner(context).exported
    assert first.facts["base"] is None
    assert "selection" not in first.facts
    assert context.study.user_attrs["winner"]["trial"] == 1
    assert read_gallery(folder)["base"] == []
    assert all((folder / name).is_file() for name in ("best.ckpt", "best.yaml", "MODEL.md"))
    assert "the base config on validation" not in (folder / "MODEL.md").read_text()

    outcome = export_and_complete(context)
    facts = outcome.exported.facts
    assert outcome.exported.is_earlier
    assert outcome.rejected == []
    assert facts["base"]["gain"]["value"] == pytest.approx(0, abs=1e-6)  # the same weights
    assert facts["selection"]["models"] == 2
    [curve] = read_gallery(folder)["base"]
    assert "the base config on validation" in (folder / "MODEL.md").read_text()

    # It is known now. And a base config that can no longer be loaded takes no pictures from the winner.
    monkeypatch.setattr(gain, "measured_winner", None)
    (folder / "gallery.json").unlink()
    (context.folder.trial(0) / "checkpoints/best.ckpt").write_bytes(b"torn")
    outcome = export_and_complete(context)
    assert outcome.rejected == []
    assert outcome.exported.facts == facts
    pictures = read_gallery(folder)
    assert pictures["winner"]["curves"][0]["title"] == curve["title"]
    assert pictures["base"] == []


def test_what_the_selection_adds_is_said_of_a_base_config_that_won(context, tiny_run):
    add_trial(context, tiny_run.best, 0.1)
    facts = export_and_complete(context).exported.facts
    line = "the winner is the best of 2 kept models on validation"
    [told] = [each for each in outcome_lines([], facts["metric"], Direction.MAX, facts) if line in each]
    assert told in (context.folder.path / "MODEL.md").read_text()


def test_a_finalists_run_is_no_best_of_many(context):
    outcome = replace(export_winner(context), is_finalist=True)
    assert "selection" not in complete(context, outcome).exported.facts


def test_models_whose_checkpoints_only_the_storage_keeps_are_chosen_among(context, tiny_run, tmp_path):
    lost = add_trial(context, tiny_run.best, 0.1)
    context = replace(context, storage=Storage(str(tmp_path / "store")))
    shutil.move(context.folder.trial(1), tmp_path / "store/trials/0001")
    assert not lost.is_file()
    assert export_and_complete(context).exported.facts["selection"]["models"] == 2


def test_a_file_that_violates_a_constraint_is_kept_and_the_note_says_what_to_do():
    rows = [
        {"precision": "fp16", "reason": "", "bytes": 2e6, "latency_ms": 3.0},
        {"precision": "int8", "reason": "", "bytes": 1.5e6, "latency_ms": 1.0},
    ]
    bounds = [Constraint.of(f"onnx_bytes@{precision} <= 1e6") for precision in ("int8", "fp16")]
    bounds += [Constraint.of("onnx_latency_ms@int8 <= 2"), Constraint.of("onnx_bytes <= 1")]
    fp16, int8 = violations(rows, bounds)
    assert fp16.startswith("the fp16 file violates onnx_bytes@fp16 <= 1e6: it has 2")
    assert int8.startswith("the int8 file violates onnx_bytes@int8 <= 1e6: it has 1.5")
    assert "The file is kept. If it must fit, raise quantize.max_loss" in int8
    assert violations([{**row, "reason": "it loses too much"} for row in rows], bounds) == []
