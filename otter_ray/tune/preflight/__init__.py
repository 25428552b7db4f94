"""Checks before a study starts: static checks, models, data, pretrained weights."""
