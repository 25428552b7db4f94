"""A 64 MB disk that runs full under a study: it ends, says what it needs, and goes on once there is room."""

import os
import re
import shutil
import subprocess
from contextlib import suppress

import pytest

from tests.support.commands import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


class Disk:
    def __init__(self, path):
        self.path, self.ballast = path, path / "ballast"

    def fill(self, left=0):
        """Takes all its room but `left` bytes, also while others write."""
        with self.ballast.open("wb") as file, suppress(OSError):
            while (free := shutil.disk_usage(self.path).free - left) > 0:
                os.posix_fallocate(file.fileno(), file.tell(), free)
                file.seek(free, os.SEEK_CUR)

    def make_room(self):
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no tmpfs can be mounted (only root may): {exc}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def stopped(command):
    """What it said."""
    code, output = command.end(300)
    assert code == 2, output
    assert "Traceback" not in output
    return output


def test_a_study_on_a_disk_that_runs_full_goes_on_after_room_was_made(subject, undisturbed, disk, full):
    """In the middle of trials, when the next thing to be written is a checkpoint or a line of a log."""
    study = subject(disk.path)
    for epochs in (2, 7, 12) if full else (5,):
        command = study.start()
        wait_for(lambda epochs=epochs: len(study.epochs()) >= epochs, 300)
        disk.fill()
        output = stopped(command)
        assert re.search(r"is full \(0.\d MB free\): each trial that runs needs [67]\.\d MB", output), output
        assert re.search(r"resume with: python -m otter_ray\.tune --resume \S*subject", output), output
        assert not list(disk.path.rglob("*.partial"))
        disk.make_room()
    code, output = study.start().end(600)
    assert code == 0, output
    assert study.outcome() == undisturbed


@pytest.fixture
def whole_study(request, full):
    if not full:
        pytest.skip("make chaos runs it")


@pytest.mark.usefixtures("whole_study")
def test_a_journal_on_a_full_disk(subject, undisturbed, disk, tmp_path):
    """Checkpoints go elsewhere: what does not find room is a line of the journal."""
    study = subject(disk.path, "--storage", tmp_path / "storage")
    command = study.start()
    wait_for(lambda: len(study.epochs()) >= 3, 300)
    disk.fill()
    assert re.search(r"the disk of \S+/subject is full \(0.\d MB free\)", stopped(command))
    disk.make_room()
    code, output = study.start().end(600)
    assert code == 0, output
    assert study.outcome() == undisturbed


@pytest.mark.usefixtures("whole_study")
def test_an_export_to_a_full_disk(subject, undisturbed, disk):
    """There is room for what a start writes, not for the ONNX file."""
    study = subject(disk.path)
    command = study.start()
    wait_for(study.is_done, 300)
    command.process.kill()
    command.process.wait()
    disk.fill(left=300_000)
    assert "No space left on device" in stopped(study.start())
    assert not list(disk.path.rglob("*.partial"))
    disk.make_room()
    code, output = study.start().end(600)
    assert code == 0, output
    assert study.outcome() == undisturbed
