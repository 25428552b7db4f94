"""The sections of a config. `-1` stands for what is known only at run time."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from otter_ray.config.rules import (
    Count,
    Extent,
    Flag,
    ImageSize,
    Index,
    Mapping,
    Name,
    Names,
    NotNegative,
    Options,
    Rule,
    Scalar,
    Section,
    Text,
)


class Component(Section):
    """A class by its name, with the arguments to build it."""

    name: Name
    options: Options = Field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that goes to the class: the options and what stands beside them."""
        return {**self.options, **(self.model_extra or {})}


class Loss(Component):
    """A loss; single values such as `num_classes: -1` may stand beside its options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    @model_validator(mode="after")
    def _each_argument_once(self) -> Self:
        if twice := sorted(set(self.options) & set(self.model_extra or {})):
            text = f"{', '.join(twice)} stands both beside `options` and in it. Remove one of the two."
            raise PydanticCustomError("rule", "{text}", {"text": text})
        return self


class Common(Section):
    """What the whole run shares."""

    batch_size: Count  # images of one step, on each worker
    image_size: ImageSize  # pixels
    is_restore: Flag = False  # continue from a checkpoint of an earlier run...
    restore_ind: Text = ""  # ...namely of this one...
    restore_ckpt: Text = ""  # ...from this file of it; empty takes the newest `last`
    restore_all_states: Flag = False  # the optimizer's state too, not only the weights
    preview: Flag | None = None  # pictures after each validation; absent: in a lone run, not in a study
    preview_batch: Count = 1000  # steps between two pictures of a training batch
    use_imagenet: Flag = False  # its images are classes, too
    use_clip: Flag = False  # the embeddings of clean images follow a teacher's
    seed: Index = 0  # of weights, sampling and the search; a data set has a `seed` option of its own


class GlobalSettings(Section):
    """What other sections refer to."""

    image_size: ImageSize | None = None  # pixels


Devices = Annotated[int | str | list[int], Rule("auto, a number of devices or a list such as [0, 1]")]
Precision = Annotated[int | str, Rule("a precision such as 32 or bf16-mixed")]


class Trainer(Section):
    """Arguments of Lightning's Trainer; the ones not named here are checked by its signature."""

    model_config = ConfigDict(extra="allow")

    max_epochs: Count  # of a trial that nobody stops
    precision: Precision | None = None
    val_check_interval: NotNegative | None = None  # epochs when a fraction, steps when whole
    gradient_clip_val: NotNegative | None = None  # of the gradient's norm
    accumulate_grad_batches: Count = 1
    accelerator: Text = "auto"  # auto, cpu, gpu, ...
    devices: Devices = "auto"


class Model(Section):
    """The Lightning module and its parts."""

    name: Name
    backbone: Component
    neck: Component | None = None
    head: Component
    loss: Loss
    teacher: Component | None = None  # of common.use_clip; absent: the project's own


class InputShape(Section):
    """One input of the exported model."""

    shape: Annotated[list[Extent], Rule("a list of sizes such as [1, 3, 128, 128]; -1 only for unknown ones")]
    dtype: Name = "float32"


class Onnx(Section):
    """What is exported, and how."""

    name: Name  # the wrapper's class
    input_shape: dict[str, InputShape]
    input_names: Names
    output_names: Names
    dynamic_axes: dict[str, dict[str, Text]] = Field(default_factory=dict)  # tensor: {axis: its name}
    options: Options = Field(default_factory=dict)  # arguments of torch.onnx.export
    wrapper_options: Options = Field(default_factory=dict)


class Dataset(Section):
    """The documents to train on, to validate with, and to test what is exported on."""

    train_options: Component
    valid_options: Component
    test_options: Component | None = None  # neither trained on nor selected on; absent: no test


class _LoaderOptions(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    batch_size: Extent  # -1: common.batch_size
    num_workers: Index


LoaderOptions = Annotated[dict[str, Any], GetPydanticSchema(lambda _, handler: handler(_LoaderOptions))]


class Dataloader(Section):
    """Arguments of torch's DataLoader."""

    train_options: LoaderOptions
    valid_options: LoaderOptions


class LrScheduler(Component):
    """A learning rate schedule; `pl_options` tell Lightning when to step it."""

    pl_options: Options = Field(default_factory=dict)


def _nothing_is_none_of_them(value: Any) -> Any:
    return [] if value is None else value


Callbacks = Annotated[list[Component], BeforeValidator(_nothing_is_none_of_them)]


class Phase(Section):
    """The first epochs of a run, in which some keys have other values than the config gives them."""

    epochs: Count  # of the run, from its start: the phase's last
    values: Mapping  # dotted key below optimizer.options: value


class Sections(Section):
    """All sections, in the order in which they are written."""

    project: Name = "docclassifier"  # the package that `name:` is looked up in
    common: Common
    global_settings: GlobalSettings | None = None
    trainer: Trainer
    model: Model
    onnx: Onnx | None = None
    quantize: Mapping | None = None
    dataset: Dataset
    dataloader: Dataloader
    optimizer: Component
    lr_scheduler: LrScheduler | None = None
    schedule: list[Phase] | None = None  # in the order of their epochs; then the config's own values hold
    callbacks: Callbacks = Field(default_factory=list)
    logger: Component | None = None
