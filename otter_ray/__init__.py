"""One YAML + one search space in, a proven ONNX file out."""

__version__ = "0.1.0"
