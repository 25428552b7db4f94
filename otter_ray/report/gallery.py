"""What an export leaves for the report to show: curves and pictures of the winner, and the base's curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GALLERY = "gallery.json"


def read_gallery(folder: Path) -> dict[str, Any] | None:
    """What was left, None for nothing that can be read.

    It has `onnx`, the file that it is about; `winner`, as its model's `illustrate` gives it; and `base`, the
    base config's curves.
    """
    file = folder / GALLERY
    try:
        return json.loads(file.read_text()) if file.is_file() else None
    except ValueError:
        return None
