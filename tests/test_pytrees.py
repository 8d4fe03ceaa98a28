"""Frozen dataclasses that JAX takes apart: arrays are leaves, what is static belongs to the structure."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from ssm.support.pytrees import Pytree, static


class Line(Pytree):
    slope: Any
    name: str = static(kw_only=True, default="line")

    def __call__(self, x):
        return self.slope * x


class Shifted(Line):
    shift: Any = None

    def __call__(self, x):
        return super().__call__(x) + (0 if self.shift is None else self.shift)


def test_arrays_are_leaves_and_what_is_static_is_structure():
    line = Shifted(np.array(2.0), shift=np.array([1.0, 3.0]), name="a")
    leaves, structure = jax.tree.flatten(line)
    assert [leaf.shape for leaf in leaves] == [(), (2,)]
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is Shifted and again.name == "a" and again.shift is line.shift
    assert structure == jax.tree.structure(dataclasses.replace(line, slope=np.array(5.0)))
    assert structure != jax.tree.structure(dataclasses.replace(line, name="b"))
    assert structure != jax.tree.structure(dataclasses.replace(line, shift=None))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(line)]
    assert paths == [".slope", ".shift"]


def test_anything_can_stand_in_the_place_of_arrays():
    """As JAX does in vmap and while it compares structures: no constructor is asked, which may check shapes."""

    class Refusing(Line):
        def __post_init__(self):
            assert np.ndim(self.slope) == 0

    lines = [Refusing(np.array(slope)) for slope in (1.0, 3.0)]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *lines)
    assert type(both) is Refusing and both.slope.tolist() == [1.0, 3.0]
    assert jax.vmap(lambda line: line(2.0))(both).tolist() == [2.0, 6.0]


def test_those_of_one_shape_share_a_compilation():
    traced = []

    @jax.jit
    def at_two(line):
        traced.append(line.name)
        return line(2.0)

    assert [float(at_two(Line(np.array(slope)))) for slope in (1.0, 3.0)] == [2.0, 6.0]
    assert float(at_two(Line(np.array(1.0), name="other"))) == 2.0
    assert traced == ["line", "other"]


def test_nothing_of_it_changes():
    line = Line(np.array(1.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.slope = np.array(2.0)  # type: ignore[misc] # which is refused
    with pytest.raises(TypeError, match="slope"):
        Line()  # type: ignore[call-arg] # without its slope
