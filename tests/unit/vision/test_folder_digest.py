import os
import shutil

import numpy as np
import pytest

from otter_ray.projects.docclassifier.data import training_set as synth
from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.vision import folder_digest as listing
from otter_ray.vision.folder_digest import list_images
from otter_ray.vision.images import load_images

KEY = "dataset.train_options.options.root"


@pytest.fixture
def walks(monkeypatch):
    """How often a folder was looked through, by processes that call three files many."""
    seen, scan = [], listing._scan
    monkeypatch.setattr(listing, "LARGE", 3)
    monkeypatch.setattr(listing, "_scan", lambda *given: seen.append(1) or scan(*given))
    return seen


def add(folder):
    shutil.copy(folder / "class_0/00.png", folder / "class_0/99.png")


def add_a_folder(folder):
    shutil.copytree(folder / "class_0", folder / "class_9")


def remove(folder):
    (folder / "class_2/02.png").unlink()


def rename(folder):
    (folder / "class_2/02.png").rename(folder / "class_2/98.png")


def replace(folder):
    shutil.copy(folder / "class_0/00.png", folder / "class_2/other.partial")
    (folder / "class_2/other.partial").rename(folder / "class_2/02.png")


def remove_a_folder(folder):
    shutil.rmtree(folder / "class_2")


def test_a_large_folder_is_looked_through_once_a_process(folder, walks):
    first = load_images(folder, (16, 16), KEY)
    again = load_images(folder, (16, 16), KEY)
    assert len(walks) == 1
    assert again.path == first.path
    np.testing.assert_array_equal(again.images, first.images)


@pytest.mark.parametrize("change", [add, add_a_folder, remove, rename, replace, remove_a_folder])
def test_a_change_to_a_large_folder_is_seen(folder, walks, change):
    before = load_images(folder, (16, 16), KEY)
    change(folder)
    after = load_images(folder, (16, 16), KEY)
    assert after.path != before.path
    assert after.names == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_a_linked_folder_is_part_of_it(folder, walks, tmp_path):
    shutil.copytree(folder / "class_0", tmp_path / "elsewhere")
    (folder / "class_8").symlink_to(tmp_path / "elsewhere")
    before = load_images(folder, (16, 16), KEY)
    (tmp_path / "elsewhere/00.png").unlink()
    assert len(load_images(folder, (16, 16), KEY)) == len(before) - 1


@pytest.mark.timeout(60)
def test_a_folder_is_entered_once_however_many_links_lead_to_it(folder):
    names = list_images(folder).names
    for link in ("class_0/a", "class_0/b"):
        (folder / link).symlink_to("..")
    (folder / "all").symlink_to(".")
    (folder / "another").symlink_to("class_1")
    (folder / "circle").symlink_to("circle")
    assert list_images(folder).names == names


def test_of_two_links_to_a_folder_the_first_name_counts(folder, tmp_path):
    shutil.move(folder / "class_0", tmp_path / "elsewhere")
    for name in ("z", "b", "k"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    assert next(name for name in list_images(folder).names if "class" not in name).startswith("b/")
    assert len(list_images(folder).names) == 12


def test_a_table_that_is_gone_is_built_from_a_new_look(folder, walks):
    path = load_images(folder, (16, 16), KEY).path
    path.unlink()
    assert load_images(folder, (16, 16), KEY).path == path
    assert len(walks) == 2
    assert len(load_images(folder, (16, 24), KEY)) == 12  # another size of a folder that is known


def test_the_digest_depends_on_names_sizes_and_times(folder):
    target = folder / "class_0/00.png"
    digests = [list_images(folder).digest]
    os.utime(target, ns=(0, 5))
    digests.append(list_images(folder).digest)
    target.write_bytes(b"other")
    os.utime(target, ns=(0, 5))
    digests.append(list_images(folder).digest)
    target.rename(target.with_name("01.png"))
    digests.append(list_images(folder).digest)
    assert len(set(digests)) == 4
    assert list_images(folder).digest == digests[-1]


def test_the_listing_of_a_folder_tells_its_progress(folder, capsys, monkeypatch):
    list_images(folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(listing, "PATIENCE", 0)
    list_images(folder)
    assert f"listing {folder}: 12 files" in capsys.readouterr().err


def test_near_duplicates_are_looked_for_once_for_the_same_data(folder):
    valid, other = (CaptureDataset((16, 16), root=str(folder), held_out=3, seed=seed) for seed in (0, 1))
    synth._alike.cache_clear()
    names = [SynthDataset((16, 16), root=str(folder), valid_dataset=valid).class_names for _ in range(2)]
    assert (synth._alike.cache_info().misses, synth._alike.cache_info().hits) == (1, 1)
    assert names[0] == names[1]
    assert not set(names[0]) & set(valid.class_names)
    differently = SynthDataset((16, 16), root=str(folder), valid_dataset=other).class_names
    assert not set(differently) & set(other.class_names)
    assert differently != names[0]
