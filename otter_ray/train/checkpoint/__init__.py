"""Checkpoints: read them as data, and start a run from one."""
