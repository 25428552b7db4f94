"""Which values of a metric are better."""

import json
import math

import pytest

from otter_ray.direction import Direction


@pytest.mark.parametrize(("direction", "best", "better"), [("max", "c", True), ("min", "a", False)])
def test_a_direction_compares_values(direction, best, better):
    direction, values = Direction(direction), {"a": 0.1, "b": 0.2, "c": 0.3}
    assert direction.best(values, values.__getitem__) == best
    assert direction.best([0.2, values[best]], float) == values[best]
    assert direction.is_better(0.3, 0.2) is better
    assert direction.is_better(0.2, 0.3) is not better
    assert not direction.is_better(0.2, 0.2)
    assert not direction.is_better(math.nan, 0.2)


def test_of_equal_values_the_first_is_best():
    assert [direction.best([(1, 0.5), (2, 0.5)], lambda item: item[1])[0] for direction in Direction] == [
        1,
        1,
    ]


def test_a_direction_is_its_word_on_disk():
    assert json.dumps({"mode": Direction.MIN}) == '{"mode": "min"}'
    assert f"{Direction.MAX}" == "max"
