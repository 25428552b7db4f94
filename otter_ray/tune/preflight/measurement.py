"""Rehearse on one batch of the validation set what the export's gate does after the search."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from torch.utils.data import Dataset

from otter_ray.config import Config
from otter_ray.errors import ConfigError, OtterError
from otter_ray.export.evaluation import evaluation_loader
from otter_ray.export.model_stats import untrained_model
from otter_ray.export.onnx_file import onnx_section, wrap
from otter_ray.export.reference import join_batches, join_labels, reduced, torch_outputs
from otter_ray.train.registry import by_project

logger = logging.getLogger(__name__)


@by_project
def rehearse_measurement(config: Config, valid: Dataset[Any], metric: str) -> None:
    """Measure an untrained model on one batch, so that an error in its hooks does not come after the search.

    Args:
        config: the base config.
        valid: its validation set.
        metric: that the study optimizes.

    Raises:
        ConfigError: the batch is not what the exported model takes, or the metric is not among the scores.
    """
    model = untrained_model(config)
    wrapped = wrap(config, model)
    batch = next(iter(evaluation_loader(config, valid)))
    doing = "exported_batch"
    try:
        inputs, labels = model.exported_batch(batch)
        doing = f"{onnx_section(config).name}.forward"
        outputs = torch_outputs(wrapped, inputs)
    except OtterError:
        raise
    except Exception as exc:  # the project's own code
        message = f"{doing} fails on a batch of the validation set: {type(exc).__name__}: {exc}. Fix it."
        raise ConfigError([config.problem("model.name", message)]) from exc
    try:
        with warnings.catch_warnings(action="ignore"):  # one batch is too little for a metric
            kept = join_batches([reduced(model, outputs, labels)])
            scores = model.score(kept, join_labels([labels]))
    except OtterError:
        raise
    except Exception as exc:  # a metric may need more than a batch
        logger.warning(
            f"{config.model.name}.score failed on one batch of the validation set: {type(exc).__name__}: "
            f"{str(exc).rstrip('.')}. If it fails on the whole set, no model can be exported."
        )
        return
    if metric not in scores:
        message = (
            f"its score returns {', '.join(scores)}, not the study's metric {metric}. Make them the same."
        )
        raise ConfigError([config.problem("model.name", message)])
