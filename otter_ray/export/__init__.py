"""From a checkpoint to an ONNX file that is verified to work. Knows nothing of Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otter_ray import lazy

if TYPE_CHECKING:
    from otter_ray.export.exporter import export_checkpoint
    from otter_ray.export.result import Exported
else:
    __getattr__ = lazy.on_first_use(__name__, {"Exported": "result", "export_checkpoint": "exporter"})

__all__ = ["Exported", "export_checkpoint"]
