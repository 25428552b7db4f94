"""The samplers that a search space may name, and what each of them can search.

To add one: name it in `SamplerClass` and in `CAPABILITIES`, write its module in `tune/samplers/`, and let
`tune/samplers/factory.py` make it. A test holds the three together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplerClass = Literal[
    "TPESampler",
    "GPSampler",
    "CmaEsSampler",
    "QMCSampler",
    "RandomSampler",
    "GridSampler",
    "NSGAIISampler",
]


@dataclass(frozen=True)
class Capabilities:
    """What a sampler can do.

    Attributes:
        conditions: Searches parameters that only some trials have. Other samplers would draw these at random.
        categoricals: Searches categoricals. Other samplers would draw these at random.
        multi_objective: Searches for several objectives. Other samplers raise.
        learns: What it draws depends on the values of earlier trials.
        relative: Draws a trial's parameters together, and has to be told which.
        exhaustive: Tries every combination once. A range then needs a `step`.
    """

    conditions: bool = False
    categoricals: bool = True
    multi_objective: bool = True
    learns: bool = True
    relative: bool = False
    exhaustive: bool = False

    @property
    def follows_number(self) -> bool:
        """Whether a trial's values follow from its number: all trials share one seed."""
        return self.relative and not self.learns


CAPABILITIES: dict[SamplerClass, Capabilities] = {
    "TPESampler": Capabilities(conditions=True),
    "RandomSampler": Capabilities(conditions=True, learns=False),
    "GPSampler": Capabilities(relative=True),
    "CmaEsSampler": Capabilities(categoricals=False, multi_objective=False, relative=True),
    "NSGAIISampler": Capabilities(relative=True),
    "QMCSampler": Capabilities(learns=False, relative=True),
    "GridSampler": Capabilities(learns=False, relative=True, exhaustive=True),
}


def samplers_with(**wanted: bool) -> list[str]:
    """Return the samplers with these capabilities, by name.

    Args:
        wanted: Capability -> whether the sampler has it.
    """
    return [
        name
        for name, capabilities in CAPABILITIES.items()
        if all(getattr(capabilities, capability) == value for capability, value in wanted.items())
    ]
