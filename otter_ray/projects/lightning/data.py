"""The data of a config: its LightningDataModule, or the loaders of the module itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from itertools import islice
from typing import Any

import lightning as L
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor

from otter_ray.config.given import GIVEN, LOADERS
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ConfigError, DataError, Problem, in_one_line
from otter_ray.projects.lightning.classes import build_class
from otter_ray.train.torch_compat import is_sequential

# What Lightning calls around a validation to have the data there.
SETUP_HOOKS = ("prepare_data", "setup", "teardown")
# Of `trainer:`: how much of each validation loader is run.
LIMIT = "limit_val_batches"


class Loaders(L.LightningDataModule):
    """Loaders as a data module.

    Args:
        train: Gives the batches to train on.
        valid: Gives those to validate with: a loader, or several.
        test: Gives those to test with; None for no test.
    """

    def __init__(self, train: Any, valid: Any, test: Any = None) -> None:
        super().__init__()
        self.loaders = train, valid, test

    def train_dataloader(self) -> Any:
        """Return the loader to train on."""
        return self.loaders[0]

    def val_dataloader(self) -> Any:
        """Return those to validate with."""
        return self.loaders[1]

    def test_dataloader(self) -> Any:
        """Return those to test with."""
        return self.loaders[2]


@dataclass(frozen=True)
class Split:
    """One of the data sets, as its author's loaders give it.

    Attributes:
        source: The data module, set up; or the module, if it has the loaders.
        loaders: The loaders, which Lightning runs one after the other.
        limit: As in `trainer.limit_val_batches`: of each loader.
        is_test: Whether it is the test split.
        unit: What is counted.
    """

    source: L.LightningDataModule | L.LightningModule
    loaders: Sequence[Iterable[Any]]
    limit: float | None = None
    is_test: bool = False
    unit: str = "items"

    @property
    def name(self) -> str:
        """What messages call it."""
        return "test set" if self.is_test else "validation set"

    @property
    def loader(self) -> Iterable[Any]:
        """The first loader."""
        return self.loaders[0]

    def batches(self) -> Iterator[tuple[Any, int, int]]:
        """Yield each batch with its number and that of its loader, as `validation_step` gets them."""
        for number, loader in enumerate(self.loaders):
            for index, batch in enumerate(islice(loader, _most(loader, self.limit))):
                yield batch, index, number

    def __len__(self) -> int:
        """Return the number of items; 0 if a loader does not know it."""
        with suppress(TypeError, AttributeError):
            return sum(len(loader.dataset) for loader in self.loaders)  # type: ignore[attr-defined, misc]
        return 0


class Together:
    """Loaders of which each batch is one of them all, as Lightning runs them in any mode but `sequential`.

    Args:
        combined: The loaders.
    """

    def __init__(self, combined: CombinedLoader) -> None:
        self.combined = combined

    def __iter__(self) -> Iterator[Any]:
        self.combined.limits = None  # those of a Trainer that had the same loaders
        return (batch for batch, _, _ in self.combined)

    def __len__(self) -> int:
        """Return the number of batches."""
        self.combined.limits = None
        iter(self.combined)  # without which it does not know
        return len(self.combined)


def _most(loader: Iterable[Any], limit: float | None) -> int | None:
    """Return how many batches of a loader are run, as Lightning reads a limit; None for all."""
    if limit is None or isinstance(limit, int):
        return limit
    if limit >= 1:
        return None
    try:
        return int(len(loader) * limit)  # type: ignore[arg-type]
    except TypeError as exc:
        message = f"is {limit}, a part of a loader that does not know its length. Give a number of batches."
        raise ConfigError([Problem(f"trainer.{LIMIT}", message)]) from exc


def seed(config: LightningConfig) -> None:
    """Seed everything, as a run does before it sets its data up: a random split is always the same."""
    L.seed_everything(config.common.seed, workers=True, verbose=False)


def new_data_module(config: LightningConfig) -> L.LightningDataModule | None:
    """Build the config's data module; None if the module itself has the loaders."""
    if config.data is None:
        return None
    seed(config)
    loaders = GIVEN.get(LOADERS) if config.data.class_path == LOADERS else None
    data = Loaders(*loaders) if loaders else build_class(config.data, L.LightningDataModule, "data")
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


def keep_set_up(source: L.LightningDataModule | L.LightningModule) -> None:
    """Let an object stay set up as it is, whoever asks it to set itself up, or to tidy up."""
    for hook in SETUP_HOOKS:
        setattr(source, hook, done)


def done(*args: Any, **kwargs: Any) -> None:
    """Do what has been done already."""


def read_splits(config: LightningConfig) -> tuple[Split, Split]:
    """Return the training set and the validation set of a config, set up.

    Raises:
        ConfigError: There is no such loader.
        DataError: The author's code failed.
    """
    source = _new_source(config)
    with _author_errors(config, source):
        set_up(config, source)
        train, valid = listed(source.train_dataloader()), listed(source.val_dataloader())
    return Split(source, train), Split(source, valid, (config.trainer.model_extra or {}).get(LIMIT))


def read_test(config: LightningConfig) -> Split:
    """Return the test split of a config whose data have one, set up.

    Raises:
        ConfigError: It cannot be set up.
        DataError: It cannot be read.
    """
    source = _new_source(config)
    with _author_errors(config, source):
        set_up(config, source)
        source.setup("test")
        return Split(source, listed(source.test_dataloader()), is_test=True)


def _new_source(config: LightningConfig) -> L.LightningDataModule | L.LightningModule:
    data = new_data_module(config)
    return new_module(config) if data is None else data


@contextmanager
def _author_errors(config: LightningConfig, source: object) -> Iterator[None]:
    """Say whose code failed in the block."""
    try:
        yield
    except OSError as exc:
        raise DataError(f"{type(source).__name__} cannot read its data: {exc}") from exc
    except Exception as exc:  # the author's code
        message = f"{type(source).__name__} cannot set its data up: {in_one_line(exc).rstrip('.')}. Fix it."
        raise ConfigError([config.problem("data" if config.data else "model", message)]) from exc


def listed(loaders: Any) -> list[Iterable[Any]]:
    """Return the loaders of one, of several, or of nested ones, in Lightning's order."""
    if isinstance(loaders, CombinedLoader):
        return [*loaders.flattened] if is_sequential(loaders) else [Together(loaders)]
    if isinstance(loaders, Sequence | Mapping):
        parts = loaders.values() if isinstance(loaders, Mapping) else loaders
        return [loader for part in parts for loader in listed(part)]
    return [loaders]


def named_inputs(config: LightningConfig, batch: Any) -> list[Tensor]:
    """Return what `onnx.inputs` names in a batch; without that, its first element.

    Raises:
        ConfigError: The batch has no such element, or it is no tensor.
    """
    keys = config.onnx.inputs if config.onnx else None
    try:
        found = [first_element(batch)] if keys is None else [_element(batch, key) for key in keys]
    except (AttributeError, LookupError, TypeError) as exc:
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


def first_element(batch: Any) -> Any:
    """Return the first element of a batch: of a mapping, a data class, or a sequence; or the batch."""
    if isinstance(batch, Mapping):
        return next(iter(batch.values()))
    if is_dataclass(batch):
        return getattr(batch, fields(batch)[0].name)
    return batch if isinstance(batch, Tensor) else batch[0]


def _element(batch: Any, key: str | int) -> Any:
    return getattr(batch, str(key)) if is_dataclass(batch) else batch[key]
