"""What the members of a family of documents have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from otter_ray.vision.drawing import ornaments as ink
from otter_ray.vision.drawing.ornaments import Colour


@dataclass(frozen=True)
class Family:
    """What the members of a family share; lengths are fractions of the canvas's width or height."""

    kind: str  # bank, identity or form
    paper: tuple[Colour, Colour]
    ink: Colour
    accent: Colour
    issuer: str
    mirrored: bool  # the photo or chip stands on the right
    banner: bool
    lines: int  # of guilloche
    waves_seed: int


def random_family(rng: np.random.Generator) -> Family:
    """Draw a new kind of document."""
    kind = str(rng.choice(["bank", "identity", "form"], p=[0.5, 0.3, 0.2]))
    hue = rng.random()
    dark = kind == "bank" and rng.random() < 0.6
    value, saturation = (
        (rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9)) if dark else (0.94, rng.uniform(0.04, 0.3))
    )
    if kind == "form":
        value, saturation = 0.98, rng.uniform(0.0, 0.08)
    other = hue + rng.uniform(-0.15, 0.15)
    return Family(
        kind=kind,
        paper=(
            ink.tint(hue, saturation, value),
            ink.tint(other, saturation, value + (0.25 if dark else -0.15)),
        ),
        ink=(240, 240, 240) if dark else ink.tint(hue, 0.5, 0.15),
        accent=ink.tint(hue + rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.95)),
        issuer=f"{ink.word(rng, 3)} {rng.choice(['Bank', 'Union', 'State', 'Office', 'Republic', 'Trust'])}",
        mirrored=bool(rng.random() < 0.35),
        banner=bool(rng.random() < 0.5),
        lines=int(rng.integers(6, 22)),
        waves_seed=int(rng.integers(1 << 30)),
    )
