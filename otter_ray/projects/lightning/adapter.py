"""A LightningModule as a run, the gate and a study see a model. The module itself is not changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ExportError
from otter_ray.projects.lightning.data import Split, network_inputs, read_splits, seed
from otter_ray.train.model.module_mixin import BaseMixin, Labels, Run
from otter_ray.train.model.score_range import Outputs, ScoreRange, as_tuple, sampled_range
from otter_ray.train.tracking.lightning_warnings import quiet_lightning


class _CannotReplayError(Exception):
    """A validation does not call the network once for each item."""


class Network(nn.Module):
    """What is exported: the module's `forward`, whose outputs become a list.

    Args:
        module: The module.

    Attributes:
        keys: What the last outputs were called; None if they were no mapping.
        is_single: Whether the last output was a tensor.
    """

    def __init__(self, module: L.LightningModule) -> None:
        super().__init__()
        self.module = module
        self.keys: list[str] | None = None
        self.is_single = True

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in order."""
        # Of the class: a validation may have another one in its place.
        outputs = type(self.module).forward(self.module, *inputs)
        self.is_single = isinstance(outputs, Tensor)
        self.keys = [str(key) for key in outputs] if isinstance(outputs, Mapping) else None
        found = (outputs,) if self.is_single else tuple(outputs.values() if self.keys else outputs)
        if not found or not all(isinstance(output, Tensor) for output in found):
            message = "forward must return a tensor, or tuples or mappings of them, to be exported"
            raise ExportError(f"{type(self.module).__name__}.{message}")
        return found

    def like_forward(self, outputs: Sequence[Tensor]) -> Any:
        """Return outputs as the module's `forward` returns them."""
        if self.is_single:
            return outputs[0]
        return tuple(outputs) if self.keys is None else dict(zip(self.keys, outputs, strict=True))


class Adapter(BaseMixin, L.LightningModule):
    """A module, and how it is measured: by its own validation, with another network in place of `forward`.

    Args:
        config: The config.
        module: The module that it describes.
    """

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
        if calls:
            return metrics, ""
        name = type(self.lightning_module).__name__
        return metrics, (
            f"not measured on the file, because {name}.validation_step never calls self(...) (let it call "
            "self(x) for the network's outputs): on the PyTorch model"
        )

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
            given = signature.bind(*inputs, **named).args
            return self.network.like_forward(run([tensor.detach() for tensor in given]))

        with _forward_as(self.lightning_module, forward), quiet_lightning():
            trainer = L.Trainer(
                accelerator="cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                limit_val_batches=1.0 if batches is None else batches,
            )
            data = self._valid.source
            seed(self.config)
            is_data = isinstance(data, L.LightningDataModule)
            try:
                trainer.validate(self.lightning_module, data if is_data else None, verbose=False)
            finally:
                self.lightning_module.trainer = None
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return metrics, calls

    @cached_property
    def _valid(self) -> Split:
        valid = read_splits(self.config)[1]
        # It is set up for training, where a validation needs the same split.
        valid.source.prepare_data = _done  # type: ignore[method-assign]
        valid.source.setup = _done  # type: ignore[method-assign]
        return valid

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


@contextmanager
def _forward_as(module: L.LightningModule, forward: Callable[..., Any]) -> Iterator[None]:
    """Have a module call another `forward`, within the block."""
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward
