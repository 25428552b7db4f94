"""From a checkpoint to an ONNX file that has been proven to work. Knows nothing of Ray."""
