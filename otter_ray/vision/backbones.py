"""timm backbones that return feature maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import Format
from timm.layers.format import nhwc_to
from torch import Tensor, nn

from otter_ray.errors import TrainingError, did_you_mean, in_one_line

# (a backbone's name and options, height, width of the images) -> (height, width) of the last feature map
_FEATURE_MAP_SIZES: dict[tuple[str | int, ...], tuple[int, int]] = {}


class Backbone(nn.Module):
    """A timm model that returns its feature maps, finest first.

    Args:
        name: timm's name, with or without Otter's prefix `timm_`.
        pretrained: Whether to load timm's weights, which needs the hub once, or its cache.
        features_only: Must be True; Otter's configs give it.
        image_size: (height, width) of the images. A model that is built for one size, such as a ViT, is built
            for this one; None leaves it at its own.
        **options: More arguments for `timm.create_model`.

    Raises:
        ValueError: timm has no such model, or it returns no feature maps, or not of such images.
        TrainingError: The pretrained weights could not be downloaded.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        features_only: bool = True,
        image_size: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not features_only:
            raise ValueError("features_only is False but the head needs feature maps. Set it to true.")
        self.name = name.removeprefix("timm_")
        if not timm.is_model(self.name):
            raise ValueError(f"timm has no model {self.name!r}.{did_you_mean(self.name, timm.list_models())}")
        if image_size is not None and _is_built_for_a_size(self.name):
            options = {"img_size": tuple(image_size), **options}
        self._identity = json.dumps([self.name, options], sort_keys=True, default=str)
        self.model = _create(self.name, pretrained, options)
        self.channels: list[int] = self.model.feature_info.channels()
        self.reductions: list[int] = self.model.feature_info.reduction()
        self._has_channels_last_axis = getattr(self.model, "output_fmt", Format.NCHW) == Format.NHWC

    def feature_map_size(self, image_size: Sequence[int]) -> tuple[int, int]:
        """Return (height, width) of the last feature map of an image of `image_size`, which is run for that.

        Models round the halves of odd sizes up or down, or cut an edge off: only running them tells. Each
        model is run once in a process: that is slow on the meta device, where architectures are checked.

        Raises:
            ValueError: The model cannot run on such images.
        """
        key: tuple[str | int, ...] = (self._identity, *image_size)
        if key not in _FEATURE_MAP_SIZES:
            _FEATURE_MAP_SIZES[key] = self._measure_feature_map(image_size)
        return _FEATURE_MAP_SIZES[key]

    def _measure_feature_map(self, image_size: Sequence[int]) -> tuple[int, int]:
        # On the device of the weights: a model may be built without memory, to be compared with a checkpoint.
        blank = next(self.model.parameters()).new_zeros(1, 3, *image_size)
        was_training = self.model.training
        try:
            with torch.no_grad():
                last = self.eval()(blank)[-1]
        except Exception as exc:  # models assert and fail in whatever way a layer fails
            size = "x".join(map(str, image_size))
            raise ValueError(f"{self.name} cannot run on images of {size} px: {in_one_line(exc)}") from exc
        finally:
            self.train(was_training)
        if last.ndim != 4 or last.shape[1] != self.channels[-1]:
            shape = "x".join(map(str, last.shape[1:]))
            raise ValueError(
                f"{self.name} returns {shape} for an image where its {self.channels[-1]} channels and two "
                "sides are expected. Choose another backbone."
            )
        return int(last.shape[2]), int(last.shape[3])

    def forward(self, img: Tensor) -> list[Tensor]:
        """Return feature maps `[N, channels[i], h, w]`, about H / reductions[i] by W / reductions[i]."""
        features: list[Tensor] = self.model(img)
        if self._has_channels_last_axis:
            return [nhwc_to(feature, Format.NCHW) for feature in features]
        return features


def _is_built_for_a_size(name: str) -> bool:
    """Return whether a model takes `img_size`: by this flag timm itself decides whether to give it."""
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return settings is not None and bool(settings.fixed_input_size)


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    create = partial(timm.create_model, name, features_only=True, **options)
    if pretrained:
        try:
            return create(pretrained=True)
        except (OSError, RuntimeError) as exc:  # no network; no weights of that name
            _create(name, False, options)  # raises what is wrong with the model itself
            raise TrainingError(
                f"model.backbone.options.pretrained is true, but the weights of {name} could not be "
                f"downloaded: {str(exc).rstrip('.')}. Set it to false, or download them once into the hub's "
                "cache on a machine with a network."
            ) from exc
    try:
        return create(pretrained=False)
    except TypeError:
        raise  # an argument that the model does not have
    except Exception as exc:  # models assert and fail in whatever way a layer fails
        raise ValueError(f"timm cannot build {name} with feature maps: {in_one_line(exc)}") from exc
