"""Whether every node can run trials: each one is asked before the first trial starts."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otter_ray.errors import StudyError
from otter_ray.study.storage import Storage
from otter_ray.tune.cluster.nodes import living_entries

SECONDS = 60.0  # that a node has to answer
PROBE = ".probe"


@dataclass(frozen=True)
class Answer:
    """A node's answer.

    Attributes:
        entry: what Ray knows of the node.
        value: what the function returned there.
        trouble: why it returned nothing; empty if it did.
    """

    entry: dict[str, Any]
    value: Any
    trouble: str

    @property
    def node(self) -> str:
        """The node's name and address."""
        return f"{self.entry['NodeManagerHostname']} ({self.entry['NodeManagerAddress']})"


def ask_nodes(function: Callable[..., Any], *arguments: Any) -> list[Answer]:
    """Run a function of this package on each living node, all at once, without any of its resources."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A function that looks at GPUs is to see them all.
    visible = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    look = ray.remote(num_cpus=0, max_retries=0, runtime_env=visible)(function)
    asked = {}
    for entry in living_entries():
        there = NodeAffinitySchedulingStrategy(entry["NodeID"], soft=False)
        asked[look.options(scheduling_strategy=there).remote(*arguments)] = entry
    ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS)
    return [Answer(entry, *_answer(waiting)) for waiting, entry in asked.items()]


def check_nodes(folder: Path, storage: Storage | None) -> None:
    """Ask each living node to read what this process wrote into the study's folder, or into its storage.

    Raises:
        StudyError: some do not see it, or cannot run this package; the message names them.
    """
    word = secrets.token_hex(8)
    (folder / PROBE).write_text(word)
    try:
        if storage is not None:
            _reach(storage, folder)
        try:
            answers = ask_nodes(_look, str(folder), storage, word)
        finally:
            if storage is not None:
                storage.remove(PROBE)
    finally:
        (folder / PROBE).unlink()
    blind = [f"{answer.node}: {trouble}" for answer in answers if (trouble := answer.trouble or answer.value)]
    if blind:
        seen = storage.uri if storage else str(folder)
        raise StudyError(
            f"{len(blind)} of {len(answers)} nodes cannot work on {seen}:\n  "
            + "\n  ".join(sorted(blind))
            + "\n"
            "Give a --runs that all nodes share (NFS), or a --storage (s3://BUCKET/PATH) that all may use."
        )


def check_storage(storage: Storage) -> None:
    """Write, read and delete a word in a storage from this process, without a second attempt.

    Raises:
        StudyError: it cannot be written, or does not return what was written.
    """
    name, word = f"{PROBE}.{secrets.token_hex(4)}", secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="otter_ray_") as scratch:
        file = Path(scratch) / PROBE
        file.write_text(word)
        try:
            storage.put(file, name, pauses=())
            found = storage.read(name)
            storage.remove(name)
        except OSError as exc:
            raise _unwritable(storage, exc) from exc
    if found != word.encode():
        raise StudyError(
            f"the data read back from --storage {storage.uri} differs from what was written. "
            "Use another storage."
        )


def _reach(storage: Storage, folder: Path) -> None:
    try:
        storage.put(folder / PROBE, PROBE)
    except OSError as exc:
        raise _unwritable(storage, exc) from exc


def _unwritable(storage: Storage, exc: OSError) -> StudyError:
    return StudyError(f"--storage {storage.uri} cannot be written: {exc}")


def _look(folder: str, storage: Storage | None, word: str) -> str | None:
    """Return what is wrong on this node; None if nothing is."""
    own = f"{PROBE}.{secrets.token_hex(4)}"
    try:
        if storage is None:
            (Path(folder) / own).touch()
            (Path(folder) / own).unlink()
            found = (Path(folder) / PROBE).read_text()
        else:
            with tempfile.NamedTemporaryFile() as file:
                storage.put(Path(file.name), own)
            storage.remove(own)
            found = (storage.read(PROBE) or b"").decode()
    except (OSError, StudyError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return None if found == word else "another folder of that name"


def _answer(waiting: object) -> tuple[Any, str]:
    """Return (what a node returned, why it returned nothing)."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        return ray.get(waiting, timeout=0), ""
    except GetTimeoutError:
        return None, f"no answer within {SECONDS:g} s"
    except RayError as exc:
        return None, str(exc).strip().splitlines()[-1]
