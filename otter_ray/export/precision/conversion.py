"""Make a file of lower precision from an fp32 file, with onnxruntime's own tools."""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

Batch = dict[str, NDArray[np.generic]]
# What is computed in int8. onnxruntime has no int8 kernels for most activation functions.
QUANTIZED = ("Conv", "Gemm", "MatMul")
# The squares of a vector of length 256 overflow float16 at values of 16.
FLOAT32_ONLY = ("Clip", "Div", "Pow", "ReduceL2", "ReduceSumSquare", "LpNormalization", "Sqrt")
METHODS = {
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "minmax": CalibrationMethod.MinMax,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Batch | None:
        return next(self._batches, None)


def to_float16(source: Path, target: Path) -> None:
    """Convert a file's weights and products to float16. Inputs and outputs stay float32."""
    with _quiet():
        blocked = [*DEFAULT_OP_BLOCK_LIST, *FLOAT32_ONLY]
        model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True, op_block_list=blocked)
        # The casts of the inputs are at the end.
        ordered = ONNXModel(model)
        ordered.topological_sort()
    ordered.save_model_to_file(str(target))


class Int8Converter:
    """Quantizes a file's convolutions and matrix products statically: QDQ, weights per channel.

    The ranges of activations are found once, and used for every file that is written.

    Args:
        source: The fp32 file.
        folder: For what is needed meanwhile.
        batches: Inputs by which the ranges are found.
        method: One of `METHODS`.
    """

    def __init__(self, source: Path, folder: Path, batches: Iterable[Batch], method: str) -> None:
        self._prepared = folder / "prepared.onnx"
        with _quiet():
            quant_pre_process(str(source), str(self._prepared), skip_symbolic_shape=True)
            calibrator = create_calibrator(
                self._prepared,
                [*QUANTIZED],
                augmented_model_path=str(folder / "augmented.onnx"),
                calibrate_method=METHODS[method],
            )
            for batch in batches:
                # All activations of what is collected at once are in memory.
                calibrator.collect_data(_Reader([batch]))
            self._ranges = calibrator.compute_data()

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that are quantized."""
        graph = onnx.load(str(self._prepared)).graph
        return [node.name for node in graph.node if node.op_type in QUANTIZED]

    def write(self, target: Path, left_out: Collection[str] = ()) -> None:
        """Write the int8 file, in which the nodes of these names stay in float32."""
        with _quiet():
            quantizer = QDQQuantizer(
                onnx.load(str(self._prepared)),
                True,  # weights per channel
                False,  # with all eight bits
                QuantType.QInt8,  # of weights
                # Unsigned activations have the fastest kernels.
                QuantType.QUInt8,
                self._ranges,
                [],
                [*left_out],
                [*QUANTIZED],
                {},
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(target))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the tools print, and the root logger's advice for programmers."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
