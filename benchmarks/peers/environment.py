"""The peers' own Python environment: the project with its pinned versions, and Syne Tune."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = ["syne-tune==0.16.0"]
# What trains must be the same in both; the rest is told.
SAME = ["torch", "lightning", "timm", "ray", "optuna"]
_VERSIONS = "import json, sys; from importlib.metadata import version as v; "
_VERSIONS += "print(json.dumps({name: v(name) for name in sys.argv[1:]}))"


def peers_python(folder: Path) -> str:
    """The environment's interpreter; it is made where it is missing, or the pins have changed."""
    pins = (ROOT / "constraints.txt").read_bytes() + " ".join(PEERS).encode()
    python, stamp = folder / "bin" / "python", folder / ".ready"
    state = f"{hashlib.sha256(pins).hexdigest()} {ROOT}"
    if not (stamp.is_file() and stamp.read_text() == state):
        uv = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
        subprocess.run([uv, "venv", "--clear", "--quiet", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        install += ["--constraint", ROOT / "constraints.txt", "--editable", ROOT, *PEERS]
        subprocess.run(install, check=True)
        stamp.write_text(state)
    return str(python)


def versions(peers: str | None) -> dict[str, str]:
    """Of what trains and searches. Raises SystemExit where the peers have others than the project."""
    ours = _versions_of(sys.executable, SAME)
    if peers is None:
        return ours
    theirs = _versions_of(peers, [*SAME, *(name.partition("==")[0] for name in PEERS)])
    if different := {name: theirs[name] for name in SAME if theirs[name] != ours[name]}:
        raise SystemExit(
            f"the peers have {different}, the project {ours}. Remove their folder, and try again."
        )
    return theirs


def _versions_of(python: str, names: list[str]) -> dict[str, str]:
    told = subprocess.run([python, "-c", _VERSIONS, *names], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))
