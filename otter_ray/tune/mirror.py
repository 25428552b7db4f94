"""The journal of a running study, copied to its storage as trials end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune import Callback
from rich.console import Console

from otter_ray.errors import OtterError
from otter_ray.tune.storage import Storage


class JournalMirror(Callback):  # type: ignore[misc]
    """Copies it at each end. What cannot be copied now is with the next: the study goes on meanwhile.

    Args:
        storage: of the study, which is told of an end before callbacks are.
        folder: the study's.
        console: where trouble is told.
    """

    def __init__(self, storage: Storage, folder: Path, console: Console) -> None:
        self.storage, self.folder, self.console = storage, folder, console

    def on_trial_complete(self, **info: Any) -> None:
        """A trial ended or was stopped."""
        try:
            self.storage.put_journal(self.folder)
        except (OSError, OtterError) as exc:
            self.console.print(f"not kept in {self.storage.uri} yet: {exc}", markup=False)

    on_trial_error = on_trial_complete

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks and we never read them back."""
        return {}
