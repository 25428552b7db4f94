"""The names of a run's checkpoint files. A trial's folder has the same layout as a run's."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = "checkpoints"  # folder within a run's folder
BEST_CHECKPOINT = "best.ckpt"  # of the best epoch; in a study's folder: the winner's
LAST_CHECKPOINT = "last.ckpt"  # of the last epoch; training resumes from it
ANY_CHECKPOINT = "*.ckpt"


def checkpoints_of(run: Path) -> Path:
    """Return the folder in which a run keeps its checkpoints."""
    return run / CHECKPOINTS


def callback_checkpoints_of(run: Path) -> Path:
    """Return the folder for a ModelCheckpoint's: none of them replaces one that the run itself keeps."""
    return checkpoints_of(run) / "callback"


def best_checkpoint_of(run: Path) -> Path:
    """Return where a run keeps its best epoch's checkpoint."""
    return checkpoints_of(run) / BEST_CHECKPOINT


def last_checkpoint_of(run: Path) -> Path:
    """Return where a run keeps its last checkpoint."""
    return checkpoints_of(run) / LAST_CHECKPOINT


def epoch_checkpoint(epoch: int) -> str:
    """Return the file name under which an epoch's checkpoint is kept for other trials."""
    return f"epoch-{epoch:04d}.ckpt"
