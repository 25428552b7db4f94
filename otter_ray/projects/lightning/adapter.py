"""A LightningModule as a run, the gate and a study see a model. The module itself is not changed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn

from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ConfigError, ExportError
from otter_ray.projects.lightning.data import Split, network_inputs, read_splits, seed, set_up
from otter_ray.train.model.module_mixin import BaseMixin, Labels, Run
from otter_ray.train.model.score_range import Outputs, ScoreRange, as_tuple, sampled_range
from otter_ray.train.tracking.lightning_warnings import quiet_lightning

# What Lightning calls around a validation to have the data there.
SETUP_HOOKS = ("prepare_data", "setup", "teardown")


class _CannotReplayError(Exception):
    """A validation does not call the network once for each item."""


class Network(nn.Module):
    """What is exported: the module's `forward`, whose outputs become a list.

    Args:
        module: The module.

    Attributes:
        keys: What the last outputs were called; None if they were no mapping.
        kind: The type of the last outputs.
    """

    def __init__(self, module: L.LightningModule) -> None:
        super().__init__()
        self.module = module
        self.keys: list[str] | None = None
        self.kind: type[Any] = Tensor

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in order."""
        # Of the class: a validation may have another one in its place.
        outputs = type(self.module).forward(self.module, *inputs)
        self.kind = Tensor if isinstance(outputs, Tensor) else type(outputs)
        self.keys = [str(key) for key in outputs] if isinstance(outputs, Mapping) else None
        found = (outputs,) if self.kind is Tensor else tuple(outputs.values() if self.keys else outputs)
        if not found or not all(isinstance(output, Tensor) for output in found):
            message = "forward must return a tensor, or tuples or mappings of them, to be exported"
            raise ExportError(f"{type(self.module).__name__}.{message}")
        return found

    def like_forward(self, outputs: Sequence[Tensor]) -> Any:
        """Return outputs as the module's `forward` returns them."""
        if self.kind is Tensor:
            return outputs[0]
        if self.keys is not None:
            named = dict(zip(self.keys, outputs, strict=True))
            return named if self.kind is dict else self.kind(**named)
        make = getattr(self.kind, "_make", list if self.kind is list else tuple)  # of a named tuple
        return make(outputs)


class Adapter(BaseMixin, L.LightningModule):
    """A module, and how it is measured: by its own validation, with another network in place of `forward`.

    Args:
        config: The config.
        module: The module that it describes.
    """

    HAS_ANY_SCALE = True
    config: LightningConfig

    def __init__(self, config: LightningConfig, module: L.LightningModule) -> None:
        super().__init__()
        self.config, self.network = config, Network(module)

    @property
    def lightning_module(self) -> L.LightningModule:
        """The author's module."""
        return self.network.module

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the module's own."""
        state: dict[str, Any] = self.lightning_module.state_dict(*args, **kwargs)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the module's own."""
        return self.lightning_module.load_state_dict(state_dict, *args, **kwargs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the module's outputs in order."""
        outputs: tuple[Tensor, ...] = self.network(*inputs)
        return outputs

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of PyTorch, as `Run`."""
        return [*self.network(*inputs)]

    def pretend_loss(self, *inputs: Tensor) -> Tensor:
        """Return the sum of the outputs; one that no weight has a part in is not in the training either."""
        loss = super().pretend_loss(*inputs)
        return loss if loss.requires_grad else loss + 0 * sum(each.sum() for each in self.parameters())

    def exported_batch(self, batch: Any) -> tuple[Sequence[Tensor], Labels]:
        """Return what the network takes. The labels are the module's own affair."""
        inputs = network_inputs(self.config, batch)
        return inputs, torch.zeros(len(inputs[0]), 0)

    def measure(self, run: Run, outputs: Any, labels: Labels) -> tuple[dict[str, float], str]:
        """Return what the module logs in a validation whose `forward` is `run`."""
        metrics, calls = self.validated(run)
        name, metric = type(self.lightning_module).__name__, self.config.metric
        if calls and self._depends_on_outputs(run, metrics.get(metric, math.nan)):
            return metrics, ""
        why = f"{name}.validation_step never calls self(...)"
        if calls:
            why = f"{name}'s {metric} does not depend on what self(...) returns"
        return metrics, (
            f"not measured on the file, because {why} (let it call self(x) for the network's outputs): on "
            "the PyTorch model"
        )

    def _depends_on_outputs(self, run: Run, value: float) -> bool:
        """Return whether the metric changes if the network's outputs do.

        A metric may be the same for one disturbance although it is computed from them: the accuracy of a
        model that always says the first class, with zeros. So there are several. One that the validation
        fails on says nothing, and is not held against it.
        """
        failures = 0
        for disturb in DISTURBANCES:
            try:
                found, _ = self.validated(partial(_disturbed, run, disturb))
            except Exception:  # the author's code, with outputs that it never sees
                failures += 1
                continue
            other = found.get(self.config.metric, math.nan)
            if other != value and not (math.isnan(other) and math.isnan(value)):
                return True
        return failures == len(DISTURBANCES)

    def score_range(
        self, outputs: Any, others: Sequence[Any], labels: Labels, metric: str
    ) -> ScoreRange | None:
        """Return where a logged metric lies, if a validation calls the network once for each item."""
        try:
            return sampled_range(self._replayed, outputs, others, metric)
        except _CannotReplayError:
            return None

    def validated(self, run: Run, batches: int | None = None) -> tuple[dict[str, float], int]:
        """Validate with another network in place of `forward`.

        Args:
            run: The network.
            batches: How many batches of the validation set; None for all.

        Returns:
            What the module logged, and how often it called the network.
        """
        calls, signature = 0, inspect.signature(self.lightning_module.forward)

        def forward(*inputs: Tensor, **named: Tensor) -> Any:
            nonlocal calls
            calls += 1
            given = [*signature.bind(*inputs, **named).args]
            while given and given[-1] is None:
                given.pop()
            self._check_inputs(given)
            return self.network.like_forward(run([tensor.detach() for tensor in given]))

        data = self._valid.source
        is_data = isinstance(data, L.LightningDataModule)
        hooks: dict[str, Callable[..., Any]] = {"forward": forward}
        if not is_data:
            _ = self._has_own_data
            hooks |= dict.fromkeys(SETUP_HOOKS, _done)
        with _replaced(self.lightning_module, hooks), quiet_lightning():
            trainer = L.Trainer(
                accelerator="cpu",
                devices=1,
                # A module may log pictures itself, where the training had a logger.
                logger=DummyLogger() if self.config.logger_sections() else False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                limit_val_batches=1.0 if batches is None else batches,
            )
            seed(self.config)
            try:
                trainer.validate(self.lightning_module, data if is_data else None, verbose=False)
            finally:
                self.lightning_module.trainer = None
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return metrics, calls

    @cached_property
    def _valid(self) -> Split:
        valid = read_splits(self.config)[1]
        # It is set up for training, where a validation needs the same split, and stays so for the next one.
        for hook in SETUP_HOOKS:
            setattr(valid.source, hook, _done)
        return valid

    @cached_property
    def _has_own_data(self) -> bool:
        """Set up the module, which has the loaders, for training: only then may it make them."""
        set_up(self.config, self.lightning_module)
        return True

    def _check_inputs(self, given: Sequence[Any]) -> None:
        """Refuse a call of `forward` with something else than what is exported."""
        keys = self.config.onnx.inputs if self.config.onnx else None
        count = 1 if keys is None else len(keys)
        if len(given) != count or not all(isinstance(value, Tensor) for value in given):
            kinds = ", ".join(type(value).__name__ for value in given)
            message = (
                f"the validation calls forward with {kinds}, and the exported network takes {count} "
                "tensors. Name, in order, the elements of a batch that it is called with."
            )
            raise ConfigError([self.config.problem("onnx.inputs", message)])

    def _replayed(self, outputs: Outputs) -> dict[str, float]:
        rows, position = as_tuple(outputs), 0

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            nonlocal position
            position += len(inputs[0])
            if position > len(rows[0]):
                raise _CannotReplayError
            return [tensor[position - len(inputs[0]) : position] for tensor in rows]

        metrics, _ = self.validated(run)
        if position != len(rows[0]):
            raise _CannotReplayError
        return metrics


def _done(*args: Any, **kwargs: Any) -> None:
    """Do what has been done already."""


def _disturbed(run: Run, disturb: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    return [disturb(output) for output in run(inputs)]


def _noise(output: Tensor) -> Tensor:
    """Return other values of the same kind, always the same ones."""
    if not output.is_floating_point():
        return output.roll(1)
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=output.dtype)


# What becomes of each of the network's outputs.
DISTURBANCES: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.zeros_like,
    lambda output: -output.flip(0) if output.is_floating_point() else output.flip(0),
    _noise,
)


@contextmanager
def _replaced(module: L.LightningModule, methods: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Have a module call other methods, within the block."""
    before = {name: vars(module)[name] for name in methods if name in vars(module)}
    vars(module).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(module)[name]
        vars(module).update(before)
