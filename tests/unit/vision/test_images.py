import io
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from otter_ray.cpus import available_cpus
from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset, RealDataset
from otter_ray.vision.image_cache import Row, cache_key, cached_table
from otter_ray.vision.images import drawn_images, in_order, load_images

KEY = "dataset.train_options.options.root"


def solid(colour, size=(40, 30)):
    return Image.new("RGB", size, colour)


def one_image():
    return [Row("a", "b", np.full((4, 4, 3), 7, np.uint8))]


def never():
    raise AssertionError("built again")


def test_names_labels_and_pixels(folder):
    table = load_images(folder, (30, 45), KEY)
    assert table.images.shape == (12, 30, 45, 3)
    assert table.names == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert table.labels == [name.split("/")[0] for name in table.names]
    first = np.asarray(Image.open(folder / table.names[0])).reshape(30, 2, 45, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(table.images[0], first, atol=1)


def test_images_directly_in_the_folder_have_no_label(tmp_path):
    solid("red").save(tmp_path / "a.png")
    assert load_images(tmp_path, (8, 8), KEY).labels == [""]


def test_names_that_are_not_ascii(tmp_path, monkeypatch):
    """Of the images, their folders and the cache's."""
    monkeypatch.setenv("OTTER_RAY_CACHE", str(tmp_path / "緩存 ü"))
    root = tmp_path / "文件 für alle"
    for name in ("發票/圖 1.png", "Verträge/ü.png"):
        (root / name).parent.mkdir(parents=True)
        solid("red").save(root / name)
    table = load_images(root, (8, 8), KEY)
    assert (table.names, table.labels) == (["Verträge/ü.png", "發票/圖 1.png"], ["Verträge", "發票"])
    assert len(list((tmp_path / "緩存 ü").glob("*.arrow"))) == 1


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.BMP", "a.webp", "a.tif", "a.TIFF"])
def test_every_suffix_in_any_case(tmp_path, name):
    solid((200, 40, 90)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.jpg").write_bytes(b"hidden")
    table = load_images(tmp_path, (8, 8), KEY)
    np.testing.assert_allclose(table.images[0, 4, 4], [200, 40, 90], atol=6)
    assert table.skipped == []


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = solid("white")
    if mode == "I;16":
        image = Image.fromarray(np.full((30, 40), 40_000, np.uint16))
    image = image if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif")
    value = load_images(tmp_path, (8, 8), KEY).images[0]
    np.testing.assert_allclose(value, 40_000 / 256 if mode == "I;16" else 255, atol=1)


def test_exif_orientation_is_followed(tmp_path):
    picture = Image.fromarray(
        np.repeat(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8), 40, axis=1).repeat(20, 0)
    )
    exif = picture.getexif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: what was on top is on the right
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = load_images(tmp_path, (20, 20), KEY).images[0].astype(int)
    assert image[10, 16, 0] > 200 > image[10, 3, 0]


def test_corrupt_images_are_left_out_and_named_each_time(folder):
    (folder / "class_0" / "bad.jpg").write_bytes(b"not an image at all")
    whole = folder / "class_1" / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:3000])
    (folder / "class_2" / "link.png").symlink_to("nowhere.png")
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"3 unreadable images left out: class_0/bad.jpg, class_1/cut.jpg, class_2"
        ):
            table = load_images(folder, (16, 16), KEY)
        assert len(table) == 12
        assert table.skipped == ["class_0/bad.jpg", "class_1/cut.jpg", "class_2/link.png"]


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_left_out_with_the_reason(folder):
    os.mkfifo(folder / "class_0" / "pipe.png")
    (folder / "class_0" / "zero.png").symlink_to("/dev/zero")
    with pytest.warns(UserWarning, match=r"2 unreadable images left out: class_0/pipe.png \(not a regular "):
        table = load_images(folder, (16, 16), KEY)
    assert len(table) == 12
    assert table.skipped == [f"class_0/{name}.png (not a regular file)" for name in ("pipe", "zero")]


def test_what_is_too_large_is_left_out_with_the_limit(folder):
    with (folder / "class_0" / "huge.png").open("wb") as file:
        file.truncate(2**29 + 1)  # takes no disk
    # A PNG's size is in its header, whatever follows.
    wide = io.BytesIO()
    solid("red").save(wide, "png")
    header = wide.getvalue()
    chunk = b"IHDR" + struct.pack(">II", 20_000, 8_000) + header[24:29]
    wide = header[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + header[33:]
    (folder / "class_1" / "wide.png").write_bytes(wide)
    with pytest.warns(UserWarning, match="2 unreadable images left out"):
        table = load_images(folder, (16, 16), KEY)
    assert table.skipped == [
        "class_0/huge.png (larger than 512 MiB)",
        "class_1/wide.png (more than 150 million pixels)",
    ]


def test_names_that_are_not_utf8_are_as_good_as_others(folder):
    place = os.fsencode(folder) + b"/caf\xe9"
    os.mkdir(place)
    shutil.copy(folder / "class_0/00.png", place + b"/\xff1.png")
    shutil.copy(folder / "class_0/00.png", place + b"/\xfe1.png")
    with open(place + b"/\xfe2.png", "wb") as rotten:
        rotten.write(b"no image")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 unreadable images left out: caf\\xe9/\\xfe2\.png") as warned:
            table = load_images(folder, (16, 16), KEY)
        str(warned[0].message).encode()
    assert table.names[:2] == ["caf\\xe9/\\xfe1.png", "caf\\xe9/\\xff1.png"]
    assert table.labels[:2] == ["caf\\xe9"] * 2
    assert len(table) == 14
    assert len(RealDataset((16, 16), root=str(folder)).class_names) == 5
    assert len(CaptureDataset((16, 16), root=str(folder), held_out=3)) == 54


def test_unusable_folders_are_named_with_the_key_to_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rotten").mkdir()
    (tmp_path / "rotten" / "a.png").write_bytes(b"")
    for name, rule in [
        ("absent", "no such folder"),
        ("empty", "holds no images"),
        ("rotten", "can be decoded"),
    ]:
        with pytest.raises(DataError, match=rule) as caught:
            load_images(tmp_path / name, (8, 8), KEY)
        assert str(tmp_path / name) in str(caught.value)
        assert KEY in str(caught.value)


def test_a_file_that_cannot_be_read_shifts_no_labels(folder, cache):
    """Rotten bytes are rotten everywhere; what may be readable another time stops the run instead."""
    (folder / "class_1" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"class_1/loop\.png cannot be read.*remove it"):
        load_images(folder, (16, 16), KEY)
    assert not list(cache.glob("*.arrow")) + list(cache.glob("*.tmp"))


def test_labels_are_the_same_when_the_cache_is_lost(folder, cache):
    (folder / "class_0" / "bad.jpg").write_bytes(b"not an image at all")
    with pytest.warns(UserWarning, match="1 unreadable"):
        before = load_images(folder, (16, 16), KEY)
    before.path.unlink()
    with pytest.warns(UserWarning, match="1 unreadable"):
        after = load_images(folder, (16, 16), KEY)
    assert (after.path, after.names, after.skipped) == (before.path, before.names, before.skipped)


def test_a_changed_folder_is_decoded_again(folder):
    before = load_images(folder, (16, 16), KEY)
    assert load_images(folder, (16, 16), KEY).path == before.path
    assert load_images(folder, (16, 24), KEY).path != before.path
    target = folder / before.names[0]
    stat = target.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert load_images(folder, (16, 16), KEY).path != before.path


def test_pixels_are_a_read_only_view_of_the_file(folder):
    table = load_images(folder, (16, 16), KEY)
    for array in (table.images, table.thumbnails):
        assert not array.flags.owndata
        assert not array.flags.writeable
        address = array.__array_interface__["data"][0]
        assert mapped_file(address) == table.path.resolve()


def mapped_file(address):
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= address < high:
            return Path(name)
    return None


def test_pickling_a_table_passes_its_path(folder):
    table = load_images(folder, (64, 64), KEY)
    data = pickle.dumps(table)
    assert len(data) < 1000 < table.images.nbytes
    np.testing.assert_array_equal(pickle.loads(data).images, table.images)


def test_a_truncated_or_foreign_file_is_built_again(cache):
    path = cached_table("key", one_image).path
    assert cached_table("key", never).images[0, 0, 0, 0] == 7
    size = path.stat().st_size
    for damage in (path.read_bytes()[: size // 2], b"", b"x" * size):
        path.unlink()
        path.write_bytes(damage)
        assert cached_table("key", one_image).images[0, 0, 0, 0] == 7
    assert cached_table("key", never).names == ["a"]
    assert not list(cache.glob("*.tmp"))


def test_a_failed_build_leaves_nothing_behind(cache):
    with pytest.raises(AssertionError):
        cached_table("key", never)
    assert not list(cache.glob("*.arrow")) + list(cache.glob("*.tmp"))


def test_a_full_disk_is_reported_and_leaves_nothing_behind(cache):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*set OTTER_RAY_CACHE"):
            cached_table("key", lambda: [Row("a", "b", np.zeros((64, 64, 3), np.uint8))] * 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(cache.glob("*.arrow")) + list(cache.glob("*.tmp"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere RLIMIT_DATA does not count mappings")
def test_a_table_larger_than_memory_can_be_built(tmp_path):
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False)
    count, last, grown = done.stdout.split()
    assert (count, last) == ("400", "399"), done.stderr
    assert int(grown) < 200_000  # of 315 MB; 32 MB of it are mapped at a time


LARGE = """
import resource
import numpy as np
from otter_ray.vision.image_cache import Row, cached_table

def rows():
    for number in range(400):
        yield Row(str(number), "", np.full((512, 512, 3), number % 256, np.uint8))

def kilobytes(key):
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status[key].split()[0])

limit, before = kilobytes("VmData") * 1024 + 128_000_000, kilobytes("VmHWM")
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(200_000_000, np.uint8)
except MemoryError:
    table = cached_table("large", rows)  # 315 MB
    grown = kilobytes("VmHWM") - before
    assert all((image == number % 256).all() for number, image in enumerate(table.images))
    print(len(table), table.names[-1], grown)
"""


def test_results_come_in_order_and_are_not_made_far_ahead():
    made = []
    results = in_order(lambda item: made.append(item) or item, range(10_000), "counting")
    assert [next(results) for _ in range(20)] == list(range(20))
    time.sleep(0.1)
    assert len(made) <= 20 + 8 * available_cpus() + 1
    assert list(results) == list(range(20, 10_000))


def test_progress_is_told_on_stderr_once_it_takes_long(folder, capsys, monkeypatch):
    load_images(folder, (16, 16), KEY)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("otter_ray.vision.images.PATIENCE", 0)
    load_images(folder, (16, 24), KEY)
    assert f"decoding {folder}: 100%" in capsys.readouterr().err


def test_an_unwritable_cache_is_replaced_by_a_temporary_one(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "spare").mkdir()
    monkeypatch.setenv("OTTER_RAY_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spare"))
    with pytest.warns(UserWarning, match="Set OTTER_RAY_CACHE"):
        table = cached_table("key", one_image)
    assert tmp_path / "spare" in table.path.parents


@pytest.fixture
def spare(tmp_path, monkeypatch):
    """Where the cache goes if its own folder cannot be written; it does not exist yet."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OTTER_RAY_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"otter_ray-{os.getuid()}"


def make_writable_to_all(spare):
    spare.mkdir()
    spare.chmod(0o777)


def make_link(spare):
    (spare.parent / "elsewhere").mkdir()
    spare.symlink_to(spare.parent / "elsewhere")


def give_away(spare):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    spare.mkdir()
    os.chown(spare, 12345, 12345)


@pytest.mark.parametrize("make", [make_writable_to_all, make_link, give_away, Path.touch])
def test_a_temporary_cache_that_another_user_can_write_to_is_not_used(spare, make):
    make(spare)
    with pytest.warns(UserWarning, match="Set OTTER_RAY_CACHE"):
        table = cached_table("key", one_image)
    folder = table.path.parent
    assert folder.parent == spare.parent
    assert folder != spare
    assert folder.stat().st_mode & 0o077 == 0


def race(log):
    def build():
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        return [Row(name, name, np.full((8, 8, 3), 9, np.uint8)) for name in "abc"]

    assert (cached_table("shared", build).images == 9).all()


def test_several_processes_build_one_table_once(tmp_path, cache):
    racers = [
        multiprocessing.get_context("fork").Process(target=race, args=(tmp_path / "log",)) for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
    assert cached_table("shared", never).names == ["a", "b", "c"]
    assert not list(cache.glob("*.tmp"))


def test_keys_depend_on_every_part():
    keys = {
        cache_key("drawn", 3, 0),
        cache_key("drawn", 3, 1),
        cache_key("drawn", 30),
        cache_key("folder", 3, 0),
    }
    assert len(keys) == 4


def test_drawn_images_are_cached_by_count_seed_and_size():
    table = drawn_images(5, 0, (32, 32))
    assert (table.images.shape, len(set(table.names))) == ((5, 32, 32, 3), 5)
    assert drawn_images(5, 0, (32, 32)).path == table.path
    others = [drawn_images(6, 0, (32, 32)), drawn_images(5, 1, (32, 32)), drawn_images(5, 0, (32, 48))]
    assert len({table.path, *(other.path for other in others)}) == 4
    np.testing.assert_array_equal(others[0].images[:5], table.images)


def test_real_images(real_images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_images(real_images, (32, 32), KEY)
    assert len(table) == len([path for path in real_images.rglob("*") if path.is_file()])
    assert min(thumbnail.std() for thumbnail in table.thumbnails) > 1
    assert min(image.std() for image in table.images) > 1
