"""TensorBoard's HParams table: what each run of a study was given, beside the metrics that it logged."""

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


@dataclass(frozen=True)
class HParams:
    """A run's row of the table.

    Attributes:
        name: its own among the runs beside which it stands; those of one name are one row.
        values: plain values by dotted key.
    """

    name: str
    values: Mapping[str, Any]


class HParamsWriter(L.Callback):
    """Writes the row where the run logs to TensorBoard; the table's metrics are the scalars logged there.

    Lightning's own `log_hyperparams` takes a value of the metric before there is one, and logs it.
    """

    def __init__(self, row: HParams) -> None:
        self.row = row

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What the run was given."""
        self._write(trainer, _start(self.row))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """It has trained all its epochs."""
        self._write(trainer, _end(api_pb2.STATUS_SUCCESS))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """It failed; a scheduler that stops it ends its thread instead."""
        is_failure = isinstance(exception, Exception)
        self._write(trainer, _end(api_pb2.STATUS_FAILURE if is_failure else api_pb2.STATUS_SUCCESS))

    def _write(self, trainer: L.Trainer, summary: Summary) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment._get_file_writer().add_summary(summary)


def _start(row: HParams) -> Summary:
    told = SessionStartInfo(group_name=row.name, start_time_secs=time.time())
    for key, value in row.values.items():
        if isinstance(value, bool):
            told.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            told.hparams[key].number_value = value
        else:
            told.hparams[key].string_value = str(value)
    return _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=told))


def _end(status: int) -> Summary:
    told = SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=told))


def _summary(tag: str, told: HParamsPluginData) -> Summary:
    # TensorBoard's own functions for this want TensorFlow.
    about = metadata.create_summary_metadata(told)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
