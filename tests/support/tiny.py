"""What makes a config of pictures tiny."""

SIZE = 32  # px
# A high BatchNorm momentum, where little is trained: what the evaluation mode sees is not the initial state.
MOMENTUM = {"model.backbone.options.bn_momentum": 0.9}
SMALL = {
    "common.batch_size": 16,
    "common.image_size": [SIZE, SIZE],
    "global_settings.image_size": [SIZE, SIZE],
    "onnx.input_shape.img.shape": [1, 3, SIZE, SIZE],
    "model.backbone.options.name": "lcnet_035",
}
