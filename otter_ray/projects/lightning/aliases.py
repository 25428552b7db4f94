"""One Lightning for all modules: `pytorch_lightning` is the name that older code has for `lightning.pytorch`.

Its classes are others than Lightning's own if both packages are installed, and a Trainer of the one refuses
modules of the other. The package below both names is the same. A program finds the other package again when
otter_ray leaves it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from otter_ray.host_program import ON_LEAVING

OTHER, OWN = "pytorch_lightning", "lightning.pytorch"


class _Alias(MetaPathFinder, Loader):
    """Finds Lightning's modules under the other name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the other package and what is in it."""
        return ModuleSpec(fullname, self) if f"{fullname}.".startswith(f"{OTHER}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return Lightning's own module."""
        module = importlib.import_module(f"{OWN}{spec.name.removeprefix(OTHER)}")
        self.found = (module, module.__spec__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it was: it has been imported, and keeps its own name."""
        found, spec = self.found
        found.__spec__ = spec


def use_one_lightning() -> None:
    """Let `import pytorch_lightning` find `lightning.pytorch`, unless the other package is there already."""
    if OTHER not in sys.modules and not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())


def forget_one_lightning() -> None:
    """Let `import pytorch_lightning` find what is installed. Classes that have been imported stay."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Alias)]
    for name, module in [*sys.modules.items()]:
        is_other = f"{name}.".startswith(f"{OTHER}.")
        if is_other and f"{getattr(module, '__name__', '')}.".startswith(f"{OWN}."):
            del sys.modules[name]


ON_LEAVING.append(forget_one_lightning)
