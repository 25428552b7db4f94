"""A trial's log: what its process prints, without secrets."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from otter_ray.redaction import LONGEST_LINE, redacted


class RedactedLog(io.TextIOWrapper):
    """A text file to which whole lines are appended, after secrets are struck out of them.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("ab"), encoding="utf-8", errors="backslashreplace", write_through=True)
        # Striking out may import and collect garbage, and what that prints is written here in between.
        self._line, self._lock = "", threading.RLock()

    def write(self, text: str) -> int:
        """Write the lines that are complete now; progress bars end a line with a carriage return."""
        with self._lock:
            self._line += text
            end = max(self._line.rfind("\n"), self._line.rfind("\r")) + 1
            if end == 0 and len(self._line) > LONGEST_LINE:
                end = LONGEST_LINE
            whole, self._line = self._line[:end], self._line[end:]
            if whole:
                super().write(redacted(whole))
                super().flush()
        return len(text)

    def close(self) -> None:
        """Write what is left, and close the file."""
        if not self.closed:
            with suppress(OSError):
                super().write(redacted(self._line))
            self._line = ""
        super().close()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append everything that the trial prints to a file.

    Args:
        path: of the file.
    """
    file = RedactedLog(path)
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        # Closing writes once more what a full disk did not accept.
        with suppress(OSError):
            file.close()
