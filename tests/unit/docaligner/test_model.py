import lightning as L
import numpy as np
import pytest
import torch

from otter_ray.errors import ConfigError, DataError
from otter_ray.projects.docaligner import AlignerModel, PointHead
from otter_ray.projects.docaligner.corners import label
from otter_ray.projects.docaligner.modeling.export_wrapper import WarpHeatmap
from otter_ray.projects.docaligner.modeling.module import MISSING
from otter_ray.projects.docaligner.modeling.targets import corner_maps
from otter_ray.train.builders import build_trainer

BOX = [[0.2, 0.25], [0.8, 0.2], [0.75, 0.9], [0.15, 0.8]]
POINTS = {
    "model.head": {"name": "PointHead", "options": {"d_model": 8, "heads": 2}},
    "model.loss": {"name": "CornerLoss", "options": {"object_weight": 1.0}},
    "onnx.name": "WarpPoints",
    "onnx.output_names": ["points", "has_obj"],
}


def labels(*corners):
    return torch.stack([torch.tensor(label(each, 1920, 1080)) for each in corners])


@pytest.mark.parametrize("head", [{}, POINTS])
def test_bfloat16_does_not_round_the_corners(config, head, tmp_path):
    """It has 8 binary digits: at 256 px a corner would move by half a pixel."""
    config = config.with_values({**head, "trainer.precision": "bf16-true"})
    plugin = build_trainer(config, tmp_path, L.Callback()).precision_plugin
    model = plugin.convert_module(AlignerModel(config))
    batch = [torch.rand(2, 3, 32, 32), labels(np.array(BOX), np.array(BOX) / 3)]
    images, kept = plugin.convert_input(batch)
    assert (images.dtype, model.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(kept, batch[1])
    with plugin.train_step_context():
        loss = torch.stack([*model.loss(model(images), kept).values()]).sum()
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("neck", ["FPN", "BiFPN", None])
@pytest.mark.parametrize(("downscale", "side"), [(2, 16), (4, 8), (8, 4)])
def test_heatmaps(config, neck, downscale, side):
    changes = {"model.head.options.downscale": downscale, "model.neck": neck and {"name": neck}}
    prediction = AlignerModel(config.with_values(changes)).eval()(torch.rand(2, 3, 32, 32))
    assert prediction.corners.shape == (2, 4, side, side)
    assert prediction.edge.shape == (2, 1, side, side)
    assert prediction.has_object.shape == (2, 1)


@pytest.mark.parametrize("neck", ["FPN", "BiFPN", None])
@pytest.mark.parametrize("head", [{"has_object": True}, {"has_object": False, "edge": False}, POINTS])
def test_every_weight_is_trained(config, neck, head):
    """One without a gradient stops a training with several processes."""
    changes = head if head is POINTS else {f"model.head.options.{key}": value for key, value in head.items()}
    loss = {"model.loss": {"name": "CornerLoss", "options": {"object_weight": 0, "edge_weight": 0}}}
    options = {"out_channels": 8, "repeats": 2}
    config = config.with_values(
        {**loss, **changes, "model.neck": neck and {"name": neck, "options": options}}
    )
    if neck is None and not head.get("has_object", True):
        with pytest.raises(ConfigError, match="nothing trains the layers after it"):
            AlignerModel(config)
        return
    model = AlignerModel(config)
    model.pretend_loss(torch.rand(2, 3, 32, 32)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_images_that_are_not_square(config):
    size = {
        "common.image_size": [32, 64],
        "global_settings.image_size": [32, 64],
        "onnx.input_shape.img.shape": [1, 3, 32, 64],
    }
    assert AlignerModel(config.with_values(size)).eval()(torch.rand(1, 3, 32, 64)).corners.shape == (
        1,
        4,
        8,
        16,
    )
    points = AlignerModel(config.with_values({**size, **POINTS})).eval()(torch.rand(1, 3, 32, 64)).points
    assert points.shape == (1, 4, 2)


def test_points(config):
    model = AlignerModel(config.with_values(POINTS)).eval()
    prediction = model(torch.rand(2, 3, 32, 32))
    assert prediction.points.shape == (2, 4, 2)
    assert prediction.corners is None
    assert {"network.head.query", "network.head.places.0"} <= {*dict(model.named_parameters())}
    model.loss(prediction, labels(BOX, None))["point_loss"].backward()
    assert model.network.head.query.grad.abs().max() > 0


def test_the_query_sees_every_level(config):
    head = PointHead([4, 6], [(4, 4), (2, 2)], d_model=8, heads=2)
    torch.nn.init.normal_(head.points.weight)
    maps = [torch.rand(1, 4, 4, 4, requires_grad=True), torch.rand(1, 6, 2, 2, requires_grad=True)]
    head(maps).points.sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in maps)


def test_the_score_of_exported_outputs(config):
    model = AlignerModel(config)
    maps = corner_maps(torch.tensor([BOX, BOX, BOX]), (16, 16), 1.0)
    maps[1, 0] = 0.1
    points = model.place(maps).flatten(1)
    truth = labels(BOX, BOX, None)
    kept = model.reduce_outputs((maps, points, torch.ones(3, 1)), truth)
    assert (kept[0][1, 0] == MISSING).all()
    metrics = model.score(kept, truth)
    assert 0.45 < metrics["valid_iou"] < 0.5
    assert metrics["valid_recall@90"] == 0.5
    assert metrics["valid_empty"] == 0
    assert metrics["valid_peak_iou"] < 1
    assert metrics["valid_corner_px"] < 1
    assert set(metrics) == {*model.METRICS[-5:]}
    low, high = model.score_interval(kept, truth, "valid_iou")
    assert low <= metrics["valid_iou"] <= high
    assert model.score_interval(kept, truth, "valid_corner_px") is None
    steps = {name: model.score_step(truth, name) for name in metrics}
    assert (steps["valid_iou"], steps["valid_empty"], steps["valid_corner_px"]) == (1 / 2, 1, 0)
    found = model.score_replicates(kept, truth, "valid_recall@90")
    # Of two photographs, one right: none, one or two of a resample's are.
    assert (found.units, {*found.values}) == (2, {0, 0.5, 1})
    bounds = model.score_range(kept, [kept], truth, "valid_iou")
    assert bounds.low < metrics["valid_iou"] < bounds.high


def test_photographs_without_a_document_have_no_score(config):
    found = torch.full((2, 4, 2), MISSING)
    with pytest.raises(DataError, match="none of the 2 photographs shows a document"):
        AlignerModel(config).score((found, found), labels(None, None))


def test_points_without_a_document_are_not_found(config):
    model = AlignerModel(config.with_values(POINTS))
    points, there = torch.tensor([BOX, BOX]).flatten(1), torch.tensor([[0.9], [0.4]])
    found, expected = model.reduce_outputs((points, there), labels(BOX, BOX))
    assert (found[1] == MISSING).all()
    torch.testing.assert_close(expected[1], torch.tensor(BOX))
    assert model.score((found, expected), labels(BOX, BOX))["valid_iou"] == pytest.approx(0.5)


def test_the_exported_file_takes_bgr(config):
    model = AlignerModel(config).eval()
    image = torch.rand(1, 3, 32, 32)
    bgr, rgb = (WarpHeatmap(model, channels).eval() for channels in ("bgr", "rgb"))
    for ours, theirs in zip(bgr(image.flip(1)), rgb(image), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [tuple(each.shape) for each in bgr(image)] == [(1, 4, 8, 8), (1, 8), (1, 1)]
    without = AlignerModel(
        config.with_values({"model.head.options.has_object": False, "model.loss.options.object_weight": 0})
    )
    heatmap, _, there = WarpHeatmap(without.eval())(image)
    torch.testing.assert_close(there[0, 0], heatmap[0].amax((1, 2)).min())


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"common.image_size": [48, 48]}, "common.image_size", "48x48 is not divisible by 32"),
        ({"model.head.options.downscale": 1}, "model.head.options.downscale", "1 is finer than"),
        ({"model.head.options.downscale": 3}, "model.head.options", "Give 4, or a power of two below it"),
        ({"model.head.options.downscale": 64}, "model.neck", "has no level"),
        ({"model.loss.options.sigma": 3}, "model.loss.options.sigma", "Give at most 2"),
        ({"model.loss.options.sigma": 0}, "model.loss.options", "sigma is 0 but must be above 0"),
        ({"onnx.output_names": ["points", "has_obj"]}, "onnx.output_names", "lacks heatmap"),
        ({"onnx.name": "WarpPoints"}, "onnx.name", "WarpPoints cannot export HeatmapHead. Use WarpHeatmap"),
        ({"model.loss.options.point_weight": 1}, "model.loss.options.point_weight", "predicts no points"),
        ({"model.neck.options.upsampling": "cubic"}, "model.neck.options", "upsampling is 'cubic'"),
        ({"model.backbone.options.in_chans": 1}, "model.backbone.options.in_chans", "3 channels"),
        (
            {**POINTS, "model.loss": {"name": "CornerLoss", "options": {"edge_weight": 0.1}}},
            "model.loss.options.edge_weight",
            "0.1 has no effect: PointHead predicts no outline. Remove it",
        ),
        *(
            (
                {**POINTS, "model.loss": {"name": "CornerLoss", "options": {key: value}}},
                f"model.loss.options.{key}",
                f"{value} has no effect: PointHead predicts no heatmaps. Remove it",
            )
            for key, value in (("sigma", 1.5), ("corner", "MSE"), ("foreground", 10))
        ),
    ],
)  # fmt: skip
def test_contradictions(config, changes, key, told):
    if "common.image_size" in changes:
        size = changes["common.image_size"]
        changes |= {"global_settings.image_size": size, "onnx.input_shape.img.shape": [1, 3, *size]}
    with pytest.raises(ConfigError) as caught:
        AlignerModel(config.with_values(changes))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert told in problem.message
