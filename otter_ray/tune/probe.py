"""Whether every node can do a trial's work: asked of each before the first one starts."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from otter_ray.errors import StudyError
from otter_ray.tune.cluster import living_entries
from otter_ray.tune.storage import Storage

SECONDS = 60.0  # that a node has to answer
PROBE = ".probe"


def check_nodes(folder: Path, storage: Storage | None) -> None:
    """Asks each living node to read what this process wrote into the study's folder, or into its storage.

    Raises:
        StudyError: some do not see it, or cannot run this package; names them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    word = secrets.token_hex(8)
    (folder / PROBE).write_text(word)
    if storage is not None:
        _reach(storage, folder)
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {}
    try:
        for node in living_entries():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            asked[look.options(scheduling_strategy=there).remote(str(folder), storage, word)] = name
        ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS)
        blind = [f"{name}: {trouble}" for answer, name in asked.items() if (trouble := _trouble(answer))]
    finally:
        (folder / PROBE).unlink()
        if storage is not None:
            storage.remove(PROBE)
    if blind:
        seen = storage.uri if storage else str(folder)
        raise StudyError(
            f"{len(blind)} of {len(asked)} nodes cannot work on {seen}:\n  "
            + "\n  ".join(sorted(blind))
            + "\n"
            "Give a --runs that all nodes share (NFS), or a --storage (s3://BUCKET/PATH) that all may use."
        )


def _reach(storage: Storage, folder: Path) -> None:
    try:
        storage.put(folder / PROBE, PROBE)
    except OSError as exc:
        raise StudyError(f"--storage {storage.uri} cannot be written: {exc}") from exc


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


def _trouble(answer: object) -> str | None:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        trouble: str | None = ray.get(answer, timeout=0)
    except GetTimeoutError:
        return f"no answer within {SECONDS:g} s"
    except RayError as exc:
        return str(exc).strip().splitlines()[-1]
    return trouble
