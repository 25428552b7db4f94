"""A kill before each renaming of an export: the next command completes what it finds."""

import os
import shutil
import signal
import sys
from itertools import count

import pytest
import torch

from otter_ray.isolation import ProcessCrashError, run_isolated
from otter_ray.study.layout import StudyFolder
from otter_ray.study.leftovers import remove_leftovers
from otter_ray.tune.selection.winner import export_winner
from tests.support.trained_study import add_trial, models, opened_study, trained_study

MODEL_FILES = (".md", ".json", ".onnx")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@pytest.fixture(autouse=True)
def one_thread():
    """Each of the exports is small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def killed_before(number, function):
    """Run the function in a process that dies before its renaming `number` of one of a model's files.

    Returns:
        Whether it came to that.
    """
    left = iter(range(number, -1, -1))

    def die(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(MODEL_FILES) and not next(left):
            os.kill(os.getpid(), signal.SIGKILL)

    def run(stage):
        sys.addaudithook(die)
        function()

    try:
        run_isolated(run)
    except ProcessCrashError as exc:
        if exc.cause != "SIGKILL":
            raise
        return True
    return False


def test_a_kill_at_any_renaming_of_an_export_is_completed(tiny_config, tiny_run, tmp_path):
    """Another trial has become the winner: its model takes the name, and the earlier one goes aside."""
    before = trained_study(tmp_path / "before", tiny_config, tiny_run.best)
    [plain] = [export_winner(before).exported.onnx.name]
    add_trial(before, tiny_run.best, 0.3)
    for number in count():
        folder = StudyFolder(tmp_path / str(number) / "demo/first")
        shutil.copytree(before.folder.path, folder.path)
        context = opened_study(folder, tiny_config)
        was_killed = killed_before(number, lambda: export_winner(context))  # noqa: B023
        remove_leftovers(folder, None)
        export_winner(opened_study(folder, tiny_config))
        assert models(folder.path) == {plain: 1}, number
        assert models(folder.path / "exports") == {plain: 0}, number
        assert not [*folder.path.rglob("*.partial")], number
        assert {path.stem for path in folder.path.glob("*_fp32*")} == {plain.removesuffix(".onnx")}, number
        if not was_killed:
            break
    assert number >= 6  # three files go aside; the new JSON, ONNX and card take their names
