"""TensorBoard's HParams table: what each run of a study was given, beside the metrics that it logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

TYPES = (bool, int, float, str)


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
        values = {
            key: value if isinstance(value, TYPES) else str(value) for key, value in self.row.values.items()
        }
        self._write(trainer, api.hparams_pb(values, trial_id=self.row.name))

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


def _end(status: int) -> Summary:
    told = HParamsPluginData(session_end_info=SessionEndInfo(status=status))
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(told),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])
