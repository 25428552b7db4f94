"""The LightningModules that read: the recogniser of crops, and the spotter of whole photographs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.projects.mrzscanner.metrics.texts import Comparison, compare
from otter_ray.projects.mrzscanner.modeling.data_checks import require_keys
from otter_ray.projects.mrzscanner.modeling.zone_model import ZoneModel
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS, SPOTTER_KEYS, KeyTable
from otter_ray.projects.mrzscanner.visuals import gallery, model_card
from otter_ray.train.distributed import all_gather_rows
from otter_ray.train.model.module_mixin import Labels

_SHARES = ("valid_accuracy", "valid_checked", "valid_format")


class ReaderModel(ZoneModel):
    """Backbone, neck if there is one, head and loss that read the crop of a zone.

    Heads get what they accept by name of: `in_dim` and `map_size` of the finest feature map, `in_dims` and
    `map_sizes` of all, and `keys`.

    Raises:
        ConfigError: A class refuses its options, or a data set has another model's keys.
    """

    KEYS: ClassVar[KeyTable] = READER_KEYS
    SCORES = ("valid_accuracy", "valid_anls", "valid_checked", "valid_format")
    LOWER_IS_BETTER = ()
    METRICS = ("loss", "loss_step", "loss_epoch", "lr", "text_loss", "format_loss", "zone_loss", *SCORES)
    STEADIER = MappingProxyType({"valid_accuracy": "valid_anls", "valid_checked": "valid_anls"})
    FRESH = ("head.",)
    INTENDED_USE = model_card.READER_USE

    def __init__(self, config: Config) -> None:
        require_keys(config, self.KEYS)
        super().__init__(config, self.KEYS)
        self._compared: Comparison | None = None

    def read(self, img: Tensor) -> Tensor:
        """Return how likely each key is at each place of the text, `[N, 93, 40]`."""
        text: Tensor = self.head.text(self(img))
        return text

    def training_step(self, batch: tuple[Tensor, Mapping[str, Tensor]], batch_idx: int) -> Tensor:
        """Return the loss of images `[N, 3, H, W]` and their labels."""
        images, labels = batch
        return self.logged_sum(self.loss(self.head, self(images), labels), len(images))

    def validation_step(self, batch: tuple[Tensor, Mapping[str, Tensor]], batch_idx: int) -> None:
        """Keep what was read of a batch."""
        images, labels = batch
        self._validation.append((self.read(images).argmax(dim=2), labels["text"]))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole validation set, of which each process saw a part."""
        read, text = (all_gather_rows(torch.cat(seen)) for seen in zip(*self._validation, strict=True))
        self._validation.clear()
        self.log_dict(self.score(read, {"text": text}), prog_bar=True)

    def pretend_loss(self, *inputs: Tensor) -> Tensor:
        """Return the loss if every text is the same zone, whose place is not known."""
        outputs = self(*inputs)
        text = torch.from_numpy(self.KEYS.encode(("A" * 44, "A" * 44))).expand(len(inputs[0]), -1)
        zone = torch.full((len(inputs[0]), 4, 2), torch.nan)
        losses = self.loss(self.head, outputs, {"text": text, "zone": zone})
        return torch.stack([*losses.values()]).sum()

    def reduce_outputs(self, outputs: Tensor, labels: Labels) -> Tensor:
        """Return the keys read, `[N, 93]`."""
        return outputs.argmax(dim=2)

    def score(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics of keys `[N, 93]`."""
        self._compared = self._compare(outputs, labels)
        return {name: float(values.mean()) for name, values in self._compared.values.items()}

    def score_step(self, labels: Mapping[str, Tensor], metric: str) -> float:
        """Return what one zone changes of a share, and one character of ANLS."""
        zones = len(labels["text"])
        return 1 / zones if metric in _SHARES else 1 / (zones * (labels["text"].shape[1] - 1))

    def values(self, outputs: Tensor, labels: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """Return metric -> its value for each zone."""
        return self._compare(outputs, labels).values

    def score_details(self) -> dict[str, Any]:
        """Return the most frequent confusions, and the accuracy of each format."""
        found = self._compared
        return {} if found is None else {"confusions": found.confusions(), "formats": found.by_format()}

    def illustrate(
        self, outputs: Tensor, labels: Mapping[str, Tensor], dataset: Dataset[Any]
    ) -> dict[str, Any]:
        """Return the zones that were read worst."""
        return gallery.worst_zones(self._compare(outputs, labels), dataset)

    def example(self, file: str) -> str:
        """Return a program that reads the zone on an image."""
        return model_card.reader_example(self.config, self.KEYS, file)

    def _compare(self, read: Tensor, labels: Mapping[str, Tensor]) -> Comparison:
        return compare(read.cpu().numpy(), labels["text"].cpu().numpy(), self.KEYS)


class SpottingModel(ReaderModel):
    """A reader of whole photographs: it finds the zone and reads it in one go. Its keys are the spotter's."""

    KEYS = SPOTTER_KEYS
    INTENDED_USE = model_card.SPOTTER_USE
