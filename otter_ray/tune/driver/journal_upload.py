"""Upload a running study's journal and model statistics to its storage as trials begin and end."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from ray.tune import Callback

from otter_ray.errors import OtterError
from otter_ray.study.layout import MODEL_STATS_FILE
from otter_ray.study.storage import Storage
from otter_ray.tune.ray_compat import NotPickled

logger = logging.getLogger(__name__)


class JournalUploader(NotPickled, Callback):  # type: ignore[misc]
    """Upload the journal in a thread, so that the search does not wait for it.

    What could not be uploaded is part of the next upload.

    Args:
        storage: of the study.
        folder: the study's.
    """

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage, self.folder = storage, folder
        self._wanted, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._copy, name="journal upload", daemon=True)

    def setup(self, **info: Any) -> None:
        """Start the thread when the search begins."""
        self._thread.start()

    def on_trial_start(self, **info: Any) -> None:
        """Ask for an upload: a trial has its number and its values."""
        self._wanted.set()

    on_trial_complete = on_trial_error = on_trial_start

    def on_experiment_end(self, **info: Any) -> None:
        """Upload for the last time, and wait for it."""
        self._is_over = True
        self._wanted.set()
        self._thread.join()

    def _copy(self) -> None:
        while not self._is_over:
            self._wanted.wait()
            self._wanted.clear()
            try:
                if (stats := self.folder / MODEL_STATS_FILE).is_file():
                    self.storage.put(stats, MODEL_STATS_FILE)
                self.storage.put_journal(self.folder)
            except (OSError, OtterError) as exc:
                logger.warning(f"the journal could not be copied to {self.storage.uri} yet: {exc}")
