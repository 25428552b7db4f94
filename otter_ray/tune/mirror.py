"""The journal of a running study, and its figures, copied to its storage as trials begin and end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ray.tune import Callback
from rich.console import Console

from otter_ray.cli import tell
from otter_ray.errors import OtterError
from otter_ray.tune.figures import FILE
from otter_ray.tune.storage import Storage


class JournalMirror(Callback):  # type: ignore[misc]
    """Copies it beside the search, which does not wait for it. What cannot be copied now is with the next.

    Args:
        storage: of the study, which is told of an end before callbacks are.
        folder: the study's.
        console: where trouble is told.
    """

    def __init__(self, storage: Storage, folder: Path, console: Console) -> None:
        self.storage, self.folder, self.console = storage, folder, console
        self._wanted, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._copy, name="journal mirror", daemon=True)

    def setup(self, **info: Any) -> None:
        """The search begins."""
        self._thread.start()

    def on_trial_start(self, **info: Any) -> None:
        """A trial has its number and its values."""
        self._wanted.set()

    on_trial_complete = on_trial_error = on_trial_start

    def on_experiment_end(self, **info: Any) -> None:
        """The search is over: what is under way is waited for."""
        self._is_over = True
        self._wanted.set()
        self._thread.join()

    def _copy(self) -> None:
        while not self._is_over:
            self._wanted.wait()
            self._wanted.clear()
            try:
                if (figures := self.folder / FILE).is_file():
                    self.storage.put(figures, FILE)
                self.storage.put_journal(self.folder)
            except (OSError, OtterError) as exc:
                tell(self.console, f"not kept in {self.storage.uri} yet: {exc}")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}
