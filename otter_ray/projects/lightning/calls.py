"""What a validation calls the network with: whatever stands between a batch and `forward` is the author's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ConfigError, DataError, ExportError, OtterError, in_one_line
from otter_ray.projects.lightning.data import (
    Split,
    first_element,
    keep_set_up,
    named_inputs,
    new_module,
)
from otter_ray.projects.lightning.structure import Structure, take_apart
from otter_ray.train.tracking.lightning_warnings import quiet_lightning

# What Lightning calls between a loader and a step, on the way to the device.
TRANSFER_HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")


@dataclass(frozen=True)
class Call:
    """A call of `forward`.

    Attributes:
        tensors: In order.
        structure: Of the arguments by name, without the tensors.
        positional: Names of those that are passed by position.
        places: Of the tensors among all that the call has, if they are in an order of the config's.
    """

    tensors: list[Tensor]
    structure: Structure
    positional: tuple[str, ...]
    places: tuple[int, ...] = ()

    def repeat(self, forward: Callable[..., Any], tensors: tuple[Tensor, ...] | list[Tensor]) -> Any:
        """Call a function in the same way, with other tensors."""
        named = self.structure.filled(tensors)
        positional = [named.pop(name) for name in self.positional]
        return forward(*positional, **named)

    def reordered(self, places: tuple[int, ...]) -> Call:
        """Return the same call with its tensors in another order.

        Args:
            places: Their present ones; none for the order that they have.
        """
        if not places:
            return self

        def build(tensors: Iterator[Tensor]) -> Any:
            by_place = dict(zip(places, tensors, strict=True))
            return self.structure.filled([by_place[place] for place in range(len(places))])

        names = tuple(self.structure.names[place] for place in places)
        structure = Structure(names, build, self.structure.constants)
        return Call([self.tensors[place] for place in places], structure, self.positional, places)

    def rows(self, count: int) -> list[Tensor]:
        """Return the tensors of this call with another number of items, which are repeated if need be."""
        return [tensor[torch.arange(count) % len(tensor)] for tensor in self.tensors]


class _CalledError(Exception):
    """The network has been called."""

    def __init__(self, *inputs: Any, **named: Any) -> None:
        super().__init__()
        self.inputs, self.named = inputs, named


def call_of(config: LightningConfig, module: L.LightningModule, inputs: Any, named: Any) -> Call:
    """Describe a call of a module's `forward`.

    Raises:
        ConfigError: Only the config can say which of the arguments are exported.
        ExportError: Something other than tensors and plain values is among them.
    """
    bound = inspect.signature(type(module).forward).bind(module, *inputs, **named)
    parameters = bound.signature.parameters
    arguments: dict[str, Any] = {}
    positional: list[str] = []
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    is_left_out = False  # whether an earlier one is: what follows it can only be given by name
    for name, parameter in [*parameters.items()][1:]:
        kind = parameter.kind
        if name not in bound.arguments:
            is_left_out = True
            continue
        value = bound.arguments[name]
        each = {name: value}
        if kind is inspect.Parameter.VAR_POSITIONAL:
            each = {f"{name}_{index}": part for index, part in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            each = dict(value)
        arguments |= each
        if kind not in by_name and not is_left_out:
            positional += each
    try:
        tensors, structure = take_apart(arguments)
    except TypeError as exc:
        message = (
            f"is called with something else than tensors, numbers and texts, and cannot be exported: {exc}"
        )
        raise ExportError(f"{type(module).__name__}.forward {message}.") from exc
    if config.onnx is None or config.onnx.inputs is None:
        with_tensors = [name for name, value in arguments.items() if take_apart(value)[0]]
        optional = [
            name
            for name in with_tensors[1:]
            if name in parameters and parameters[name].default is not inspect.Parameter.empty
        ]
        if optional:
            given, spare = ", ".join(with_tensors), " and ".join(optional)
            message = (
                f"the validation calls forward with {given}, and {spare} can be left out. "
                "Name, in order, the elements of a batch that the exported network takes."
            )
            raise ConfigError([config.problem("onnx.inputs", message)])
    return Call(tensors, structure, tuple(positional))


def calls(config: LightningConfig, split: Split) -> Iterator[Call]:
    """Yield how a validation or a test calls `forward`, once for each batch.

    If it never does, the call has the batch's first element, or the module's `example_input_array` if that
    has another shape.
    """
    is_named = config.onnx is not None and config.onnx.inputs is not None
    places: tuple[int, ...] = ()
    with _attached(config, split) as module:
        example = _example(module)
        for batch, index, loader in split.batches():
            call = _captured(config, module, split, batch, index, loader)
            if call is not None and is_named:
                named = named_inputs(config, batch)
                if len(named) == len(call.tensors):
                    places = places or _places(named, call.tensors)
                    yield call.reordered(places)
                else:  # which the rehearsal refuses
                    yield _plain(named)
                continue
            if call is not None:
                yield call
                continue
            if not is_named and example is not None and not _fits(example, batch):
                yield call_of(config, module, *example)
                return
            yield _plain(named_inputs(config, batch))


def first_call(config: LightningConfig, split: Split) -> Call:
    """Return the call for the first batch.

    Raises:
        DataError: There is no batch.
    """
    for call in calls(config, split):
        return call
    raise DataError(f"{type(split.source).__name__}: its val_dataloader gives no batch. Give it some items.")


def _places(named: list[Tensor], given: list[Tensor]) -> tuple[int, ...]:
    """Return where the tensors that a config names are in a call; one that is not there is the next one left.

    Args:
        named: Of a batch.
        given: Of the call, as many.
    """
    found: list[int | None] = []
    for tensor in named:
        left = [place for place in range(len(given)) if place not in found]
        same = [place for place in left if given[place] is tensor]
        same += [place for place in left if is_same(given[place], tensor)]
        found.append(same[0] if same else None)
    rest = iter([place for place in range(len(given)) if place not in found])
    return tuple(next(rest) if place is None else place for place in found)


def is_same(first: Tensor, second: Tensor) -> bool:
    """Say whether two tensors have the same values, of the same kind."""
    return first.dtype == second.dtype and torch.equal(first, second)


def _plain(tensors: list[Tensor]) -> Call:
    names = tuple(f"input_{index}" for index in range(len(tensors)))
    return Call(tensors, take_apart(dict(zip(names, tensors, strict=True)))[1], names)


def _example(module: L.LightningModule) -> tuple[Any, Any] | None:
    """Return the arguments that the module's `example_input_array` stands for, as Lightning reads it."""
    example = module.example_input_array
    if example is None:
        return None
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple) else (example,)), {}


def _fits(example: tuple[Any, Any], batch: Any) -> bool:
    """Say whether the first element of a batch is what the example is one of."""
    try:
        first = first_element(batch)
    except (LookupError, TypeError):
        return False
    wanted, _ = take_apart(list(example))
    return (
        isinstance(first, Tensor)
        and len(wanted) == 1
        and (first.shape[1:], first.dtype) == (wanted[0].shape[1:], wanted[0].dtype)
    )


@contextmanager
def _attached(config: LightningConfig, split: Split) -> Iterator[L.LightningModule]:
    """Build the module as it is in a validation, in which it neither logs nor computes outputs."""
    source = split.source
    is_data = isinstance(source, L.LightningDataModule)
    module = new_module(config) if is_data else source
    assert isinstance(module, L.LightningModule)
    module.configure_model()
    keep_set_up(source)

    def forward(*inputs: Any, **named: Any) -> Any:
        raise _CalledError(*inputs, **named)

    vars(module).update(forward=forward)
    trainer = quiet_trainer(config, split.is_test, 1)
    run = trainer.test if split.is_test else trainer.validate
    with (
        suppress(Exception),
        quiet_lightning(),
    ):  # it ends where the network is called; what fails the rehearsal says
        run(module, source if is_data else None, verbose=False)
    trainer.validating, trainer.testing = not split.is_test, split.is_test
    module.trainer = trainer
    vars(module).update(log=_nothing, log_dict=_nothing)
    with torch.no_grad():
        yield module.eval()


def quiet_trainer(config: LightningConfig, is_test: bool, batches: float) -> L.Trainer:
    """Make a Trainer that validates or tests on the CPU and writes nothing.

    Args:
        config: The config.
        is_test: Which of the two.
        batches: How many batches of each loader, as Lightning's limits say it.
    """
    with quiet_lightning():
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            # A module may log pictures itself, where the training had a logger.
            logger=DummyLogger() if config.logger_sections() else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_test_batches=batches if is_test else None,
            limit_val_batches=None if is_test else batches,
        )


def _captured(
    config: LightningConfig, module: L.LightningModule, split: Split, batch: Any, index: int, loader: int
) -> Call | None:
    """Run a step as Lightning does, as far as its call of the network; None if it never comes there.

    Raises:
        ConfigError: It fails.
    """
    source = split.source
    step = module.test_step if split.is_test else module.validation_step
    parameters = inspect.signature(step).parameters.values()
    most = 3 if any(each.kind is each.VAR_POSITIONAL for each in parameters) else len(parameters)
    if len(split.loaders) == 1:  # whose number is not passed
        most = min(most, 2)
    try:
        for hook in TRANSFER_HOOKS:
            is_own = getattr(type(source), hook) is not getattr(L.LightningDataModule, hook)
            batch = getattr(source if is_own else module, hook)(batch, loader)
        step(*(batch, index, loader)[:most])
    except _CalledError as call:
        return call_of(config, module, call.inputs, call.named)
    except OtterError:
        raise
    except Exception as exc:  # the author's code
        where = f"{type(module).__name__}.{step.__name__} fails on batch {index} of the {split.name}"
        message = f"{where}: {in_one_line(exc).rstrip('.')}. Fix it."
        raise ConfigError([config.problem("model", message)]) from exc
    return None


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Log nothing."""
