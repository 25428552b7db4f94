"""The data of a config: its LightningDataModule, or the loaders of the module itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any

import lightning as L
from torch import Tensor

from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ConfigError, DataError, in_one_line
from otter_ray.projects.lightning.classes import build_class


@dataclass(frozen=True)
class Split:
    """One of the data sets, as its author's loader gives it.

    Attributes:
        source: The data module, set up; or the module, if it has the loaders.
        loader: The loader; of several, the first.
        unit: What is counted.
    """

    source: L.LightningDataModule | L.LightningModule
    loader: Iterable[Any]
    unit: str = "items"

    def __len__(self) -> int:
        """Return the number of items; 0 if the loader does not know it."""
        with suppress(TypeError, AttributeError):
            return len(self.loader.dataset)  # type: ignore[attr-defined]
        return 0


def seed(config: LightningConfig) -> None:
    """Seed everything, as a run does before it sets its data up: a random split is always the same."""
    L.seed_everything(config.common.seed, workers=True, verbose=False)


def new_data_module(config: LightningConfig) -> L.LightningDataModule | None:
    """Build the config's data module; None if the module itself has the loaders."""
    if config.data is None:
        return None
    seed(config)
    data = build_class(config.data, L.LightningDataModule, "data")
    seed_setup(config, data)
    return data


def new_module(config: LightningConfig) -> L.LightningModule:
    """Build the config's module."""
    seed(config)
    module = build_class(config.model, L.LightningModule, "model")
    if config.data is None:
        seed_setup(config, module)
    return module


def seed_setup(config: LightningConfig, source: L.LightningDataModule | L.LightningModule) -> None:
    """Let an object seed before it sets itself up, whoever asks it to.

    What `prepare_data` drew does not matter then: it may download and draw in the first run alone.
    """
    setup = source.setup

    @wraps(setup)
    def seeded(*args: Any, **kwargs: Any) -> None:
        seed(config)
        setup(*args, **kwargs)

    source.setup = seeded  # type: ignore[method-assign]


def set_up(config: LightningConfig, source: L.LightningDataModule | L.LightningModule) -> None:
    """Set data up for training, as `Trainer.fit` does."""
    seed(config)
    source.prepare_data()
    source.setup("fit")


def read_splits(config: LightningConfig) -> tuple[Split, Split]:
    """Return the training set and the validation set of a config, set up.

    Raises:
        ConfigError: There is no such loader.
        DataError: The author's code failed.
    """
    data = new_data_module(config)
    source = new_module(config) if data is None else data
    try:
        set_up(config, source)
        train, valid = _first(source.train_dataloader()), _first(source.val_dataloader())
    except OSError as exc:
        raise DataError(f"{type(source).__name__} cannot read its data: {exc}") from exc
    except Exception as exc:  # the author's code
        message = f"{type(source).__name__} cannot set its data up: {in_one_line(exc).rstrip('.')}. Fix it."
        raise ConfigError([config.problem("data" if config.data else "model", message)]) from exc
    return Split(source, train), Split(source, valid)


def _first(loaders: Any) -> Iterable[Any]:
    """Return a loader, or the first of several."""
    while isinstance(loaders, Sequence | dict):
        loaders = next(iter(loaders.values())) if isinstance(loaders, dict) else loaders[0]
    found: Iterable[Any] = loaders
    return found


def network_inputs(config: LightningConfig, batch: Any) -> list[Tensor]:
    """Return what `forward` takes of a batch: what `onnx.inputs` names, or its first element.

    Raises:
        ConfigError: The batch has no such element, or it is no tensor.
    """
    keys = config.onnx.inputs if config.onnx else None
    try:
        if keys is not None:
            found = [batch[key] for key in keys]
        elif isinstance(batch, dict):
            found = [next(iter(batch.values()))]
        else:
            found = [batch if isinstance(batch, Tensor) else batch[0]]
    except (LookupError, TypeError) as exc:
        there = f" It has {', '.join(map(str, batch))}." if isinstance(batch, dict) else ""
        message = f"is {keys}, which a batch of the validation loader does not have.{there} Correct it."
        raise ConfigError([config.problem("onnx.inputs", message)]) from exc
    if not all(isinstance(item, Tensor) for item in found):
        kinds = ", ".join(type(item).__name__ for item in found)
        message = (
            f"the network's inputs are to be tensors, and are {kinds}. Name others of a batch's elements."
        )
        raise ConfigError([config.problem("onnx.inputs", message)])
    return [item.cpu() for item in found]
