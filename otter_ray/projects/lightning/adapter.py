"""A LightningModule as a run, the gate and a study see a model. The module itself is not changed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from otter_ray.config.given import ON_CHANGE
from otter_ray.config.lightning_config import LightningConfig
from otter_ray.errors import ConfigError, ExportError
from otter_ray.projects.lightning.calls import Call, call_of, calls, first_call, quiet_trainer
from otter_ray.projects.lightning.data import (
    SETUP_HOOKS,
    Split,
    done,
    keep_set_up,
    read_splits,
    read_test,
    seed,
    set_up,
)
from otter_ray.projects.lightning.structure import Structure, take_apart
from otter_ray.train.model.module_mixin import BaseMixin, Labels, Run
from otter_ray.train.model.score_range import Outputs, ScoreRange, as_tuple, sampled_range
from otter_ray.train.tracking.lightning_warnings import quiet_lightning


class _CannotReplayError(Exception):
    """A validation does not call the network once for each item."""


class Network(nn.Module):
    """What is exported: the module's `forward`, whose inputs and outputs become lists of tensors.

    Args:
        module: The module.
        call: Returns how its validation calls it.
    """

    def __init__(self, module: L.LightningModule, call: Callable[[], Call]) -> None:
        super().__init__()
        self.module, self._call = module, call
        self._structure: Structure | None = None  # of the last outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in order."""
        # Of the class: a validation may have another one in its place.
        outputs = self._call().repeat(partial(type(self.module).forward, self.module), inputs)
        try:
            found, self._structure = take_apart(outputs)
        except TypeError as exc:
            name = type(self.module).__name__
            message = f"returns something other than tensors: {exc}. Leave it out of forward."
            raise ExportError(f"{name}.forward {message}") from exc
        if not found:
            message = "forward must return a tensor, or tuples or mappings of them, to be exported"
            raise ExportError(f"{type(self.module).__name__}.{message}")
        return tuple(found)

    def like_forward(self, outputs: Sequence[Tensor]) -> Any:
        """Return outputs as the module's `forward` returns them."""
        return self.structure().filled(iter(outputs))

    def structure(self) -> Structure:
        """Return the structure of the last outputs; of those for the exported call if there are none yet."""
        if self._structure is None:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self(*self._call().tensors)
        assert self._structure is not None
        return self._structure


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
        self.config, self.network = config, Network(module, partial(exported_call, config))

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
        self.eval()  # in training, forward may return something else
        loss = super().pretend_loss(*inputs)
        return loss if loss.requires_grad else loss + 0 * sum(each.sum() for each in self.parameters())

    def exported_batch(self, batch: Any) -> tuple[Sequence[Tensor], Labels]:
        """Return what the network takes. Labels are the module's own affair; these say whether it is a test.

        Args:
            batch: Of `Evaluation`.
        """
        call, is_test = batch
        return [tensor.cpu() for tensor in call.tensors], torch.zeros(len(call.tensors[0]), int(is_test))

    def measure(self, run: Run, outputs: Any, labels: Labels) -> tuple[dict[str, float], str]:
        """Return what the module logs in a validation whose `forward` is `run`."""
        is_test = bool(labels is not None and labels.shape[1])
        metrics, calls = self.validated(run, is_test=is_test)
        name, metric = type(self.lightning_module).__name__, self.config.metric
        if calls and self._depends_on_outputs(run, metrics.get(metric, math.nan), is_test):
            return metrics, ""
        why = f"{name}.{'test' if is_test else 'validation'}_step never calls self(...)"
        if calls:
            why = f"{name}'s {metric} does not depend on what self(...) returns"
        return metrics, (
            f"not measured on the file, because {why} (let it call self(x) for the network's outputs): on "
            "the PyTorch model"
        )

    def _depends_on_outputs(self, run: Run, value: float, is_test: bool) -> bool:
        """Return whether the metric changes if the network's outputs do.

        A metric may be the same for one disturbance although it is computed from them: the accuracy of a
        model that always says the first class, with zeros. So there are several. One that the validation
        fails on says nothing, and is not held against it.
        """
        failures = 0
        for disturb in DISTURBANCES:
            try:
                found, _ = self.validated(partial(_disturbed, run, disturb), is_test=is_test)
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

    def validated(
        self, run: Run, batches: int | None = None, is_test: bool = False
    ) -> tuple[dict[str, float], int]:
        """Validate or test with another network in place of `forward`.

        Args:
            run: The network.
            batches: How many batches of each loader; None for all that the config allows.
            is_test: Whether the test split is run.

        Returns:
            What the module logged, and how often it called the network. The study's metric of a test is under
            its own name as well.
        """
        calls, module = 0, self.lightning_module

        def forward(*inputs: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            call = self._as_exported(call_of(self.config, module, inputs, named))
            return self.network.like_forward(run([tensor.detach() for tensor in call.tensors]))

        split = self._splits[is_test]
        data = split.source if isinstance(split.source, L.LightningDataModule) else None
        hooks: dict[str, Callable[..., Any]] = {"forward": forward}
        if data is None:
            self._set_up_once(is_test)
            hooks |= dict.fromkeys(SETUP_HOOKS, done)
        most = 1.0 if split.limit is None else split.limit
        with _replaced(module, hooks), quiet_lightning():
            trainer = quiet_trainer(self.config, is_test, most if batches is None else batches)
            seed(self.config)
            try:
                (trainer.test if is_test else trainer.validate)(module, data, verbose=False)
            finally:
                module.trainer = None
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if is_test and (name := name_in_test(self.config, metrics)) is not None:
            metrics = {self.config.metric: metrics[name], **metrics}
        return metrics, calls

    @cached_property
    def _splits(self) -> dict[bool, Split]:
        return _Splits(self.config)

    def _set_up_once(self, is_test: bool) -> None:
        """Set up the module, which has the loaders: only then may it make them."""
        stages = vars(self).setdefault("_stages", set())
        if not stages:
            set_up(self.config, self.lightning_module)
        if is_test and is_test not in stages:
            self.lightning_module.setup("test")
        stages.add(is_test)

    def _as_exported(self, call: Call) -> Call:
        """Return a call of `forward` with its tensors in the file's order.

        Raises:
            ConfigError: It is called with something else than what is exported.
        """
        exported = exported_call(self.config)
        count = len(exported.tensors)
        if len(call.tensors) != count:
            message = (
                f"the validation calls forward with {len(call.tensors)} tensors, and the exported network "
                f"takes {count}. Name, in order, the elements of a batch that it is called with."
            )
            raise ConfigError([self.config.problem("onnx.inputs", message)])
        if call.structure.constants != exported.structure.constants:
            now, first = (_listed_constants(each) for each in (call, exported))
            message = (
                f"{type(self.lightning_module).__name__} calls forward with {now}, and in the first batch of "
                f"its validation with {first}, which the exported network has for good. Pass the same values "
                "in each call."
            )
            raise ConfigError([self.config.problem("model", message)])
        return call.reordered(exported.places)

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


class _Splits(dict[bool, Split]):
    """The validation set, and the test split under True, each set up once."""

    def __init__(self, config: LightningConfig) -> None:
        super().__init__()
        self.config = config

    def __missing__(self, is_test: bool) -> Split:
        split = self[is_test] = read_test(self.config) if is_test else read_splits(self.config)[1]
        keep_set_up(split.source)  # for training, where a validation needs the same split
        return split


class Evaluation:
    """What a split's batches are to the exported network: calls of `forward`, each with the kind of split.

    Args:
        config: The config.
        split: The split.
    """

    def __init__(self, config: LightningConfig, split: Split) -> None:
        self.config, self.split = config, split

    def __iter__(self) -> Iterator[tuple[Call, bool]]:
        return ((call, self.split.is_test) for call in calls(self.config, self.split))


def exported_call(config: LightningConfig) -> Call:
    """Return how the validation of a config calls the network, which decides what is exported."""
    return _exported_call(json.dumps(config.to_dict(), sort_keys=True), config.name)


@lru_cache(maxsize=16)
def _exported_call(text: str, name: str) -> Call:
    config = LightningConfig.from_dict(json.loads(text), name)
    assert isinstance(config, LightningConfig)
    return first_call(config, read_splits(config)[1])


ON_CHANGE.append(_exported_call.cache_clear)


def name_in_test(config: LightningConfig, logged: Mapping[str, float]) -> str | None:
    """Return what a test calls the study's metric, among what it logs; None if nothing is called so."""
    metric = config.metric
    usual = [metric, *(re.sub(word, "test", metric, count=1) for word in ("validation", "valid", "val"))]
    wanted = [config.test_metric] if config.test_metric else usual
    return next((name for name in wanted if name in logged), None)


def _listed_constants(call: Call) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in call.structure.constants) or "tensors alone"


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
