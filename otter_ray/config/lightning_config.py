"""The config of `project: lightning`: a module and its data by class path, as LightningCLI writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from otter_ray.config.config import PROJECT_CLASSES, Config
from otter_ray.config.lightning_cli import LIGHTNING, from_lightning_cli
from otter_ray.config.schema import Common, Component, Dataloader, Loss
from otter_ray.config.types import Count, Index, Name, Names, Options, Rule, Section

# How a class or a function is named; nothing else is imported.
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
# A text's words, some of which may be import paths: `Config.code` counts more than can be imported.
WORD = re.compile(r"[\w.-]+")


def _import_path(value: str) -> str:
    if not IMPORT_PATH.fullmatch(value):
        raise ValueError
    return value


ImportPath = Annotated[str, AfterValidator(_import_path), Rule("an import path. Write package.module.Class")]


Metric = Annotated[
    str,
    Field(min_length=1),
    Rule("the name of what the module logs in its validation, such as val_acc or val_loss"),
]


NoCheckpoint = Annotated[None, Rule("no checkpoint (null): each trial starts from new weights")]


class ClassPath(Section):
    """A class by its import path, with the arguments to build it."""

    class_path: ImportPath
    init_args: Options = Field(default_factory=dict)
    # Arguments that only `**kwargs` takes, unchecked, as in LightningCLI.
    dict_kwargs: Options | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.class_path.rpartition(".")[2]


class Module(ClassPath):
    """A LightningModule; what other projects' models are made of is its own affair."""

    backbone: ClassVar[Component] = Component(name="backbone")
    neck: ClassVar[None] = None
    head: ClassVar[Component] = Component(name="head")
    loss: ClassVar[Loss] = Loss(name="loss")
    teacher: ClassVar[None] = None


class Seed(Common):
    """What the whole run shares; the data module has the batch size."""

    batch_size: ClassVar[int] = 1  # type: ignore[misc]
    image_size: ClassVar[list[int]] = []  # type: ignore[misc]
    is_restore: ClassVar[bool] = False  # type: ignore[misc]
    restore_ind: ClassVar[str] = ""  # type: ignore[misc]
    restore_ckpt: ClassVar[str] = ""  # type: ignore[misc]
    restore_all_states: ClassVar[bool] = False  # type: ignore[misc]
    preview: ClassVar[bool | None] = None  # type: ignore[misc]
    preview_batch: ClassVar[int] = 1000  # type: ignore[misc]
    use_imagenet: ClassVar[bool] = False  # type: ignore[misc]
    use_clip: ClassVar[bool] = False  # type: ignore[misc]
    seed: Index = 0


class NetworkOptions(Section):
    """What is exported: the module's `forward` on a batch of the validation loader."""

    # Keys or positions in a batch of what `forward` takes; absent: the batch's first element.
    inputs: list[str | int] | None = None
    input_names: Names | None = None
    output_names: Names | None = None
    opset_version: Count | None = None


class LightningConfig(Config):
    """A config of `project: lightning`."""

    project: Name = LIGHTNING
    common: Seed = Field(default_factory=Seed)  # type: ignore[arg-type]
    model: Module  # type: ignore[assignment]
    data: ClassPath | None = None
    metric: Metric
    test_metric: Name | None = None  # what the test calls it; absent: `val` becomes `test`
    optimizer: ClassPath | None = None  # type: ignore[assignment]
    lr_scheduler: ClassPath | None = None  # type: ignore[assignment]
    # LightningCLI's key. What it names is refused: trials would all begin with the same trained weights.
    ckpt_path: NoCheckpoint = None
    onnx: NetworkOptions | None = None  # type: ignore[assignment]

    global_settings: ClassVar[None] = None  # type: ignore[misc]
    quantize: ClassVar[None] = None  # type: ignore[misc]
    dataset: ClassVar[None] = None  # type: ignore[misc, assignment]
    dataloader: ClassVar[Dataloader] = Dataloader(train_options={}, valid_options={})  # type: ignore[misc]
    schedule: ClassVar[None] = None  # type: ignore[misc]
    callbacks: ClassVar[list[Component]] = []  # type: ignore[misc]

    @model_validator(mode="before")
    @classmethod
    def _from_lightning_cli(cls, data: Any) -> Any:
        """Take a config of LightningCLI as it is."""
        return from_lightning_cli(data) if isinstance(data, Mapping) else data

    @property
    def data_section(self) -> Section:
        """The section that says which data are read."""
        return self.data or self.model

    @property
    def code(self) -> str:
        """The packages whose code may run: the first words of all import paths, wherever they stand.

        A text in which a path may be hidden, of YAML or a type's, counts as a package of its own.
        """
        texts = [*_texts(self.to_dict())]
        words = (word for text in texts for word in WORD.findall(text) if "." in word)
        paths = {first for word in words if (first := word.split(".")[0]).isidentifier()}
        hiding = {sha256(text.encode()).hexdigest()[:16] for text in texts if {*text} & {*"{\\[|"}}
        return ",".join(sorted({self.project} | paths | hiding))


PROJECT_CLASSES[LIGHTNING] = LightningConfig


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list):
        for item in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(item)
