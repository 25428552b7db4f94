"""What a run of a study changes, for its loggers: TensorBoard's HParams table, and the like of others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from otter_ray.train.torch_compat import write_summary


@dataclass(frozen=True)
class HParams:
    """What tells a run of a study apart from others.

    Attributes:
        name: The run's name, unique among the study's; runs of one name share a row of TensorBoard's table.
        group: The study's name.
        values: Plain values by dotted key.
    """

    name: str
    group: str
    values: Mapping[str, Any]


class HParamsWriter(L.Callback):
    """Writes the values to the run's loggers.

    The metrics of TensorBoard's table are the scalars logged there. Lightning's own `log_hyperparams` for it
    needs a value of the metric before there is one, and logs it.
    """

    def __init__(self, row: HParams) -> None:
        self.row = row

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the run's values."""
        self._write(trainer, _start(self.row))
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(self.row.values))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write that the run has trained all its epochs."""
        self._write(trainer, _end(api_pb2.STATUS_SUCCESS))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write that the run failed. A scheduler that stops a trial ends its thread instead."""
        is_failure = isinstance(exception, Exception)
        self._write(trainer, _end(api_pb2.STATUS_FAILURE if is_failure else api_pb2.STATUS_SUCCESS))

    def _write(self, trainer: L.Trainer, summary: Summary) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                write_summary(logger.experiment, summary)


def _start(row: HParams) -> Summary:
    info = SessionStartInfo(group_name=row.name, start_time_secs=time.time())
    for key, value in row.values.items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    return _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def _end(status: int) -> Summary:
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))


def _summary(tag: str, info: HParamsPluginData) -> Summary:
    # TensorBoard's own functions for this need TensorFlow.
    about = metadata.create_summary_metadata(info)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
