"""Run code in a process of its own, whose result, errors, log and death are the caller's to handle.

A library that corrupts memory ends its process without a word that Python could catch. And a process that
needs torch for a moment need not import it: it may call a fork of one that has.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import logging
import multiprocessing.connection
import multiprocessing.util
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import pairwise
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from otter_ray.console import lasting_streams
from otter_ray.errors import StudyError, in_one_line
from otter_ray.redaction import safe_text
from otter_ray.warn import SAID, warnings_for_users

T = TypeVar("T")
# Connects to a process that is in `serve_call`.
_CONNECT: ContextVar[Callable[[], Connection | None] | None] = ContextVar("connect", default=None)

GRACE = 5.0  # seconds that a process gets to clean up when its caller is gone
# Whoever handles these in the parent, as Ray does, would print pages about a child.
CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)


class ProcessCrashError(Exception):
    """A process died before it had a result.

    Attributes:
        stage: What it entered last; empty if nothing.
        cause: The name of the signal that ended it, or its exit code.
    """

    def __init__(self, stage: str, exit_code: int | None) -> None:
        self.stage = stage
        is_signal = exit_code is not None and exit_code < 0
        self.cause = signal.Signals(-exit_code).name if is_signal else f"exit code {exit_code}"  # type: ignore[operator]
        super().__init__(f"the process died {stage} ({self.cause})")


def run_isolated(function: Callable[[Callable[[str], None]], T]) -> T:
    """Run a function in a fork of this process, and return its result, or raise its error, as a pickle.

    A fork has already imported what this process has: it costs milliseconds. Outside Linux, where libraries
    do not survive one, the function runs in this process.

    Args:
        function: Gets a function that it may call with what it is about to do.

    Raises:
        ProcessCrashError: The process died.
    """
    if sys.platform != "linux":
        return function(lambda stage: None)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, sender), daemon=True)
    with warnings.catch_warnings():
        # Of Python 3.12: other threads may hold locks. Torch and Ray reset theirs, as for loader workers.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    try:
        result: T = _result(receiver)
        return result
    except _DiedError as died:
        process.join()
        raise ProcessCrashError(died.stage, process.exitcode) from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def call(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a fork of the server that `calls_answered_by` names; without one, in this process.

    A function of this process that needs torch runs there, so that this process need not import it. Its log
    is this process's. What it changes in memory is lost.

    Args:
        function: Of a module that imports torch in its functions only, if at all.
        arguments: Can be pickled, as the result and errors.

    Raises:
        StudyError: The fork died.
        KeyboardInterrupt: Ctrl-C was pressed. The fork has ended.
    """
    connect = _CONNECT.get()
    connection = connect and connect()
    if connection is None:
        return function(*arguments)
    with connection:
        try:
            with suppress(ConnectionError):  # it has died: so says its answer
                connection.send((function, arguments, sorted(SAID), sys.orig_argv))
            result, said = _result(connection)
        except _DiedError:
            raise StudyError(
                f"{function.__name__.strip('_')}: its process died. If the memory was full, `dmesg` says so: "
                "end other programs, or lower common.batch_size."
            ) from None
        except KeyboardInterrupt:
            _end(connection)
            raise
    SAID.update(said)
    return result  # type: ignore[no-any-return]


@contextmanager
def calls_answered_by(connect: Callable[[], Connection | None]) -> Iterator[None]:
    """Let `call` run functions in other processes during the block.

    Args:
        connect: Returns a connection to a process that is in `serve_call`; None if there is none.
    """
    token = _CONNECT.set(connect)
    try:
        yield
    finally:
        _CONNECT.reset(token)


def serve_call(connection: Connection) -> None:
    """Run what the process at the other end calls, and end when it does."""
    os.register_at_fork(after_in_child=connection.close)
    over = threading.Event()

    def run(enter: Callable[[str], None]) -> Any:
        function, arguments, said, sys.orig_argv = connection.recv()
        threading.Thread(target=_end_with, args=[connection, over], daemon=True).start()
        with warnings_for_users():
            SAID.update(said)
            return function(*arguments), {*SAID}

    lasting_streams()
    answer = _answer(run, connection)
    over.set()
    connection.send_bytes(answer)


def forget_exit_handlers() -> None:
    """Forget what libraries of the parent wanted done when it ends: a fork would do it for all.

    What multiprocessing does then is kept: it ends a process's own children.
    """
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]


def run_exit_handlers() -> None:
    """Do what is to be done at the end of this process, which `os._exit` leaves out."""
    atexit._run_exitfuncs()


class _DiedError(Exception):
    """The process at the other end has ended without a result.

    Attributes:
        stage: What it entered last; empty if nothing.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


def _result(receiver: Connection) -> Any:
    """Return what a process answers, or raise its error. What it logs meanwhile is logged here."""
    stage = ""
    while True:
        try:
            kind, content = receiver.recv()
        except (EOFError, OSError):  # at once, or in the midst of a message
            raise _DiedError(stage) from None
        if kind == "stage":
            stage = content
        elif kind == "log":
            logger = logging.getLogger(content.name)
            if logger.isEnabledFor(content.levelno):
                logger.handle(content)
        elif kind == "error":
            raise _chained(*content)
        else:
            return content


class _LogSender(QueueHandler):
    """Send log records to the caller."""

    def __init__(self, sender: Connection) -> None:
        super().__init__(queue.SimpleQueue())  # the base prepares records for a journey; it gets none
        self.sender = sender

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send one; a process that the called one has started, such as a loader's, prints it."""
        if self.sender.closed:
            print(safe_text(record.getMessage()), file=sys.stderr)
        else:
            self.sender.send(("log", record))


@contextmanager
def _log_to(sender: Connection) -> Iterator[None]:
    """Send what otter_ray logs during the block to the caller, who decides what is shown."""
    logger = logging.getLogger("otter_ray")
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [_LogSender(sender)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def _end(connection: Connection) -> None:
    """End the process that was called, and wait until it has."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line, suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        line.settimeout(GRACE)
        while line.recv(1 << 16):
            pass


def _end_with(connection: Connection, over: threading.Event) -> None:
    """Wait until the caller wants no answer any more, then end this process.

    If the caller has died, this process dies with it. If it was interrupted, so is this one: with time to
    clean up.
    """
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    has_died = any(event & select.POLLHUP for _, event in poll.poll())
    if over.is_set():
        return
    if not has_died:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def _portable(exc: BaseException) -> Exception:
    """Return the error, or what it says if it does not survive the way to the parent."""
    try:
        copy = ForkingPickler.loads(ForkingPickler.dumps(exc))
    except Exception:  # whatever its class raises when it is copied
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(in_one_line(exc))


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, the first cause last."""
    seen: list[BaseException] = []
    found: BaseException | None = exc
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _chained(causes: list[Exception], where: str) -> Exception:
    """Return the error with its causes again, of which a pickle keeps none, and where it was raised."""
    causes[-1].__cause__ = RemoteTraceback(where)
    for exc, cause in pairwise(causes):
        exc.__cause__ = cause
    return causes[0]


def keep_what_the_parent_had() -> None:
    """Never free in this fork what its parent had thrown away and not yet freed.

    A session of onnxruntime ends its threads when it is freed. A fork has none of them: it would crash or
    hang.
    """
    gc.freeze()


def _run(function: Callable[[Callable[[str], None]], Any], sender: Connection) -> None:
    keep_what_the_parent_had()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    faulthandler.disable()
    for crash in CRASHES:
        signal.signal(crash, signal.SIG_DFL)
    sender.send_bytes(_answer(function, sender))


def _answer(function: Callable[[Callable[[str], None]], Any], sender: Connection) -> memoryview:
    """Run a function, and return what `_result` understands, pickled. Its log goes to the sender."""
    try:
        with _log_to(sender):
            return ForkingPickler.dumps(("result", function(lambda stage: sender.send(("stage", stage)))))
    except (Exception, SystemExit) as exc:
        causes, where = [*map(_portable, _causes(exc))], "".join(traceback.format_exception(exc))
        return ForkingPickler.dumps(("error", (causes, where)))
