"""Training augmentation: on the CPU (`cpu`), and batch-wise on the device (`device`)."""
