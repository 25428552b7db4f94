import pickle
from collections import Counter

import cv2
import numpy as np
import pytest
import torch

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.evaluation_sets import CaptureDataset, RealDataset
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.projects.docclassifier.visuals.sheets import augmentation_sheet, capture_sheet
from otter_ray.vision.camera import resize
from otter_ray.vision.drawing import draw_document
from otter_ray.vision.near_duplicates import normalized

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
    assert len(data) < 150_000
    first = dataset.clean(0) if isinstance(dataset, SynthDataset) else dataset.images[0]
    assert first.tobytes() not in data
    torch.testing.assert_close(pickle.loads(data)[3], dataset[3], rtol=0, atol=0)


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
        (synth, {"aug_func": "CaptureAgu"}, "aug_func is 'CaptureAgu'.*Did you mean 'CaptureAug'"),
        (synth, {"drawn": 0, "root": "absent"}, "train_options.options.root is 'absent'"),
        (captured, {"drawn": 0, "root": "absent"}, "valid_options.options.root is 'absent'"),
        (captured, {"held_out": 1}, "valid_options.options.held_out is 1"),
        (captured, {"captures": 1}, "valid_options.options.captures is 1"),
        (captured, {"strength": -1.0}, "valid_options.options.strength is -1"),
        (
            captured,
            {"held_out": 31},
            r"held_out is 31, but only 29 of the 30 images.*Set dataset\.valid_options\.options\.held_out to",
        ),
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
    assert (normalized(valid.thumbnails) @ normalized(valid.thumbnails).T - np.eye(24)).max() <= 0.8
    assert not set(train.class_names) & set(valid.class_names)
    assert 400 < train.num_classes <= 476


# A test split


def test_a_test_split_holds_other_documents_and_none_of_three_is_trained_on():
    valid = captured()
    # The same documents in the same order are asked for.
    test = captured(valid_dataset=valid, held_out=5)
    assert test.num_classes == 5
    assert (normalized(test.thumbnails) @ normalized(valid.thumbnails).T).max() <= 0.8
    both = synth(valid_dataset=valid, test_dataset=test)
    assert not set(both.class_names) & {*valid.class_names, *test.class_names}
    assert both.num_classes < synth(valid_dataset=valid).num_classes


def test_errors_of_a_test_split_name_its_keys(folder):
    valid = captured()
    with pytest.raises(DataError, match=r"dataset\.test_options\.options\.captures is 1"):
        captured(valid_dataset=valid, captures=1)
    says = r"of these or of validation documents\. Set dataset\.test_options\.options\.held_out to"
    with pytest.raises(DataError, match=says):
        captured(valid_dataset=valid, held_out=25)
    real = RealDataset(SIZE, root=str(folder))
    with pytest.raises(
        DataError,
        match=r"test_options\.options\.root: these folders .*: class_0, class_1, class_2, class_3\. Remove",
    ):
        RealDataset(SIZE, root=str(folder), valid_dataset=real)
    assert RealDataset(SIZE, root=str(folder), valid_dataset=captured(drawn_seed=4)).num_classes == 4


def test_few_documents_are_told():
    with pytest.warns(
        UserWarning, match=r"With only 6 documents, the 95 % interval of valid_fpr@4 is not reliable"
    ):
        captured()


# RealDataset


def test_photographs_as_a_program_sees_them_that_resizes_bilinearly(folder):
    data = RealDataset(SIZE, root=str(folder), resizing="bilinear", return_tensor=False)
    files = sorted(folder.glob("*/*.png"))
    photos = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    np.testing.assert_array_equal(data.images, [cv2.resize(photo, SIZE) for photo in photos])
    with pytest.raises(
        DataError, match=r"valid_options.options.resizing is 'both' but must be one of area, b"
    ):
        RealDataset(SIZE, root=str(folder), resizing="both")


def test_labels_are_the_sorted_folders(folder):
    data = RealDataset(SIZE, root=str(folder))
    assert data.class_names == ["class_0", "class_1", "class_2", "class_3"]
    assert [data[index][1] for index in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert data.thumbnails.shape == (12, 256)


def test_real_photographs_need_two_folders(tmp_path, folder, write_image):
    one = folder / "class_0"
    for root, found in [(one, "found: none, and images outside of them"), (tmp_path / "only", "found: 'a'")]:
        write_image(tmp_path / "only" / "a" / "1.png", draw_document(0))
        with pytest.raises(DataError, match=f"valid_options.options.root.*at least two subfolders.*{found}"):
            RealDataset(SIZE, root=str(root))
    with pytest.raises(DataError, match=r"valid_options\.options\.root is not set"):
        RealDataset(SIZE)


def test_training_leaves_out_what_real_photographs_show(folder):
    valid = RealDataset(SIZE, root=str(folder))
    with pytest.raises(DataError, match="only 0 of 12 documents are left for training"):
        synth(drawn=0, root=str(folder), valid_dataset=valid)


# sheets


def test_sheets_are_pictures(tmp_path):
    from PIL import Image

    augmentation_sheet(synth(), tmp_path / "new" / "a.png", documents=3, samples=4)
    capture_sheet(captured(), tmp_path / "c.png")
    assert Image.open(tmp_path / "new" / "a.png").size == (5 * 36 + 4, 3 * 36 + 4)
    assert Image.open(tmp_path / "c.png").size == (4 * 36 + 4, 6 * 36 + 4)
