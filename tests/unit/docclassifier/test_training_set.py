import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.augment.cpu import AUGMENTATIONS
from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.projects.docclassifier.data.variants import variant, variant_name
from otter_ray.train.builders import build_datasets
from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import draw_document
from otter_ray.vision.images import load_images
from otter_ray.vision.near_duplicates import normalized

SIZE = (32, 32)
OPTIONS = "dataset.train_options.options"


def synth(**options):
    return SynthDataset(SIZE, **{"drawn": 30, "length_of_dataset": 90} | options)


def captured(**options):
    return CaptureDataset(SIZE, **{"drawn": 30, "held_out": 6, "captures": 4} | options)


@pytest.fixture
def extra(tmp_path, write_image):
    """Two trees of images beside the documents: ImageNet's of seven, indoor scenes' of three."""
    rng = np.random.default_rng(0)
    for tree, count in (("imagenet", 7), ("indoor", 3)):
        for index in range(count):
            coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
            write_image(tmp_path / tree / f"n{index % 2}" / f"{index}.png", resize(coarse, (48, 48)))
    return {"imagenet_root": str(tmp_path / "imagenet"), "indoor_root": str(tmp_path / "indoor")}


def same(one, other):
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("aug_func", AUGMENTATIONS)
def test_arrays_instead_of_tensors(aug_func):
    image, _ = synth(return_tensor=False, aug_func=aug_func)[0]
    tensor, _ = synth(aug_func=aug_func)[0]
    assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(np.round(tensor.numpy() * 255).transpose(1, 2, 0), image)


@pytest.mark.parametrize("aug_func", AUGMENTATIONS)
def test_an_item_depends_on_seed_epoch_and_index_alone(aug_func):
    one, other = synth(aug_func=aug_func), synth(aug_func=aug_func)
    backwards = {index: other[index] for index in reversed(range(40))}
    for index in range(40):
        torch.testing.assert_close(one[index], backwards[index], rtol=0, atol=0)
    one.set_epoch(1)
    changed = sum(bool((one[index][0] != backwards[index][0]).any()) for index in range(40))
    assert changed > 30
    one.set_epoch(0)
    torch.testing.assert_close(one[7], backwards[7], rtol=0, atol=0)
    assert (synth(aug_func=aug_func, seed=1)[7][0] != backwards[7][0]).any()


def test_running_workers_give_the_items_of_the_epoch_that_is_set():
    data = synth()
    loader = DataLoader(data, batch_size=30, num_workers=2, persistent_workers=True)
    for epoch in range(2):
        data.set_epoch(epoch)
        images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        alone = synth()
        alone.set_epoch(epoch)
        torch.testing.assert_close(images, torch.stack([alone[i][0] for i in range(90)]), rtol=0, atol=0)
        assert labels.tolist() == [alone[i][1] for i in range(90)]


def test_labels_go_round_all_classes_in_a_new_order_each_time():
    data = synth()
    rounds = [[data.label(index) for index in range(start, start + 30)] for start in (0, 30, 60)]
    data.set_epoch(1)
    rounds.append([data.label(index) for index in range(30)])
    assert all(sorted(turn) == list(range(30)) for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) == 4


def test_items_of_both_resizings_are_of_either(folder):
    options = {"drawn": 0, "root": str(folder), "aug_ratio": 0.0, "return_tensor": False}
    both = synth(**options, resizing="both", length_of_dataset=200)
    area, bilinear = (synth(**options, resizing=way) for way in ("area", "bilinear"))
    assert both.class_names == area.class_names == bilinear.class_names
    found = []
    for image, label in map(both.__getitem__, range(200)):
        ways = [np.array_equal(image, data.clean(label)) for data in (area, bilinear)]
        assert sum(ways) == 1
        found.append(ways[1])
    assert 0.3 < np.mean(found) < 0.7
    np.testing.assert_array_equal(both.clean(0), area.clean(0))


def test_resizings_that_cannot_be():
    with pytest.raises(
        DataError, match=f"{OPTIONS}.resizing is 'cubic' but must be one of area, bilinear, b"
    ):
        synth(resizing="cubic")
    with pytest.raises(DataError, match=f"{OPTIONS}.resizing is both, but {OPTIONS}.aug_on is device"):
        synth(resizing="both", aug_on="device")


def test_aug_ratio_is_the_share_of_augmented_items():
    untouched = {}
    for ratio in (0.0, 0.5, 1.0):
        data = synth(aug_ratio=ratio, length_of_dataset=200, return_tensor=False)
        untouched[ratio] = np.mean(
            [np.array_equal(image, data.clean(label)) for image, label in map(data.__getitem__, range(200))]
        )
    assert untouched[0.0] == 1
    assert 0.4 < untouched[0.5] < 0.7
    assert untouched[1.0] < 0.15  # each of four steps has a chance of one half


def test_augmented_documents_stay_recognisable():
    data = SynthDataset((64, 64), drawn=30, length_of_dataset=150, return_tensor=False)
    clean = np.stack([data.clean(label).reshape(-1) for label in range(30)]).astype(np.float32)
    clean = clean - clean.mean(axis=1, keepdims=True)
    hits = 0
    for index in range(len(data)):
        image, label = data[index]
        flat = image.reshape(-1) - image.mean()
        hits += int((clean @ flat / np.linalg.norm(clean, axis=1)).argmax() == label)
    assert hits > 0.7 * len(data)


# what it holds


def test_held_out_documents_and_their_near_duplicates_are_not_trained_on(tmp_path, write_image):
    for index in range(20):
        write_image(tmp_path / "pool" / f"{index:02d}.png", draw_document(index))
    valid = CaptureDataset(SIZE, root=str(tmp_path / "pool"), held_out=5, captures=2)
    rng = np.random.default_rng(0)
    for name in valid.class_names:  # plant a noisy, darker copy of each under a name of its own
        copy = 0.8 * draw_document(int(name.removesuffix(".png")))
        copy += rng.normal(0, 4, copy.shape)
        write_image(tmp_path / "pool" / f"copy_of_{name}", np.clip(copy, 0, 255).astype(np.uint8))
    train = SynthDataset(SIZE, root=str(tmp_path / "pool"), valid_dataset=valid)
    assert len(SynthDataset(SIZE, root=str(tmp_path / "pool")).class_names) == 25
    assert not set(train.class_names) & {f"copy_of_{name}" for name in valid.class_names}
    assert not set(train.class_names) & set(valid.class_names)
    assert train.num_classes == len(train.class_names) >= 8


@pytest.mark.parametrize("seed", [0, 1])
def test_drawn_training_and_validation_documents_are_apart(seed):
    valid = captured(drawn=120, held_out=24, captures=2, seed=seed)
    train = synth(drawn=120, valid_dataset=valid, seed=seed)
    assert not set(train.class_names) & set(valid.class_names)
    assert train.num_classes >= 60
    alike = normalized(valid.thumbnails) @ normalized(valid.thumbnails).T - np.eye(24)
    assert alike.max() <= 0.8


def test_nothing_left_to_train_on():
    with pytest.raises(DataError, match=r"only 0 of 2 documents are left for training.*lower held_out"):
        synth(drawn=2, valid_dataset=captured(drawn=2, held_out=2))


# ImageNet, indoor scenes, variants, the clean image


def test_documents_come_first_then_imagenet_then_indoor_scenes(extra):
    data = synth(**extra, use_imagenet=True, aug_ratio=0)
    assert data.num_classes == 30 + 7 + 3
    trees = {name: load_images(extra[f"{name}_root"], SIZE, "") for name in ("imagenet", "indoor")}
    assert data.class_names == synth().class_names + trees["imagenet"].names + trees["indoor"].names
    np.testing.assert_array_equal(data.clean(29), synth().clean(29))
    for first, name in ((30, "imagenet"), (37, "indoor")):
        for row, image in enumerate(trees[name].images):
            np.testing.assert_array_equal(data.clean(first + row), image)
    assert {data[index][1] for index in range(40)} == set(range(40))


def test_a_root_says_where_and_a_switch_says_whether(extra):
    assert synth(**extra).num_classes == 33
    assert synth(imagenet_root="absent").num_classes == 30
    assert synth(imagenet_root=extra["imagenet_root"], use_imagenet=True).num_classes == 37


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_imagenet": True}, rf"use_imagenet is true, but {OPTIONS}\.imagenet_root is not set\. Set it"),
        ({"use_imagenet": True, "imagenet_root": "no"}, rf"{OPTIONS}\.imagenet_root is 'no' but there is no"),
        ({"indoor_root": "no"}, rf"{OPTIONS}\.indoor_root is 'no' but there is no such folder\. Set"),
        ({"indoor_root": "empty"}, rf"{OPTIONS}\.indoor_root is 'empty' but that folder holds no images"),
    ],
)
def test_unusable_roots_are_named_with_the_key_to_set(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        synth(**options)


def test_a_validation_document_is_kept_out_of_the_extra_images_too(extra, tmp_path, write_image):
    valid = captured()
    number = int(valid.class_names[0].removeprefix("document_"))
    write_image(tmp_path / "imagenet" / "n0" / "leak.png", draw_document(number))
    names = synth(**extra, use_imagenet=True, valid_dataset=valid).class_names
    assert "n0/leak.png" not in names
    assert "n0/0.png" in names


def test_imagenet_has_a_set_of_its_own(extra):
    own = {name: synth(aug_func=name, **extra)[1][0] for name in AUGMENTATIONS}
    assert same([synth(**extra)[1][0]], [own["DefaultImageAug"]])
    options = {**extra, "use_imagenet": True}
    data = synth(**options)
    assert all(same(data[i], synth(**options, aug_func="ImageNetAug")[i]) for i in range(20))
    assert not all(same(data[i], synth(**options, aug_func="DefaultImageAug")[i]) for i in range(20))


def test_each_image_stands_for_24_classes():
    plain, data = synth(), synth(variants=True, length_of_dataset=30 * 24)
    assert data.num_classes == 30 * 24 == len(set(data.class_names))
    assert sorted(data.label(index) for index in range(30 * 24)) == list(range(30 * 24))
    for label in (0, 5, 24, 24 * 7 + 13, 30 * 24 - 1):
        number, which = divmod(label, 24)
        assert data.class_names[label] == f"{plain.class_names[number]}#{variant_name(which)}"
        np.testing.assert_array_equal(data.clean(label), variant(plain.clean(number), which))


def test_near_duplicates_go_with_all_their_variants():
    assert synth(variants=True, valid_dataset=captured()).num_classes == (
        24 * synth(valid_dataset=captured()).num_classes
    )


@pytest.mark.parametrize("variants", [False, True])
def test_the_teacher_is_shown_the_clean_image(variants):
    data, plain = synth(use_clip=True, variants=variants), synth(variants=variants)
    for index in range(20):
        image, label, clean = data[index]
        assert same((image, label), plain[index])
        assert (clean.shape, clean.dtype) == ((3, *SIZE), torch.float32)
        expected = data.clean(label).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(clean.numpy(), expected, atol=1e-6)
    assert any(not torch.equal(data[index][0], data[index][2]) for index in range(20))
    images, labels, cleans = default_collate([data[index] for index in range(4)])
    assert images.shape == cleans.shape == (4, 3, *SIZE)
    assert labels.shape == (4,)


def test_the_clean_image_as_an_array():
    data = synth(use_clip=True, return_tensor=False)
    _, label, clean = data[3]
    assert (clean.shape, clean.dtype) == ((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(clean, data.clean(label))


def test_the_switches_of_common_reach_the_training_set(tiny_config, extra):
    key = f"{OPTIONS}.imagenet_root"
    roots = {key: extra["imagenet_root"]}
    counts = [
        build_datasets(tiny_config.with_values({**roots, "common.use_imagenet": switch}))[0].num_classes
        for switch in (False, True)
    ]
    assert counts[1] == counts[0] + 7
    assert len(build_datasets(tiny_config.with_values({"common.use_clip": True}))[0][0]) == 3
