"""What a killed command leaves in a study's folder: files that it was about to complete."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from otter_ray.export.model_files import remove_orphans
from otter_ray.formatting import LOWER_PRECISIONS
from otter_ray.study.layout import PARTIAL, RESTORED, StudyFolder
from otter_ray.study.storage import Storage

# Names of files that otter_ray itself was writing: by `atomic_write`, a trial's checkpoint, an export.
_PRECISIONS = "|".join(("fp32", *LOWER_PRECISIONS))
_OWN = re.compile(rf"(\..+\.\d+\.\d+|last\.ckpt|copy|.+_({_PRECISIONS})(-\d+)?)\.partial")


def remove_leftovers(folder: StudyFolder, storage: Storage | None) -> None:
    """Remove what was being written when a command was killed, in the folder and in a storage that is a path.

    An object store shows only whole objects. Only the process that holds the study may do so.

    Args:
        folder: the study's.
        storage: of the study's copy, if there is one.
    """
    remove_orphans(folder.path)
    _remove_partials(folder.path)
    if storage is not None and storage.path is not None:
        _remove_partials(storage.path)


def _remove_partials(study: Path) -> None:
    """Remove our own files that are not complete. Links are not followed: nothing outside is touched."""
    shutil.rmtree(study / f"{RESTORED}{PARTIAL}", ignore_errors=True)
    for place, _, names in os.walk(study):
        for name in names:
            if _OWN.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)
