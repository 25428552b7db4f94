import hashlib
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from otter_ray.docclassifier.captures import resize
from otter_ray.docclassifier.datasets import CaptureDataset, RealDataset, SynthDataset
from otter_ray.docclassifier.drawing import draw_document
from otter_ray.docclassifier.sheets import augmentation_sheet, capture_sheet
from otter_ray.errors import DataError

SIZE = (32, 32)


def synth(**options):
    return SynthDataset(SIZE, **{"drawn": 30, "length_of_dataset": 90} | options)


def captured(**options):
    return CaptureDataset(SIZE, **{"drawn": 30, "held_out": 6, "captures": 4} | options)


@pytest.fixture(params=["synth", "capture", "real"])
def dataset(request, folder):
    makers = {"synth": synth, "capture": captured, "real": lambda: RealDataset(SIZE, root=str(folder))}
    return makers[request.param]()


def test_items_are_tensors_and_labels(dataset):
    image, label = dataset[1]
    assert (image.shape, image.dtype) == ((3, *SIZE), torch.float32)
    assert 0 <= image.min() < image.max() <= 1
    assert image.max() > 0.2
    assert isinstance(label, int)
    labels = [dataset[index][1] for index in range(len(dataset))]
    assert set(labels) == set(range(dataset.num_classes)) == set(range(len(dataset.class_names)))
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_a_pickled_dataset_is_small_and_equal(dataset):
    data = pickle.dumps(dataset)
    assert len(data) < 80_000
    assert dataset.images[0].tobytes() not in data
    torch.testing.assert_close(pickle.loads(data)[3], dataset[3], rtol=0, atol=0)


@pytest.mark.parametrize("augmentation", ["default", "capture"])
def test_arrays_instead_of_tensors(augmentation):
    image, _ = synth(return_tensor=False, augmentation=augmentation)[0]
    tensor, _ = synth(augmentation=augmentation)[0]
    assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(np.round(tensor.numpy() * 255).transpose(1, 2, 0), image)


# SynthDataset: items


@pytest.mark.parametrize("augmentation", ["default", "capture"])
def test_an_item_depends_on_seed_epoch_and_index_alone(augmentation):
    one, other = synth(augmentation=augmentation), synth(augmentation=augmentation)
    backwards = {index: other[index] for index in reversed(range(40))}
    for index in range(40):
        torch.testing.assert_close(one[index], backwards[index], rtol=0, atol=0)
    one.set_epoch(1)
    changed = sum(bool((one[index][0] != backwards[index][0]).any()) for index in range(40))
    assert changed > 30
    one.set_epoch(0)
    torch.testing.assert_close(one[7], backwards[7], rtol=0, atol=0)
    assert (synth(augmentation=augmentation, seed=1)[7][0] != backwards[7][0]).any()


def test_items_are_the_same_in_a_fresh_process(fresh_process):
    data = synth()
    data.set_epoch(2)
    items = b"".join(data[index][0].numpy().tobytes() for index in range(60))
    assert hashlib.sha256(items).hexdigest() == fresh_process["items"]
    assert hashlib.sha256(captured().images.tobytes()).hexdigest() == fresh_process["captures"]


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


def test_aug_ratio_is_the_share_of_augmented_items():
    clean = synth().images
    untouched = {}
    for ratio in (0.0, 0.5, 1.0):
        data = synth(aug_ratio=ratio, length_of_dataset=200, return_tensor=False)
        untouched[ratio] = np.mean(
            [np.array_equal(image, clean[label]) for image, label in map(data.__getitem__, range(200))]
        )
    assert untouched[0.0] == 1
    assert 0.4 < untouched[0.5] < 0.7
    assert untouched[1.0] < 0.15  # each of four steps has a chance of one half


def test_augmented_documents_stay_recognisable():
    data = SynthDataset((64, 64), drawn=30, length_of_dataset=150, return_tensor=False)
    clean = data.images.reshape(30, -1).astype(np.float32)
    clean = clean - clean.mean(axis=1, keepdims=True)
    hits = 0
    for index in range(len(data)):
        image, label = data[index]
        flat = image.reshape(-1) - image.mean()
        hits += int((clean @ flat / np.linalg.norm(clean, axis=1)).argmax() == label)
    assert hits > 0.7 * len(data)


# SynthDataset: what it holds


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
    assert train.num_classes == len(train.images) == len(train.class_names) >= 8


@pytest.mark.parametrize("seed", [0, 1])
def test_drawn_training_and_validation_documents_are_apart(seed):
    valid = captured(drawn=120, held_out=24, captures=2, seed=seed)
    train = synth(drawn=120, valid_dataset=valid, seed=seed)
    assert not set(train.class_names) & set(valid.class_names)
    assert train.num_classes >= 60
    alike = valid.thumbnails @ valid.thumbnails.T - np.eye(24)
    assert alike.max() <= 0.8


def test_nothing_left_to_train_on():
    with pytest.raises(DataError, match=r"of 2 documents 0 are left.*lower held_out"):
        synth(drawn=2, valid_dataset=captured(drawn=2, held_out=2))


@pytest.mark.parametrize("maker", [synth, captured])
@pytest.mark.parametrize("source", [{"drawn": 0}, {"drawn": 5, "root": "somewhere"}])
def test_exactly_one_source_must_be_given(maker, source):
    part = "train" if maker is synth else "valid"
    with pytest.raises(DataError, match=rf"exactly one of dataset\.{part}_options\.options\.root"):
        maker(**source)


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        (synth, {"aug_ratio": 1.5}, "train_options.options.aug_ratio is 1.5"),
        (synth, {"length_of_dataset": 0}, "train_options.options.length_of_dataset is 0"),
        (synth, {"augmentation": "captures"}, "augmentation is 'captures'.*Did you mean 'capture'"),
        (synth, {"drawn": 0, "root": "absent"}, "train_options.options.root is 'absent'"),
        (captured, {"drawn": 0, "root": "absent"}, "valid_options.options.root is 'absent'"),
        (captured, {"held_out": 1}, "valid_options.options.held_out is 1"),
        (captured, {"captures": 1}, "valid_options.options.captures is 1"),
        (captured, {"strength": -1.0}, "valid_options.options.strength is -1"),
        (captured, {"held_out": 31}, "31 distinct documents.*Lower held_out"),
    ],
)
def test_errors_name_the_key(maker, options, message):
    with pytest.raises(DataError, match=message):
        maker(**options)


# CaptureDataset


def test_each_held_out_document_is_photographed_equally_often():
    data = captured()
    assert Counter(data[index][1] for index in range(len(data))) == dict.fromkeys(range(6), 4)
    assert data.thumbnails.shape == (6, 256)
    assert len({image.tobytes() for image in data.images}) == 24


def test_photographs_show_the_document_of_their_label():
    data = captured(strength=0.0)
    for label, name in enumerate(data.class_names):
        clean = resize(draw_document(int(name.removeprefix("document_"))), SIZE).astype(int)
        assert np.abs(data.images[4 * label] - clean).mean() < 3


def test_captures_are_built_once_and_depend_on_options(cache):
    one = captured()
    files = set(cache.glob("*.arrow"))
    np.testing.assert_array_equal(captured().images, one.images)
    assert set(cache.glob("*.arrow")) == files
    for option in ({"seed": 1}, {"strength": 0.5}):
        assert not np.array_equal(captured(**option).images, one.images)
    np.testing.assert_array_equal(captured(captures=5).images[0:4], one.images[0:4])


def test_real_documents_are_split_without_near_duplicates(real_images):
    valid = CaptureDataset(SIZE, root=str(real_images), captures=2)
    train = SynthDataset(SIZE, root=str(real_images), valid_dataset=valid, return_tensor=False)
    assert (valid.thumbnails @ valid.thumbnails.T - np.eye(24)).max() <= 0.8
    assert not set(train.class_names) & set(valid.class_names)
    assert 400 < train.num_classes <= 476


# RealDataset


def test_labels_are_the_sorted_folders(folder):
    data = RealDataset(SIZE, root=str(folder))
    assert data.class_names == ["class_0", "class_1", "class_2", "class_3"]
    assert [data[index][1] for index in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert data.thumbnails.shape == (12, 256)


def test_real_photographs_need_two_folders(tmp_path, folder, write_image):
    one = folder / "class_0"
    for root, found in [(one, "found none and images in no folder"), (tmp_path / "only", "found 'a'")]:
        write_image(tmp_path / "only" / "a" / "1.png", draw_document(0))
        with pytest.raises(DataError, match=f"valid_options.options.root.*two or more folders.*{found}"):
            RealDataset(SIZE, root=str(root))
    with pytest.raises(DataError, match=r"valid_options\.options\.root is not set"):
        RealDataset(SIZE)


def test_training_leaves_out_what_real_photographs_show(folder):
    valid = RealDataset(SIZE, root=str(folder))
    with pytest.raises(DataError, match="of 12 documents 0 are left"):
        synth(drawn=0, root=str(folder), valid_dataset=valid)


# sheets


def test_sheets_are_pictures(tmp_path):
    from PIL import Image

    augmentation_sheet(synth(), tmp_path / "new" / "a.png", documents=3, samples=4)
    capture_sheet(captured(), tmp_path / "c.png")
    assert Image.open(tmp_path / "new" / "a.png").size == (5 * 36 + 4, 3 * 36 + 4)
    assert Image.open(tmp_path / "c.png").size == (4 * 36 + 4, 6 * 36 + 4)
