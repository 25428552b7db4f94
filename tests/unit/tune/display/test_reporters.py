"""What a running study shows: lines, JSON, and the live view on an emulated terminal."""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from types import ModuleType, SimpleNamespace

import optuna
import pyte
import pytest
import typer
from rich.console import Console, Group

from otter_ray import cli
from otter_ray.cli import cli_errors
from otter_ray.console import ConsoleHandler, plain_console
from otter_ray.errors import StudyError
from otter_ray.projects.docclassifier.metrics.pair_roc import SmallSetWarning
from otter_ray.space import StudyOptions
from otter_ray.study.naming import StudyNames
from otter_ray.tune.cluster.planner import make_plan
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.display.factory import choose_reporter
from otter_ray.tune.display.json_lines import JsonLinesReporter
from otter_ray.tune.display.live import LiveReporter, picture
from otter_ray.tune.display.notebook import NotebookReporter, notebook
from otter_ray.tune.display.plain import PlainReporter
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.display.study_state import StudyState
from otter_ray.tune.driver.interrupts import handle_interrupts
from otter_ray.tune.driver.progress_callback import ProgressCallback
from otter_ray.tune.messages import EpochResult, GpuMemory, TrialFailure, TrialResources
from otter_ray.tune.search.stopping import StopController

METRIC = "valid_fpr@4"
LOGGER = logging.getLogger("otter_ray.tune")
CHANGES = {"optimizer.options.lr": 0.0123, "model.loss.name": "ArcFace", "model.loss.options.s": 16}


@pytest.fixture
def watched(study):
    """Feeds a study of so many slots with what Tune would say."""

    def watch(reporter, slots=2, labels=None):
        options = StudyOptions(metric="valid_fpr@4", num_trials=200)
        plan = make_plan(options, [Node(slots)], accelerator="cpu", max_epochs=4)
        state = StudyState(options, 4, plan, StudyNames("demo/s", labels or {}))
        return Told(study, state, ProgressCallback(study, state, reporter))

    return watch


class Told:
    """Tells a `Progress` of trials, and the journal first, as a driver does."""

    def __init__(self, study, state, progress):
        self.study, self.state, self.progress = study, state, progress

    def begin(self, values):
        number = self.study.ask().number
        self.study.trials[number]
        self.study._storage.set_trial_user_attr(number, "values", values)
        trial = SimpleNamespace(config={"number": number, "values": values}, num_failures=0)
        self.progress.on_trial_start(trial=trial)
        return trial

    def epoch(self, trial, epoch, value, gpu=None, **tunes):
        self.study._storage.set_trial_intermediate_value(trial.config["number"], epoch, value)
        self.study._storage.set_trial_user_attr(trial.config["number"], f"curve/{epoch}", {"epoch": epoch})
        report = EpochResult(epoch, value, resources=TrialResources(gpu=gpu)).to_tune()
        self.progress.on_trial_result(trial=trial, result={**report, **tunes})

    def end(self, trial, state=optuna.trial.TrialState.COMPLETE, **more):
        self.study.tell(trial.config["number"], state=state, **more)
        self.progress.on_trial_complete(trial=trial)


def fail(told, trial):
    failure = TrialFailure("the loss is nan").to_tune()
    told.progress.on_trial_result(trial=trial, result={**failure, "done": True})
    told.study._storage.set_trial_user_attr(trial.config["number"], "error", "the loss is nan")
    told.end(trial, optuna.trial.TrialState.FAIL)


def a_study(told):
    """A base that ends, a trial that fails, and one that runs."""
    base, bad = told.begin({}), told.begin({"a": 1})
    told.epoch(base, 1, 0.25)
    fail(told, bad)
    running = told.begin(CHANGES)
    told.epoch(running, 1, 0.5, done=True)
    told.epoch(base, 4, 0.75)
    told.end(base, values=[0.75])
    return running


def test_a_reporter_that_fails_costs_no_study(watched, printed):
    class Failing(ProgressReporter):
        def event(self, kind, state=None, /, **facts):
            raise UnicodeEncodeError("ascii", "▁", 0, 1, "ordinal not in range(128)")

    told = watched(Failing())
    a_study(told)
    told.progress.on_step_end()
    (line,) = printed().splitlines()
    assert line.startswith("warning: Failing failed and shows nothing any more: UnicodeEncodeError: ")
    assert (told.state.ended, told.state.best.value) == (2, 0.75)


def test_plain_lines_tell_each_epoch_beside_the_best_so_far(watched, printed):
    a_study(watched(PlainReporter()))
    lines = [line.split(maxsplit=1)[1] for line in printed().splitlines()]
    assert lines == [
        "0/200 done  trial base  epoch 1/4  valid_fpr@4 0.2500  (best 0.2500, trial 0)",
        "0/200 done  trial    1  failed: the loss is nan (see trials/0001/log.txt)",
        "1/200 done  trial    2  epoch 1/4  valid_fpr@4 0.5000  (best 0.5000, trial 2)  stopped",
        "1/200 done  trial base  epoch 4/4  valid_fpr@4 0.7500  (best 0.7500, trial 0)",
    ]


def test_a_quiet_console_hears_of_errors_alone(watched, study, capsys):
    reporter = PlainReporter(plain_console(), quiet=True)
    with reporter.command():
        a_study(watched(reporter))
        reporter.show("a table")
        LOGGER.info("good to know")
        StopController(study).request_stop("the time budget is used up")
    first, second = capsys.readouterr().out.splitlines()
    assert "trial    1  failed: the loss is nan (see trials/0001/log.txt)" in first
    assert second.startswith("the time budget is used up: running trials finish")


def test_every_json_line_is_an_event_and_words_go_to_stderr(watched, capsys):
    reporter = JsonLinesReporter(plain_console(stderr=True), sys.stdout)
    told = watched(reporter)

    def command():
        with reporter.command():
            a_study(told)
            print("a library speaks")
            LOGGER.info("good to know")
            reporter.show("a table")
            raise StudyError("the disk is full")

    with pytest.raises(StudyError):
        command()
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    kinds = ["began", "began", "epoch", "error", "ended", "began", "epoch", "epoch", "ended", "error"]
    assert [event["event"] for event in events] == kinds
    assert events[3] == {**events[3], "trial": 1, "error": "the loss is nan", "goes_on": False}
    assert events[4] == {**events[4], "trial": 1, "state": "failed", "log": "trials/0001/log.txt"}
    assert events[6]["stopped"]
    assert events[7]["best"] == {"trial": 0, "value": 0.75}
    assert events[8] == {**events[8], "trial": 0, "state": "complete", "value": 0.75, "epochs": 4}
    assert events[9]["error"] == "the disk is full"
    assert err.splitlines() == ["a library speaks", "good to know", "a table"]


@pytest.fixture
def terminal():
    """(a console on an emulated terminal, what is on its screen)."""
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            stream.feed(text.replace("\n", "\r\n").encode())
            return len(text)

    file = Terminal()
    console = Console(file=file, force_terminal=True, width=80, height=24, markup=False, soft_wrap=True)

    def shown():
        return [line.rstrip() for line in screen.display if line.strip()]

    return console, shown


def test_the_live_view_is_drawn_in_its_place_below_what_is_printed(watched, terminal, monkeypatch):
    monkeypatch.setattr("otter_ray.tune.display.live.EVERY", 0)
    monkeypatch.setattr("otter_ray.tune.display.live.SHARE", 1e9)
    monkeypatch.setattr(LiveReporter, "seconds", 0)
    console, shown = terminal
    monkeypatch.setattr(sys, "stderr", console.file)
    reporter = LiveReporter(console)
    told = watched(reporter)
    with reporter.command(), reporter.running():
        running = a_study(told)
        told.progress.on_step_end()
        print("warning: a document is odd", file=sys.stderr)
        told.epoch(running, 2, 0.625)
        told.progress.on_step_end()
        error, warning, *view = shown()
        assert error == "  0:00  trial 1  failed: the loss is nan (see trials/0001/log.txt)"
        assert warning == "warning: a document is odd"
        assert view[0] == " demo/s  2 of 200 trials done (1 running, 1 failed)  0:00"
        assert view[1].startswith(" slots 1/2")
        assert view[2].split() == ["passed", "after", "epoch", "1:", "2", "of", "2", "2:", "2", "of", "2"]
        assert view[4].split() == ["best", "0", "4/4", "0.7500", "▃▇"]
        assert view[5].split() == ["base", "0", "4/4", "0.7500", "▃▇"]
        assert view[6].split() == ["2", "2/4", "0.6250", "▅▆", "lr=0.0123", "name=ArcFace", "s=16"]
        assert len(view) == 7
    # Tables follow where it was.
    assert not [line for line in shown() if "slots" in line]


def test_it_fits_every_screen(watched):
    told = watched(ProgressReporter(), slots=100)
    for number in range(100):
        trial = told.begin({**CHANGES, "model.loss.options.a_name_that_is_long": number})
        told.epoch(trial, 1, number / 100, gpu=GpuMemory(2**30, 80 * 2**30))
    for width, height in ((80, 24), (120, 40), (60, 12), (200, 120)):
        console = Console(file=io.StringIO(), width=width, height=height)
        console.print(picture(told.state, height, 3600))
        lines = console.file.getvalue().splitlines()
        assert len(lines) <= height - 1
        assert all(len(line) <= width for line in lines)
        shown = [line.split()[0] for line in lines if " 1/4 " in line]
        assert {"best", "99"} <= {*shown}
        assert (len(shown) - 1 == 100) != (f"+ {101 - len(shown)} " in "\n".join(lines))


def test_what_ctrl_c_says_while_a_picture_is_drawn_comes_after_it(watched, terminal, study, monkeypatch):
    console, shown = terminal
    reporter = LiveReporter(console)
    told, controller = watched(reporter), StopController(study)

    class Interrupted:
        def __rich_console__(self, console, options):
            if not controller.is_interrupt:
                os.kill(os.getpid(), signal.SIGINT)
            yield "a line"

    monkeypatch.setattr(
        "otter_ray.tune.display.live.picture", lambda *of: Group(picture(*of), Interrupted(), picture(*of))
    )
    with handle_interrupts(controller), reporter.command(), reporter.running():
        told.begin({})
        told.progress.on_step_end()
        lines = shown()
        assert lines[0].startswith("interrupted (press Ctrl-C again to stop at once)")
        assert sum("demo/s" in line for line in lines) == 2
        assert len(lines) == 13


def test_a_print_that_nobody_reads_can_be_interrupted():
    """The first Ctrl-C waits for the print; it may never end."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    console = Console(file=os.fdopen(write, "w"), highlight=False, markup=False, soft_wrap=True)
    for seconds in (0.2, 0.6):
        threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        ConsoleHandler(console).handle(logging.makeLogRecord({"msg": "words\n" * 5000}))
    os.close(read)
    with contextlib.suppress(BrokenPipeError):
        console.file.close()


@pytest.mark.parametrize("kind", [PlainReporter, LiveReporter])
def test_what_the_second_ctrl_c_cuts_short_is_said_once(watched, terminal, study, monkeypatch, kind):
    """It comes when the words can be read, and before rich has forgotten them."""
    console, shown = terminal
    reporter = kind(console)
    controller, flush = StopController(study), console.file.flush

    again = [signal.SIGINT]

    def interrupted():
        flush()
        if controller.is_interrupt and again:
            os.kill(os.getpid(), again.pop())

    monkeypatch.setattr(console.file, "flush", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        handle_interrupts(controller),
        reporter.command(),
        reporter.running(),
    ):
        os.kill(os.getpid(), signal.SIGINT)
    console.print("the end")
    words = " ".join(shown()).split()
    assert words[0] == "interrupted"
    assert words[-4:] == ["search", "ends", "the", "end"]
    assert words.count("interrupted") == 1


def test_pictures_take_a_small_share_of_the_drivers_time(watched, terminal, monkeypatch):
    console, _ = terminal
    reporter, drawn = LiveReporter(console), []
    told = watched(reporter)
    times = iter([100.0, 100.5, 101.0, 115.0, 126.0, 126.5])  # a picture takes 0.5 s: 25 s pass to the next
    monkeypatch.setattr("otter_ray.tune.display.live.time.monotonic", lambda: next(times))
    monkeypatch.setattr("otter_ray.tune.display.live.picture", lambda *of: drawn.append(of) or "")
    monkeypatch.setattr(LiveReporter, "seconds", 0)
    with reporter.running():
        for expected in (1, 1, 1, 2):
            reporter.event("epoch", told.state)
            reporter.draw(told.state)
            assert len(drawn) == expected


def test_a_notebook_shows_the_live_view_below_the_cell(watched, monkeypatch):
    """Colab's shell is a subclass of Jupyter's."""

    class ZMQInteractiveShell:
        pass

    class Shell(ZMQInteractiveShell):
        pass

    class Display(ModuleType):
        HTML = staticmethod(str)

        def display(self, html, display_id):
            assert display_id
            self.shown.append(html)
            return SimpleNamespace(update=self.shown.append)

    display, ipython = Display("IPython.display"), ModuleType("IPython")
    display.shown = []
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    for shell in (None, object()):
        ipython.get_ipython = lambda shell=shell: shell
        assert notebook() is None
    ipython.get_ipython = Shell
    reporter = NotebookReporter(plain_console(), notebook())
    told = watched(reporter, labels={0: "<b>"})
    monkeypatch.setattr(NotebookReporter, "seconds", 0)
    times = iter([100.0, 100.5, 101.0, 126.0, 126.5])
    monkeypatch.setattr("otter_ray.tune.display.live.time.monotonic", lambda: next(times))
    with reporter.running():
        assert display.shown == [""]
        reporter.draw(told.state)
        assert len(display.shown) == 2
        assert display.shown[1].startswith("<pre")
        assert "demo/s" in display.shown[1]
        reporter.event("epoch", told.state)
        reporter.draw(told.state)  # the picture took 0.5 s: 25 s pass to the next
        assert len(display.shown) == 2
        reporter.draw(told.state)
        assert len(display.shown) == 3
    assert display.shown[3:] == [""]


def test_no_terminal_no_live_view(capsys):
    assert type(choose_reporter()) is PlainReporter
    assert type(choose_reporter(as_json=True)) is JsonLinesReporter


def test_a_warning_of_ours_is_said_once(capsys):
    def command():
        with cli_errors():
            said = [UserWarning("one"), UserWarning("one"), UserWarning("another")]
            said += [SmallSetWarning("it rests on 6 documents"), SmallSetWarning("it rests on 4 documents")]
            for warning in said:
                with warnings.catch_warnings():  # which makes Python forget what it has said
                    warnings.simplefilter("default")
                    warnings.warn_explicit(warning, None, cli.__file__, 1)
            raise StudyError("the end")

    with pytest.raises(typer.Exit):
        command()
    said = ["warning: one", "warning: another", "warning: it rests on 6 documents", "error: the end"]
    assert capsys.readouterr().err.splitlines() == said


def test_who_watches_and_goes_takes_no_study_along():
    read, write = os.pipe()
    reporter = JsonLinesReporter(plain_console(stderr=True), os.fdopen(write, "w"))
    os.close(read)
    reporter.event("plan", trials=3)
    reporter.event("end", code=0)
