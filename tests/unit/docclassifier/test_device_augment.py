"""Augmentation of whole batches: albumentations' distribution, and a data set's way to it."""

import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from otter_ray.errors import DataError
from otter_ray.projects.docclassifier.data.augment.cpu import AUGMENTATIONS, augmented
from otter_ray.projects.docclassifier.data.augment.device import augment_batch
from otter_ray.projects.docclassifier.data.training_set import SynthDataset
from otter_ray.vision.images import drawn_images

SIZE = (48, 48)
OPTIONS = "dataset.train_options.options"


def steps_of(step):
    if isinstance(step, A.BaseCompose):
        return [found for each in step.transforms for found in steps_of(each)]
    return [step]


STEPS = {
    f"{name}-{type(step).__name__}": step
    for name in ("DefaultImageAug", "CaptureAug")
    for step in steps_of(AUGMENTATIONS[name](SIZE, 1.0, 0))
}


@pytest.fixture(scope="module")
def documents():
    """uint8 [320, h, w, 3]: 32 documents, each ten times."""
    return np.tile(drawn_images(32, 0, SIZE).images, (10, 1, 1, 1))


def batch_of(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def traits(images, clean):
    """What an augmentation does to each image, in numbers: `[N, 10]`."""
    change = images - clean
    roughness, before = ((part[..., 1:] - part[..., :-1]).abs().mean((1, 2, 3)) for part in (images, clean))
    colourful, dull = ((part.amax(1) - part.amin(1)).mean((1, 2)) for part in (images, clean))
    contrast, flat = (part.std((2, 3)).mean(1) for part in (images, clean))
    tint = change.mean((2, 3))
    sizes = torch.stack([change.abs().mean((1, 2, 3)), roughness - before, tint.std(1)], 1)
    either = torch.stack([contrast - flat, colourful - dull], 1)
    return torch.cat([sizes, either, either.abs(), tint], 1)


def distances(ours, theirs):
    """Between the means of two samples `[N, K]`, in standard errors."""
    errors = ((ours.var(0) + theirs.var(0)) / len(ours)).sqrt()
    return ((ours.mean(0) - theirs.mean(0)) / errors.clamp(min=1e-4)).abs()


@pytest.mark.parametrize("name", STEPS)
def test_each_step_does_what_albumentations_does(name, documents):
    only, clean = A.Compose([A.OneOf([STEPS[name]], p=1.0)], p=1.0), batch_of(documents)
    theirs = batch_of(np.stack([augmented(only, image, [7, row]) for row, image in enumerate(documents)]))
    ours = augment_batch(only, clean, [7])
    assert (ours.shape, ours.dtype) == (clean.shape, torch.float32)
    assert 0 <= ours.min() < ours.max() <= 1
    assert distances(traits(ours, clean), traits(theirs, clean)).max() < 4


@pytest.mark.parametrize(
    ("part", "value"), [("brightness", 0.6), ("contrast", 1.3), ("saturation", 0.4), ("hue", 0.2)]
)
def test_one_colour_at_a_time(documents, part, value):
    neutral = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    jitter = A.Compose([A.ColorJitter(**{**neutral, part: (value, value)}, p=1.0)], p=1.0)
    clean = batch_of(documents[:32])
    theirs = batch_of(np.stack([augmented(jitter, image, [0]) for image in documents[:32]]))
    assert (theirs - clean).abs().mean() > 0.015
    assert (augment_batch(jitter, clean, [0]) - theirs).abs().mean() < 0.005


@pytest.mark.parametrize("size", [SIZE, (44, 52)])
@pytest.mark.parametrize("quality", [1, 5, 30, 50, 90])
def test_a_jpeg_is_coded_as_albumentations_does(size, quality):
    """Image by image: with red taken for blue, as OpenCV does that is handed RGB."""
    jpeg = A.Compose([A.ImageCompression(quality_range=(quality, quality), p=1.0)], p=1.0)
    few = np.array(drawn_images(32, 0, size).images)
    theirs = batch_of(np.stack([augmented(jpeg, image, [0]) for image in few]))
    assert (augment_batch(jpeg, batch_of(few), [0]) - theirs).abs().mean() < 0.007


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_whole_set_does_what_albumentations_does(name, documents):
    augmentation, clean = AUGMENTATIONS[name](SIZE, 1.0, 0), batch_of(documents)
    theirs = [augmented(augmentation, image, [3, row]) for row, image in enumerate(documents)]
    ours = augment_batch(augmentation, clean, [3])
    assert distances(traits(ours, clean), traits(batch_of(np.stack(theirs)), clean)).max() < 4


def test_a_batch_depends_on_its_seed_alone(documents):
    augmentation, clean = AUGMENTATIONS["DefaultImageAug"](SIZE, 1.0, 0), batch_of(documents)
    state = torch.get_rng_state()
    first = augment_batch(augmentation, clean, [1, 2])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(augment_batch(augmentation, clean, [1, 2]), first)
    assert not torch.equal(augment_batch(augmentation, clean, [1, 3]), first)
    assert torch.equal(clean, batch_of(documents))


def test_every_image_draws_for_itself():
    same = torch.rand(1, 3, *SIZE).expand(64, 3, *SIZE)
    changed = augment_batch(AUGMENTATIONS["CaptureAug"](SIZE, 1.0, 0), same, [0])
    assert len(changed.flatten(1).unique(dim=0)) == 64


def test_how_often_and_which():
    """0.8 * 0.5 of the images; of these twice as many are inverted as are darkened, by their p."""
    ones = torch.ones(3000, 3, 8, 8)
    darker = A.RGBShift((-99, -99), p=0.5)
    choice = A.Compose([A.OneOf([A.InvertImg(p=1.0), darker], p=0.5)], p=0.8)
    after = augment_batch(choice, ones, [0]).mean((1, 2, 3))
    counts = [int((after == 1).sum()), int((after == 0).sum()), int(((after > 0) & (after < 1)).sum())]
    expected = [0.6 * 3000, 0.4 * 3000 * 2 / 3, 0.4 * 3000 / 3]
    assert counts == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["DefaultImageAug", "CaptureAug"])
def test_a_trainers_precision_changes_nothing(name, documents, monkeypatch):
    augmentation, clean = AUGMENTATIONS[name](SIZE, 1.0, 0), batch_of(documents[:64])
    expected = augment_batch(augmentation, clean, [0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment_batch(augmentation, clean, [0]), expected)
    for dtype in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            assert torch.equal(augment_batch(augmentation, clean, [0]), expected)
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)


def test_a_batch_in_which_nothing_is_zoomed(documents):
    zoom = A.Compose([A.ZoomBlur(max_factor=(1.0, 1.0), step_factor=(0.5, 0.5), p=1.0)], p=1.0)
    clean = batch_of(documents[:4])
    theirs = batch_of(np.stack([augmented(zoom, image, [0]) for image in documents[:4]]))
    torch.testing.assert_close(theirs, clean)
    torch.testing.assert_close(augment_batch(zoom, clean, [0]), clean)


def test_of_a_wide_image_the_middle_is_cropped():
    """No crop fits: albumentations takes what is nearest to the ratios."""
    wide = np.array(drawn_images(8, 0, (32, 96)).images)
    crop = A.Compose([A.RandomResizedCrop(size=(32, 96), scale=(0.8, 1.0), p=1.0)], p=1.0)
    theirs = batch_of(np.stack([augmented(crop, image, [row]) for row, image in enumerate(wide)]))
    # Beyond the crop's edge they repeat its last pixel.
    inner = (..., slice(2, -2))
    ours = augment_batch(crop, batch_of(wide), [0])
    torch.testing.assert_close(ours[inner], theirs[inner], rtol=0, atol=0.01)
    assert (ours - batch_of(wide)).abs().mean() > 0.05


def test_a_step_that_only_the_cpu_knows():
    with pytest.raises(
        DataError,
        match=r"device, but HueSaturationValue is only available on the CPU\. Set it to cpu\.",
    ):
        augment_batch(A.Compose([A.HueSaturationValue(p=1.0)], p=1.0), torch.rand(2, 3, 8, 8), [0])


def synth(**options):
    return SynthDataset(SIZE, **{"drawn": 30, "length_of_dataset": 64, "aug_on": "device"} | options)


@pytest.fixture
def nothing_is_held(monkeypatch):
    """As with more images than a device holds a copy of."""
    monkeypatch.setattr("otter_ray.projects.docclassifier.data.training_set._RESIDENT", 0)


def test_items_are_clean_and_batches_are_augmented(nothing_is_held):
    data = synth_at(3)
    batches = list(DataLoader(data, batch_size=32, num_workers=1))
    for number, (images, labels) in enumerate(batches):
        assert (images.shape, images.dtype) == ((32, 3, *SIZE), torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), data.clean(label))
        seen, same = data.augment_batch([images, labels], number)
        assert (seen.shape, seen.dtype) == (images.shape, torch.float32)
        assert torch.equal(same, labels)
        assert ((seen - images / 255).abs().amax((1, 2, 3)) > 0.1).float().mean() > 0.5
    first = data.augment_batch(batches[0], 0)[0]
    assert torch.equal(synth_at(3).augment_batch(batches[0], 0)[0], first)
    for other in (synth_at(4).augment_batch(batches[0], 0), data.augment_batch(batches[0], 1)):
        assert not torch.equal(other[0], first)


def synth_at(epoch, **options):
    data = synth(**options)
    data.set_epoch(epoch)
    return data


@pytest.mark.parametrize("variants", [False, True])
def test_images_that_the_device_holds_are_no_part_of_items(monkeypatch, variants):
    data = synth_at(2, variants=variants)
    held = list(DataLoader(data, batch_size=32, num_workers=1))
    monkeypatch.setattr("otter_ray.projects.docclassifier.data.training_set._RESIDENT", 0)
    data = synth_at(2, variants=variants)
    for number, ([labels], batch) in enumerate(zip(held, DataLoader(data, batch_size=32), strict=True)):
        assert torch.equal(labels, batch[1])
        expected = data.augment_batch(batch, number)
        for ours, theirs in zip(data.augment_batch([labels], number), expected, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
def test_a_gpu_holds_the_images_of_all_classes():
    data = synth(aug_ratio=0.0, variants=True)
    labels = torch.tensor([5, 0, 29, 5, 24 * 30 - 1])
    seen, same = data.augment_batch([labels.cuda()], 0)
    assert torch.equal(same.cpu(), labels)
    torch.testing.assert_close(seen.cpu(), data.augment_batch([labels], 0)[0])
    held = data._held
    data.augment_batch([labels.cuda()], 1)
    assert data._held is held
    assert pickle.loads(pickle.dumps(data))._held is None


def test_the_share_that_is_augmented():
    data = synth(aug_ratio=0.25, aug_func="CaptureAug")
    images = torch.randint(0, 256, (2000, 3, 8, 8), dtype=torch.uint8)
    seen, _ = data.augment_batch([images, torch.zeros(2000)], 0)
    changed = (seen != images / 255).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.25, rel=0.15)


def test_the_teacher_is_shown_clean_images(nothing_is_held):
    data = synth(use_clip=True)
    images, labels = next(iter(DataLoader(data, batch_size=8)))
    seen, _, shown = data.augment_batch([images, labels], 0)
    assert torch.equal(shown, images / 255)
    assert not torch.equal(seen, shown)


def test_a_sheet_shows_the_devices_way():
    data = synth()
    samples = [data.sample(4, index) for index in range(8)]
    assert {(sample.shape, sample.dtype) for sample in samples} == {((*SIZE, 3), np.dtype(np.uint8))}
    assert len({sample.tobytes() for sample in samples}) > 4
    plain = synth(aug_on="cpu").sample(4, 0)
    assert not np.array_equal(samples[0], plain)


def test_on_the_cpu_a_batch_stays_as_it_is():
    data = synth(aug_on="cpu")
    batch = [torch.rand(2, 3, *SIZE), torch.zeros(2)]
    assert data.augment_batch(batch, 0) is batch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"aug_on": "gpu"},
            rf"{OPTIONS}\.aug_on is 'gpu' but must be cpu or device \(where the model runs\)\.$",
        ),
        (
            {"return_tensor": False},
            rf"{OPTIONS}\.aug_on is device, but {OPTIONS}\.return_tensor is false, .* needs tensors\.",
        ),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        synth(**options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gpu_gives_what_a_cpu_gives(name, documents):
    """To the pixel where none has noise of its own; and the host never waits."""
    augmentation, clean = AUGMENTATIONS[name](SIZE, 1.0, 0), batch_of(documents)
    there, here = clean.cuda(), augment_batch(augmentation, clean, [4])
    augment_batch(augmentation, there, [4])
    torch.use_deterministic_algorithms(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        seen = augment_batch(augmentation, there, [4])
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert distances(traits(seen.cpu(), clean), traits(here, clean)).max() < 4
    if name == "ImageNetAug":
        torch.testing.assert_close(seen.cpu(), here, rtol=0, atol=1e-3)
