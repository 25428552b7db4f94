"""A kill before each renaming of an export: the next command completes what it finds."""

import os
import shutil
import signal
import sys
from itertools import count

import pytest

from otter_ray.errors import StudyError
from otter_ray.export.model_files import read_facts
from otter_ray.isolation import call
from otter_ray.study.layout import StudyFolder
from otter_ray.study.leftovers import remove_leftovers
from otter_ray.tune.selection import completion
from otter_ray.tune.selection.calls import find_winner
from otter_ray.tune.selection.winner import export_winner
from otter_ray.tune.worker.forks import ForkServer, worker_imports
from tests.support.trained_study import add_trial, export_and_complete, models, opened_study, trained_study

MODEL_FILES = (".md", ".json", ".onnx")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


def export(path, config):
    """Export the winner of the study at a path, and return its file's name."""
    return export_winner(opened_study(StudyFolder(path), config)).exported.onnx.name


def export_all(path, config):
    """The same, with what the winner can be without."""
    return export_and_complete(opened_study(StudyFolder(path), config)).exported.onnx.name


def die(context, outcome, exported):
    os.kill(os.getpid(), signal.SIGKILL)


def killed(export, path, config, number, test):
    """Export in a process that dies before its renaming `number` of one of a model's files."""
    assert os.getpid() != test
    left = iter(range(number, -1, -1))

    def kill(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(MODEL_FILES) and not next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    export(path, config)


def copies_after_kills(before, folder, export, config):
    """Yield (number, copy) of a study in which an export was killed before each of its renamings.

    The last one was not killed.
    """
    for number in count():
        copy = StudyFolder(folder / str(number) / "demo/first")
        shutil.copytree(before, copy.path)
        was_killed = False
        try:
            call(killed, export, copy.path, config, number, os.getpid())
        except StudyError:  # of nothing but its death
            was_killed = True
        remove_leftovers(copy, None)
        yield number, copy.path
        if not was_killed:
            return


def test_a_kill_at_any_renaming_of_an_export_is_completed(tiny_config, tiny_run, tmp_path, monkeypatch):
    """Another trial has become the winner: its model takes the name, and the earlier one goes aside."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = trained_study(tmp_path / "before", tiny_config, tiny_run.best).folder.path
    with ForkServer(worker_imports("docclassifier")):
        plain = call(export, before, tiny_config)
        add_trial(opened_study(StudyFolder(before), tiny_config), tiny_run.best, 0.3)
        for number, folder in copies_after_kills(before, tmp_path, export, tiny_config):
            call(export, folder, tiny_config)
            assert models(folder) == {plain: 1}, number
            assert models(folder / "exports") == {plain: 0}, number
            assert not [*folder.rglob("*.partial")], number
            assert {path.stem for path in folder.glob("*_fp32*")} == {plain.removesuffix(".onnx")}, number
    assert number >= 6  # three files go aside; the new JSON, ONNX and card take their names


def test_a_kill_while_another_precision_is_written_is_completed(tiny_config, tiny_run, tmp_path, monkeypatch):
    """An earlier winner gets its file when a study is resumed with `quantize`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = trained_study(tmp_path / "before", tiny_config, tiny_run.best).folder.path
    asks = tiny_config.with_sets(["quantize={do_quant: true, precisions: [fp16], max_loss: 1}"])
    with ForkServer(worker_imports("docclassifier")):
        plain = call(export_all, before, tiny_config)
        half = plain.replace("_fp32", "_fp16")
        for number, folder in copies_after_kills(before, tmp_path, export_all, asks):
            # A file of which no JSON tells does not stay.
            kept = read_facts(folder / plain).get("precisions", [])
            assert (folder / half).exists() == any(row["file"] == half for row in kept), number
            assert not [*folder.rglob("*.partial")], number
            call(export_all, folder, asks)
            rows = read_facts(folder / plain)["precisions"]
            assert [row["file"] for row in rows] == [plain, half], number
            assert {path.name for path in folder.glob("*.onnx")} == {plain, half}, number
    assert number >= 3  # the ONNX file, the JSON and the card


def test_a_step_whose_process_dies_costs_neither_the_winner_nor_the_next_step(
    tiny_config, tiny_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asks = tiny_config.with_sets(["quantize={do_quant: true, precisions: [fp16], max_loss: 1}"])
    context = trained_study(tmp_path, asks, tiny_run.best)
    monkeypatch.setattr(completion, "STEPS", ((die, "not compared"), completion.STEPS[-1]))
    with ForkServer(worker_imports("docclassifier")):
        outcome = completion.complete(context, call(find_winner, context, None))
    [note] = outcome.rejected
    assert note.startswith("not compared: die: its process died.")
    facts = outcome.exported.facts
    assert facts["rejected"] == outcome.rejected
    assert [row["precision"] for row in facts["precisions"]] == ["fp32", "fp16"]
    assert context.study.user_attrs["winner"]["trial"] == 0
