"""What is left of a trial's process that a signal ended: `faulthandler` writes where it was, just before.

A process that was killed (SIGKILL), such as by the kernel for memory, leaves nothing.
"""

from __future__ import annotations

import faulthandler
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otter_ray.study.layout import CRASH, StudyFolder

SIGNALS = {
    signal.strsignal(number): number.name
    for number in (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
}


@contextmanager
def crash_report(path: Path) -> Iterator[None]:
    """Have the Python stack of every thread written to a file if a signal ends this process in the block."""
    was_enabled = faulthandler.is_enabled()
    with path.open("w") as file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            if was_enabled and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)
            with suppress(OSError):
                path.unlink()  # an exception is told otherwise


def describe_death(study: StudyFolder | None, number: int, unknown: str) -> str:
    """Say how a trial's process died.

    Args:
        study: The study's folder; None if it has none.
        number: The trial's number.
        unknown: What to say if no report there names a signal.
    """
    for report in sorted(study.trial(number).glob(CRASH.replace(".", "*."))) if study else ():
        with suppress(OSError):
            if found := re.match(r"Fatal Python error: (.+)", report.read_text(errors="replace")):
                name = SIGNALS.get(found[1], found[1])
                return f"its process died ({name}; {report.name} in its folder says where)"
    return unknown
