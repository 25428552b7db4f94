"""A program that embeds otter_ray finds itself after a study as it was before."""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from otter_ray.user_folders import RAY_TMPDIR, TMPDIR

# Called where otter_ray leaves a program: each undoes something that other modules changed in it.
ON_LEAVING: list[Callable[[], object]] = []


def restore_environment(before: Mapping[str, str | None]) -> None:
    """Give variables of the environment these values; None removes one."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def left_as_found() -> Iterator[None]:
    """Restore at the block's end the home, the temporary folder, what Optuna logs, and `ON_LEAVING`."""
    variables = {name: os.environ.get(name) for name in (TMPDIR, RAY_TMPDIR, "HOME")}
    folder = tempfile.tempdir
    optuna = sys.modules.get("optuna")
    verbosity = optuna.logging.get_verbosity() if optuna else logging.INFO  # Optuna's own default
    try:
        yield
    finally:
        restore_environment(variables)
        tempfile.tempdir = folder
        if optuna := sys.modules.get("optuna"):
            optuna.logging.set_verbosity(verbosity)
        for undo in ON_LEAVING:
            undo()


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Restore at the block's end the random numbers of Python, numpy and torch, and Lightning's seed.

    Those of torch are the CPU's, and each GPU's if the program has used one: a seed is set for all of them.
    """
    variables = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    python, numpy, torch = random.getstate(), sys.modules.get("numpy"), sys.modules.get("torch")
    of_numpy = numpy.random.get_state() if numpy else None
    of_torch = torch.get_rng_state() if torch else None
    of_gpus = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(of_numpy)
        if torch:
            torch.set_rng_state(of_torch)
            torch.cuda.set_rng_state_all(of_gpus)
        restore_environment(variables)


@contextmanager
def importing_from_here() -> Iterator[None]:
    """Let the block import from the current folder, as `python -m` does, after the program's own folders."""
    here = os.getcwd()
    is_new = here not in sys.path
    if is_new:
        sys.path.append(here)
    try:
        yield
    finally:
        if is_new:
            with suppress(ValueError):
                sys.path.remove(here)
