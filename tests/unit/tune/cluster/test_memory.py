"""A study says so before it starts that the memory is full."""

import pytest

from otter_ray.errors import StudyError
from otter_ray.tune.cluster.memory import check_memory


@pytest.fixture
def machine(tmp_path):
    """Writes what the system says; gives the arguments of `check_memory`."""

    def say(available_kb, limit="max", used=0, cached=0):
        (tmp_path / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable:   {available_kb} kB\n")
        for name, text in {"max": limit, "current": used, "stat": f"anon 5\ninactive_file {cached}"}.items():
            (tmp_path / f"memory.{name}").write_text(f"{text}\n")
        return tmp_path / "meminfo", tmp_path

    return say


def test_a_machine_with_200_mib_free_is_told(machine):
    with pytest.raises(StudyError, match="memory: 200 MiB are free, and a study needs 1024 MiB to start"):
        check_memory(*machine(200 * 1024))


def test_a_containers_limit_counts(machine):
    gib = 2**30
    with pytest.raises(StudyError, match="memory: 512 MiB are free"):
        check_memory(*machine(8 * 2**20, limit=2 * gib, used=3 * gib // 2))
    check_memory(*machine(8 * 2**20, limit=2 * gib, used=3 * gib // 2, cached=gib))  # files can be let go


def test_enough_is_enough_and_no_word_is_enough(machine, tmp_path):
    check_memory(*machine(2 * 2**20))
    check_memory(tmp_path / "absent", tmp_path / "absent")
