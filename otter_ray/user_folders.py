"""The folders that every library takes for granted: the home and the temporary one.

Where one of them cannot be used, Ray ends in its core or in a traceback. A command therefore replaces it
before anything else starts (`use_sound_folders`), and the doctor says what was wrong with it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

from otter_ray.errors import OtterError
from otter_ray.formatting import MIB

TMPDIR, RAY_TMPDIR = "TMPDIR", "RAY_TMPDIR"  # Ray uses the second one, if it is set
DEFAULTS = ("/tmp", "/var/tmp", "/dev/shm")
MIN_FREE = 64 * MIB  # for Ray's logs and a trial's scratch files
# A Unix socket's address has 107 bytes at most, and Ray adds 68: `/ray/session_.../sockets/plasma_store`.
MAX_BYTES = 107 - 68


def use_sound_folders() -> None:
    """Replace a home or a temporary folder that cannot be used, in this process and in those it starts.

    A folder that merely has an unsuitable name is used through a link.

    Raises:
        OtterError: no temporary folder can be used.
    """
    for name in (TMPDIR, RAY_TMPDIR) if RAY_TMPDIR in os.environ else (TMPDIR,):
        given = os.environ.get(name, DEFAULTS[0])
        if fault := fault_of(given):
            os.environ[name] = _sound_default(name, given)
            warnings.warn(f"{name}: {given!r} {fault}. Using {os.environ[name]} instead.", stacklevel=2)
        elif fault_of_name(given):
            links = _private_folder_in(_sound_default(name, given))
            os.environ[name] = str(_link_to(Path(given).absolute(), links))
    tempfile.tempdir = None  # or it would not be read again
    if fault := home_fault():
        os.environ["HOME"] = str(private_folder())
        warnings.warn(f"HOME: {fault}. Using {os.environ['HOME']} instead.", stacklevel=2)
    # Ray's core asks the variable alone, Python the list of users as well.
    os.environ.setdefault("HOME", os.path.expanduser("~"))


def fault_of(folder: str) -> str | None:
    """Say why temporary files cannot be kept in a folder; None if they can."""
    if not folder:
        return "is empty"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as exc:
        return f"cannot be written to ({exc.strerror})"
    free = shutil.disk_usage(folder).free
    return f"has only {free / MIB:.1f} MiB free" if free < MIN_FREE else None


def fault_of_name(folder: str) -> str | None:
    """Say why Ray cannot use a folder under its name; None if it can."""
    if not os.path.isabs(folder):
        return "is not an absolute path"
    if shlex.quote(folder) != folder:
        return "contains a space, or a character that is not ASCII or that a shell would interpret"
    if (length := len(os.fsencode(folder))) > MAX_BYTES:
        return f"has {length} bytes, and Ray's sockets allow {MAX_BYTES}"
    return None


def home_fault() -> str | None:
    """Say why there is no home; None if there is one, which may be read-only."""
    home = os.path.expanduser("~")
    if home == "~":
        return "is not set, and this machine does not know the user"
    return None if os.path.isabs(home) else f"{home!r} is not an absolute path"


def private_folder() -> Path:
    """Return a temporary folder that belongs to this user alone, the same one each time if possible.

    Raises:
        OtterError: no temporary folder can be used.
    """
    given = os.environ.get(TMPDIR, DEFAULTS[0])
    return _private_folder_in(given if fault_of(given) is None else _sound_default(TMPDIR, given))


def _private_folder_in(place: str) -> Path:
    folder = Path(place) / f"otter_ray-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    # Somebody else made it, and could exchange what is kept there.
    return Path(tempfile.mkdtemp(prefix="otter_ray-", dir=place))


def _sound_default(name: str, given: str) -> str:
    """Return the first default folder that can be used."""
    for folder in DEFAULTS:
        if folder != given and fault_of(folder) is None:
            return folder
    fault = fault_of(given) or fault_of_name(given)
    raise OtterError(
        f"{name}: {given!r} {fault}, and {', '.join(DEFAULTS)} cannot be used either. Set {name} to a folder "
        "that you can write to."
    )


def _link_to(folder: Path, links: Path) -> Path:
    """Return a short link to a folder in a folder of links, and remove those to folders that are gone."""
    for earlier in links.iterdir():
        if earlier.is_symlink() and not earlier.exists():
            earlier.unlink(missing_ok=True)
    link = links / hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    with suppress(FileExistsError):
        link.symlink_to(folder)
    return link
