"""The CLIP teacher: a frozen image tower, whose features of clean images the embeddings follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otter_ray.errors import TrainingError, did_you_mean
from otter_ray.train.checkpoint.checkpoint_io import differing_keys, summarize_keys

# OpenAI's ViT-B/32 was trained with QuickGELU. Under timm's name without it, the same weights run with
# another activation and return other features.
TOWER = "vit_base_patch32_clip_quickgelu_224.openai"


class ClipTeacher(nn.Module):
    """A CLIP image tower of timm with its projection, always in evaluation mode and without gradients.

    Args:
        name: timm's name with its tag. Towers fine-tuned to classify have lost their projection.
        checkpoint: A .safetensors or .pt file of timm's weights; None means from the hub, or its cache.
        pretrained: Whether to load weights if there is no checkpoint; otherwise they are random.

    Raises:
        ValueError: timm has no such tower.
        TrainingError: The weights could not be downloaded, or belong to another architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = TOWER, checkpoint: str | None = None, pretrained: bool = True) -> None:
        super().__init__()
        self.width(name)
        self.tower = _create(name, pretrained and checkpoint is None)
        if checkpoint is not None:
            _load(self.tower, name, Path(checkpoint).expanduser())
        data = timm.data.resolve_model_data_config(self.tower)
        self.size: tuple[int, int] = data["input_size"][-2:]
        for part in ("mean", "std"):
            self.register_buffer(part, torch.tensor(data[part])[:, None, None])
        self.requires_grad_(False).eval()

    @classmethod
    def width(cls, name: str = TOWER, **others: Any) -> int:
        """Return the length of a feature, for the constructor's arguments, without building the tower."""
        towers = timm.list_pretrained("*clip*", exclude_filters=["*_ft_in*", "*_clip_gap*"])
        if name not in towers:
            near = did_you_mean(name, towers)
            raise ValueError(f"timm has no CLIP image tower {name!r} that keeps its projection.{near}")
        return int(timm.get_pretrained_cfg(name).num_classes)

    def train(self, mode: bool = True) -> ClipTeacher:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return unit features `[B, width]`, float32, of images `[B, 3, H, W]` in [0, 1].

        The whole image is squeezed into the tower's square: a crop would cut off a document's edges.
        """
        resized = F.interpolate(images.float(), self.size, mode="bicubic", antialias=True).clamp(0, 1)
        return F.normalize(self.tower((resized - self.mean) / self.std).float())


def _create(name: str, pretrained: bool) -> Any:
    try:
        return timm.create_model(name, pretrained=pretrained)
    except OSError as exc:
        hub = timm.get_pretrained_cfg(name).hf_hub_id
        raise TrainingError(
            f"the CLIP teacher's weights ({hub} on the hub) could not be downloaded: {_reason(exc)}. Start "
            "once with a network, which leaves them in the hub's cache, or give the path of that "
            "model.safetensors as model.teacher.options.checkpoint."
        ) from exc


def _load(tower: nn.Module, name: str, path: Path) -> None:
    """Load the file by safetensors or `torch.load(weights_only=True)`, which run none of its code."""
    remedy = f"Give a .safetensors or .pt file of timm's weights of {name}."
    if not path.is_file():
        raise TrainingError(f"model.teacher.options.checkpoint: there is no file {path}. {remedy}")
    try:
        weights = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as exc:  # each format, and each way to break it, has an exception of its own
        raise TrainingError(
            f"model.teacher.options.checkpoint: {path} cannot be read as weights: {_reason(exc)}. {remedy}"
        ) from exc
    if differing := differing_keys(tower.state_dict(), weights):
        raise TrainingError(
            f"model.teacher.options.checkpoint: {path} contains weights of another architecture than {name}: "
            f"they differ in {summarize_keys(differing)}. {remedy}"
        )
    tower.load_state_dict(weights)


def _reason(exc: Exception) -> str:
    """Return the first line of a library's message, without its full stop."""
    return str(exc).partition("\n")[0].rstrip(".") or type(exc).__name__


class ClipDistillation(nn.Module):
    """The distance of a student's embeddings from a teacher's features of the same images.

    `KL(softmax(v) || softmax(u))`, where v is the teacher's unit feature and u the student's embedding after
    a linear projection to the same length D, normalised: Hinton et al. 2015, arXiv 1503.02531, at temperature
    1, on unit vectors instead of logits as in DocClassifier. Unit vectors make both distributions nearly
    uniform: the loss is about `|u - v|^2 / 2D`, 0.002 at D = 512 for a student that knows nothing yet.

    Args:
        embed_dim: Length of an embedding.
        width: Length D of a feature.
    """

    def __init__(self, embed_dim: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(embed_dim, width, bias=False)

    def forward(self, embeddings: Tensor, features: Tensor) -> Tensor:
        """Return the mean loss of embeddings `[B, embed_dim]` and unit features `[B, width]`."""
        # float32 whatever the trainer's precision: the two differ in digits that bfloat16 does not have.
        with torch.autocast(embeddings.device.type, enabled=False):
            student = F.normalize(F.linear(embeddings.float(), self.projection.weight.float()))
            return F.kl_div(
                student.log_softmax(1), features.log_softmax(1), reduction="batchmean", log_target=True
            )
