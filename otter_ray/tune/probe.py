"""Whether every node can do a trial's work: asked of each before the first one starts."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otter_ray.errors import StudyError
from otter_ray.tune.cluster import living_entries
from otter_ray.tune.storage import Storage

SECONDS = 60.0  # that a node has to answer
PROBE = ".probe"


@dataclass(frozen=True)
class Answer:
    """What a node said.

    Attributes:
        entry: what Ray knows of it.
        value: what the function gave there.
        trouble: why it gave nothing; empty where it did.
    """

    entry: dict[str, Any]
    value: Any
    trouble: str

    @property
    def node(self) -> str:
        """Its name and address."""
        return f"{self.entry['NodeManagerHostname']} ({self.entry['NodeManagerAddress']})"


def ask_nodes(function: Callable[..., Any], *arguments: Any) -> list[Answer]:
    """Runs a function of this package on each living node, all at once, without any of its resources."""
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
    """Asks each living node to read what this process wrote into the study's folder, or into its storage.

    Raises:
        StudyError: some do not see it, or cannot run this package; names them.
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
    """Writes, reads and deletes a word there from this process, without a second try. Raises StudyError."""
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
            f"--storage {storage.uri} gives other bytes back than it was given. Take another one."
        )


def _reach(storage: Storage, folder: Path) -> None:
    try:
        storage.put(folder / PROBE, PROBE)
    except OSError as exc:
        raise _unwritable(storage, exc) from exc


def _unwritable(storage: Storage, exc: OSError) -> StudyError:
    return StudyError(f"--storage {storage.uri} cannot be written: {exc}")


def _look(folder: str, storage: Storage | None, word: str) -> str | None:
    """What is wrong on this node; None where nothing is."""
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
    """(what a node gave, why it gave nothing)."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        return ray.get(waiting, timeout=0), ""
    except GetTimeoutError:
        return None, f"no answer within {SECONDS:g} s"
    except RayError as exc:
        return None, str(exc).strip().splitlines()[-1]
