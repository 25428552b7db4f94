"""What stands beside an exported file for whoever uses it, and that it is so."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from otter_ray.config import Config
from otter_ray.errors import ExportError
from otter_ray.export.exporter import export_checkpoint
from otter_ray.export.gate import ReferenceModel, pass_gate
from otter_ray.export.model_card import blank_example, write_card
from otter_ray.export.onnx_file import wrap, write_onnx
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.projects.docclassifier.visuals import model_card as docclassifier_card
from otter_ray.train.builders import build_held_out, load_model_from_config
from otter_ray.train.model.module_mixin import BaseMixin
from otter_ray.vision.images import load_images


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    return export_checkpoint(tiny_run.best, tmp_path_factory.mktemp("carded"))


@pytest.fixture(scope="module")
def card(exported):
    return (exported.onnx.parent / "MODEL.md").read_text()


@pytest.fixture(scope="module")
def config(tiny_run):
    record = torch.load(tiny_run.best, map_location="cpu", weights_only=True)
    return Config.from_dict(record["config"], record["config_name"])


@pytest.fixture(scope="module")
def embed(tiny_run, config):
    """Unit embeddings of images [N, 3, h, w], by the PyTorch model."""
    model = load_model_from_config(config, tiny_run.best)

    def run(images):
        with torch.inference_mode():
            return nn.functional.normalize(model(torch.as_tensor(images)))

    return run


def example_of(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]


def run_as_printed(card, folder, *files):
    (folder / "example.py").write_text(example_of(card))
    line = [sys.executable, "example.py", *map(str, files)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_example_as_printed_sees_what_training_saw(exported, card, embed, tmp_path):
    """Larger than the model's input, of another shape, as a rotated JPEG; smaller; grey."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    large, turned = Image.fromarray(noise).resize((150, 90)), Image.Exif()
    turned[0x0112] = 6
    large.save(tmp_path / "0.jpg", exif=turned, quality=95)
    Image.fromarray(noise).resize((20, 80)).save(tmp_path / "1.png")
    Image.fromarray(noise).convert("L").resize((40, 60)).save(tmp_path / "2.png")
    assert len(example_of(card).splitlines()) <= 10
    images = load_images(tmp_path, (32, 32), "root").images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    embeddings = embed(images)
    for one, other in ((0, 1), (1, 2)):
        files = [next(tmp_path.glob(f"{number}.*")) for number in (one, other)]
        printed = run_as_printed(card, exported.onnx.parent, *files)
        similarity = float((embeddings[one] @ embeddings[other] + 1) / 2)
        assert float(printed.removeprefix("similarity ")) == pytest.approx(similarity, abs=1e-4)
    assert not np.allclose(embeddings[0], embeddings[1], atol=1e-3)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("resizing", ["area", "bilinear"])
def test_the_example_reads_as_the_exported_model_takes_images(
    config, embed, tiny_run, tmp_path, channels, resizing
):
    changes = {"onnx.wrapper_options.channels": channels, "dataset.train_options.options.resizing": resizing}
    changed = config.with_values(changes)
    wrapped = wrap(changed, load_model_from_config(changed, tiny_run.best))
    write_onnx(changed, wrapped, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for name in "01":
        Image.fromarray(rng.integers(0, 256, (90, 150, 3), np.uint8)).save(tmp_path / f"{name}.png")
    card = f"```python\n{docclassifier_card.example(changed, 'model.onnx')}\n```"
    printed = run_as_printed(card, tmp_path, "0.png", "1.png")
    images = load_images(tmp_path, (32, 32), "root", resizing).images.transpose(0, 3, 1, 2)
    one, other = embed(images.astype(np.float32) / 255)
    similarity = float((one @ other + 1) / 2)
    assert float(printed.removeprefix("similarity ")) == pytest.approx(similarity, abs=1e-4)


def test_the_thresholds_are_the_test_splits(card, embed, tiny_config):
    dataset = build_held_out(tiny_config)[1]
    images, labels = zip(*dataset, strict=True)
    roc = pair_roc(embed(torch.stack(images)), torch.tensor(labels))
    rows = re.findall(r"\| (1e-0\d) \| ([\d.]+|none) \| ([\d.]+) \| (\d+) of 160 \|", card)
    assert [row[0] for row in rows] == ["1e-01", "1e-02", "1e-03", "1e-04"]
    for fpr, threshold, tpr, wrong in rows:
        known, limit = roc.tpr_at(float(fpr))
        assert float(tpr) == pytest.approx(known, abs=1e-4)
        assert threshold == "none" if limit == np.inf else float(threshold) == pytest.approx(limit, abs=1e-5)
        assert int(wrong) == int(float(fpr) * roc.num_negatives)
    assert "over all pairs of test images: 30 that belong together, 160 that do not" in card
    assert "the hardest pair seen sets the threshold" in card


def test_the_card_says_what_it_is_for_and_where_it_comes_from(exported, card):
    told = json.loads(exported.json.read_text())
    assert card.startswith(f"# {exported.onnx.name}\n\nTells whether two images show the same document")
    assert f"- {exported.gate.announcement()}" in card
    assert f"- validation: valid_fpr@4 {exported.gate.metrics['valid_fpr@4']:.4f} (95 % interval" in card
    assert "| input | `img` | float32 | [batch_size, 3, 32, 32] |" in card
    assert "| output | `feats` | float32 | [batch_size, 128] |" in card
    assert "name: CaptureDataset" in card
    assert f"torch {told['versions']['torch']}" in card
    assert told["checkpoint_sha256"] in card


def test_a_file_beside_the_winners_has_a_card_of_its_own(tiny_run, tmp_path):
    won = export_checkpoint(tiny_run.best, tmp_path)
    other = export_checkpoint(tiny_run.best, tmp_path, label="_trial7", is_winner=False)
    assert (tmp_path / "MODEL.md").read_text().startswith(f"# {won.onnx.name}\n")
    text = (tmp_path / f"{other.onnx.stem}.md").read_text()
    assert text.startswith(f"# {other.onnx.name}\n")
    # The test split is the winner's alone.
    assert "over all pairs of validation images" in text
    assert "test:" not in text


def test_what_an_earlier_version_exported_stays_without_a_card(exported, tmp_path):
    facts = json.loads(exported.json.read_text())
    del facts["example"]
    (tmp_path / "old.json").write_text(json.dumps(facts))
    assert write_card(tmp_path / "old.onnx") is None
    assert not (tmp_path / "MODEL.md").exists()


def test_a_project_that_gives_no_example_gets_one_on_blank_inputs(exported, config):
    code = blank_example(config.onnx, exported.onnx.name)
    assert len(code.splitlines()) <= 10
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=exported.onnx.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "feats (1, 128)\n"


class Wrapped(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, img, mask):
        seen = img.mean(dim=1, keepdim=True) * mask
        return seen.flatten(1), seen.sum(dim=(1, 2, 3))


class TwoInputs(BaseMixin):
    INTENDED_USE = "Nothing."

    def exported_batch(self, batch):
        return [batch["image"], batch["mask"]], batch["sum"]

    def score(self, outputs, labels):
        pixels, total = outputs
        assert pixels.shape == (6, 64)
        return {"error": float((total - labels).abs().max())}


class KeepsSums(TwoInputs):
    """Of its large output nothing is kept."""

    def reduce_outputs(self, outputs, labels):
        pixels, total = outputs
        assert len(pixels) == len(labels) <= 4
        return total

    def score(self, outputs, labels):
        return {"error": float((outputs - labels).abs().max())}

    def illustrate(self, outputs, labels, dataset):
        return {"kept": [*outputs.shape]}


@pytest.mark.parametrize("recorded", [0.0, 0.5])
@pytest.mark.parametrize("model", [TwoInputs(), KeepsSums()])
def test_a_model_of_several_inputs_and_outputs(tiny_config, tmp_path, model, recorded):
    shapes = {"img": {"shape": [1, 3, 8, 8]}, "mask": {"shape": [1, 1, 8, 8]}}
    names = {"input_names": ["img", "mask"], "output_names": ["pixels", "sum"], "dynamic_axes": {}}
    data = tiny_config.to_dict()
    data["onnx"] |= {"input_shape": shapes, **names}
    for section in ("common", "global_settings"):
        data[section]["image_size"] = [8, 8]
    config, wrapped = Config.from_dict(data), Wrapped().eval()
    images, masks = torch.rand(6, 3, 8, 8), torch.rand(6, 1, 8, 8)
    items = [
        {"image": image, "mask": mask, "sum": total}
        for image, mask, total in zip(images, masks, wrapped(images, masks)[1], strict=True)
    ]
    write_onnx(config, wrapped, tmp_path / "two.onnx")
    reference = ReferenceModel(config, model, wrapped, "error", recorded, torch.float32)
    loader = torch.utils.data.DataLoader(items, batch_size=4)
    if recorded:
        with pytest.raises(ExportError, match=r"error measured on the ONNX file is 0.0000"):
            pass_gate(tmp_path / "two.onnx", reference, loader)
        return
    gate, (outputs, labels) = pass_gate(tmp_path / "two.onnx", reference, loader)
    assert (gate.images, gate.details) == (6, {})
    assert model.illustrate(outputs, labels, items) == ({"kept": [6]} if type(model) is KeepsSums else {})
    assert gate.metrics["error"] < 1e-4
