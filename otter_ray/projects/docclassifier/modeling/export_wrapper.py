"""The part of a trained model that is exported: everything but the loss."""

from __future__ import annotations

from torch import Tensor, nn

from otter_ray.train.model.channels import RGB, reordered


class WarpFeatureLearning(nn.Module):
    """Backbone, neck and head of a trained model, without the loss.

    Args:
        model: The trained `ClassifierModel`.
        normalize: Whether to return unit embeddings, so that `(dot + 1) / 2` is the similarity to compare
            with a threshold; otherwise they are raw.
        channels: The order of the images' colour channels: `rgb`, as in training, or `bgr`.
    """

    def __init__(self, model: nn.Module, normalize: bool = True, channels: str = RGB) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = (getattr(model, part) for part in ("backbone", "neck", "head"))
        self.normalize, self.channels = normalize, channels

    def forward(self, img: Tensor) -> Tensor:
        """Return embeddings `[N, embed_dim]` of images `[N, 3, H, W]` in [0, 1]."""
        embeddings: Tensor = self.head(self.neck(self.backbone(reordered(img, self.channels))))
        if not self.normalize:
            return embeddings
        # Like functional.normalize, but its expand_as would hide the embedding's length from the ONNX file.
        unit: Tensor = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return unit
