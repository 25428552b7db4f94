"""A native crash costs the process that it happens in, and no other."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading

import onnxruntime
import pytest
from onnx import TensorProto, helper

from otter_ray.errors import DataError
from otter_ray.isolation import ProcessCrashError, run_isolated


def test_a_result_comes_back_whole():
    assert run_isolated(lambda enter: {"bytes": 5_000_000 * b"x", "pid": os.getpid()})["pid"] != os.getpid()


def test_an_error_comes_back_as_itself():
    def fail(enter):
        enter("reading")
        raise DataError("no such folder")

    with pytest.raises(DataError, match="no such folder"):
        run_isolated(fail)


@pytest.mark.parametrize(
    ("crash", "cause"),
    [
        (os.abort, "SIGABRT"),
        (lambda: ctypes.string_at(0), "SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: os._exit(3), "exit code 3"),
    ],
)
def test_a_process_that_dies_is_an_error_that_says_how_and_where(crash, cause, capfd):
    def die(enter):
        enter("while it is built")
        enter("in its first backward pass")
        crash()

    with pytest.raises(ProcessCrashError) as caught:
        run_isolated(die)
    assert (caught.value.stage, caught.value.cause) == ("in its first backward pass", cause)
    assert "Fatal Python error" not in capfd.readouterr().err


def test_ctrl_c_ends_the_process_that_runs():
    def wait(enter):
        signal.pause()

    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_isolated(wait)
    assert not multiprocessing.active_children()


class TwoPartsError(Exception):
    """An error that a pickle cannot restore: it would be called with one argument."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (EOFError("no more input"), EOFError, "no more input"),
        (TwoPartsError("this", "that"), RuntimeError, "this and that"),
    ],
)
def test_an_error_of_the_function_is_no_crash(raised, expected, words):
    def fail(enter):
        raise raised

    with pytest.raises(expected, match=words):
        run_isolated(fail)


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_fork_frees_no_session_of_its_parent():
    identity = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(identity, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    gc.disable()
    try:
        ring = [onnxruntime.InferenceSession(model.SerializeToString(), options)]
        ring.append(ring)  # only the garbage collector finds it
        del ring
        assert run_isolated(lambda enter: gc.collect()) >= 0  # else it crashes, or waits for ever
    finally:
        gc.enable()
