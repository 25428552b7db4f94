"""The sections of a config. `-1` means a value that is known only at run time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from otter_ray.config.types import (
    BY_COUNT,
    ONE,
    SEVERAL,
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
from otter_ray.formatting import LOWER_PRECISIONS


class Component(Section):
    """A class by its name, with the arguments to build it."""

    name: Name
    options: Options = Field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that goes to the class: the options and the values next to them."""
        return {**self.options, **(self.model_extra or {})}


class Loss(Component):
    """A loss; single values such as `num_classes: -1` may be next to its options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    @model_validator(mode="after")
    def _each_argument_once(self) -> Self:
        if twice := sorted(set(self.options) & set(self.model_extra or {})):
            text = f"{', '.join(twice)} is given twice: in `options` and next to it. Remove one of the two."
            raise PydanticCustomError("rule", "{text}", {"text": text})
        return self


def _number_is_name(value: Any) -> Any:
    return str(value) if type(value) is int else value


# YAML reads a name such as 20241010 as a number.
RunName = Annotated[str, Rule("a name or a path"), BeforeValidator(_number_is_name)]


class Common(Section):
    """What the whole run shares."""

    batch_size: Count  # images per step, on each worker
    image_size: ImageSize  # size of the model's input in pixels
    is_restore: Flag = False  # start from the weights of an earlier run
    restore_ind: RunName = ""  # name or path of the run or study to restore from
    restore_ckpt: Text = ""  # checkpoint file in that run; empty means the newest `last`
    restore_all_states: Flag = False  # also restore the optimizer, the schedule and the epoch count
    preview: Flag | None = None  # draw pictures after each validation; absent: only in a standalone run
    preview_batch: Count = 1000  # steps between two pictures of a training batch
    use_imagenet: Flag = False  # also train on ImageNet's images, each as a class; if the data set can
    use_clip: Flag = False  # train embeddings of clean images to follow a teacher's; if the data set can
    seed: Index = 0  # seed of weights, sampling and the search; data sets have their own `seed` option


class GlobalSettings(Section):
    """What other sections refer to."""

    image_size: ImageSize | None = None  # size of the model's input in pixels


Devices = Annotated[int | str | list[int], Rule("auto, a number of devices or a list such as [0, 1]")]
Precision = Annotated[int | str, Rule("a precision such as 32 or bf16-mixed")]


# Values of trainer.accelerator that need a GPU.
GPU_ACCELERATORS = ("gpu", "cuda")


class Trainer(Section):
    """Arguments of Lightning's Trainer. Those not listed here are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    max_epochs: Count  # epochs of a run, or of a trial that is not stopped early
    precision: Precision | None = None
    val_check_interval: NotNegative | None = None  # a fraction of an epoch, or a whole number of steps
    gradient_clip_val: NotNegative | None = None  # largest norm of the gradient
    accumulate_grad_batches: Count = 1
    accelerator: Text = "auto"  # auto, cpu, gpu, ...
    devices: Devices = "auto"


class Model(Section):
    """The Lightning module and its parts."""

    HINT: ClassVar[str] = " A model is built from such parts; see docs/reference/project.md."

    name: Name
    backbone: Component
    neck: Component | None = None
    head: Component
    loss: Loss
    teacher: Component | None = None  # the teacher for common.use_clip; absent: the project's own


class InputShape(Section):
    """One input of the exported model."""

    shape: Annotated[list[Extent], Rule("a list of sizes such as [1, 3, 128, 128]; -1 only for unknown ones")]
    dtype: Name = "float32"


# Names in the metadata of an ONNX file and in its JSON that an export writes.
OWN_META_INFO = {
    "additional_meta_info", "base", "channels", "checkpoint", "checkpoint_sha256", "config", "config_sha256",
    "data", "date", "epoch", "example", "flops", "gate", "inputs", "intended_use", "macs", "metric",
    "onnx_sha256", "outputs", "parameters", "precision", "precisions", "quantize", "rejected",
    "search_example", "selection", "trial", "versions",
}  # fmt: skip


def _none_of_ours(info: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(OWN_META_INFO & info.keys()):
        text = f"{', '.join(taken)}: an export writes these itself. Choose other names."
        raise PydanticCustomError("rule", "{text}", {"text": text})
    return info


MetaInfo = Annotated[Mapping, AfterValidator(_none_of_ours)]


class Onnx(Section):
    """What is exported, and how."""

    name: Name  # class of the wrapper
    input_shape: dict[str, InputShape]
    input_names: Names
    output_names: Names
    dynamic_axes: dict[str, dict[str, Text]] = Field(default_factory=dict)  # tensor: {axis: name of the axis}
    options: Options = Field(default_factory=dict)  # arguments of torch.onnx.export
    # Arguments of the wrapper besides the model, such as `channels: bgr` for images as OpenCV reads them.
    wrapper_options: Options = Field(default_factory=dict)
    # Entries for the ONNX file's own metadata, each written as JSON.
    additional_meta_info: MetaInfo | None = None


class Calibration(Section):
    """How the ranges of an int8 file's values are found: on training items without augmentation."""

    images: Count | None = None  # training items that are run; absent: 512
    # How a range is chosen; absent: percentile.
    method: Annotated[
        Literal["percentile", "entropy", "minmax"] | None, Rule("percentile, entropy or minmax")
    ] = None


class Quantize(Section):
    """Which files of lower precision are made of the exported model, and what they may lose."""

    do_quant: Flag | None = None  # whether files are made; absent: false
    # Precisions of the files; absent: fp16 and int8.
    precisions: Annotated[
        list[Literal["fp16", "int8"]] | None, Field(min_length=1), Rule("a list of fp16 and int8")
    ] = None
    calibration: Calibration | None = None
    max_loss: NotNegative | None = None  # how much worse the metric may be than the fp32 file's; absent: 0.01

    @property
    def wanted(self) -> list[str]:
        """The precisions of the files to make; none if `do_quant` is not true."""
        return list(dict.fromkeys(self.precisions or LOWER_PRECISIONS)) if self.do_quant else []

    @property
    def method(self) -> str:
        """How a range is chosen."""
        return (self.calibration and self.calibration.method) or "percentile"

    @property
    def images(self) -> int:
        """The number of training items that are run to find ranges."""
        return (self.calibration and self.calibration.images) or 512

    @property
    def loss_limit(self) -> float:
        """How much worse the metric of a file may be than that of the fp32 file."""
        return 0.01 if self.max_loss is None else float(self.max_loss)


class Dataset(Section):
    """The data sets: to train, to validate, and to test the exported model."""

    train_options: Component
    valid_options: Component
    test_options: Component | None = None  # used neither to train nor to select; absent: no test


class _LoaderOptions(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    batch_size: Extent  # -1 means common.batch_size
    num_workers: Index


LoaderOptions = Annotated[dict[str, Any], GetPydanticSchema(lambda _, handler: handler(_LoaderOptions))]


class Dataloader(Section):
    """Arguments of torch's DataLoader."""

    train_options: LoaderOptions
    valid_options: LoaderOptions


class LrScheduler(Component):
    """A learning rate schedule. `pl_options` tell Lightning when to step it."""

    pl_options: Options = Field(default_factory=dict)


def _nothing_is_none_of_them(value: Any) -> Any:
    return [] if value is None else value


Callbacks = Annotated[list[Component], BeforeValidator(_nothing_is_none_of_them)]


Loggers = Annotated[
    Annotated[Component, Tag(ONE)] | Annotated[list[Component], Tag(SEVERAL)],
    BY_COUNT,
]


class Phase(Section):
    """The first epochs of a run, in which some keys have other values."""

    epochs: Count  # the phase's last epoch, counted from the start of the run
    values: Mapping  # dotted key below optimizer.options: value in this phase


class Sections(Section):
    """All sections, in the order in which they are written."""

    project: Name = "docclassifier"  # package in which each `name:` is looked up first
    common: Common
    global_settings: GlobalSettings | None = None
    trainer: Trainer
    model: Model
    onnx: Onnx | None = None
    quantize: Quantize | None = None
    dataset: Dataset
    dataloader: Dataloader
    optimizer: Component
    lr_scheduler: LrScheduler | None = None
    schedule: list[Phase] | None = None  # phases in the order of their epochs; then the config's own values
    callbacks: Callbacks = Field(default_factory=list)
    logger: Loggers | None = None

    def logger_sections(self) -> list[tuple[str, Component]]:
        """Return (dotted key, section) of each logger."""
        if isinstance(self.logger, list):
            return [(f"logger.{index}", section) for index, section in enumerate(self.logger)]
        return [("logger", self.logger)] if self.logger is not None else []
