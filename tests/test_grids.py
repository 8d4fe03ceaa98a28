"""Grids: how axes are written, what is refused, how runs are ordered, padded and cut in chunks."""

import inspect
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ssm
from ssm import simulation
from ssm.sweeps import grids
from ssm.sweeps.grids import LONGEST_AXIS, MOST_SIZES, make_grid, parse_axis

AXES = {
    "imbalance_ratio=1,10,100": ("imbalance_ratio", [1, 10, 100]),
    "imbalance_ratio=1e3, 2.5": ("imbalance_ratio", [1000.0, 2.5]),
    "seed=0..9": ("seed", list(range(10))),
    "seed=7..7": ("seed", [7]),
    "weight_exponent=-2..1": ("weight_exponent", [-2, -1, 0, 1]),
    "weight_exponent=0:1:5": ("weight_exponent", [0, 0.25, 0.5, 0.75, 1]),
    "weight-exponent=1:-1:3": ("weight_exponent", [1, 0, -1]),
    "coupling=0.5:0.5:1": ("coupling", [0.5]),
    "imbalance_ratio=1:1000:4:log": ("imbalance_ratio", [1, 10, 100, 1000]),
    "imbalance_ratio=1000:1:4:log": ("imbalance_ratio", [1000, 100, 10, 1]),
    "feature_dim=1:64:4:log": ("feature_dim", [1, 4, 16, 64]),
    "minority_count=1:10:3": ("minority_count", [1, 6, 10]),
    "counts=50,5;500,50": ("counts", [(50, 5), (500, 50)]),
    "counts=none;3,2,1": ("counts", [None, (3, 2, 1)]),
    "class_weights=0.5,2": ("class_weights", [(0.5, 2)]),
    "class_weights=balanced;0.5,2;": ("class_weights", ["balanced", (0.5, 2)]),
    "drop_step=20,40": ("drop_step", [20, 40]),
    "drop_step=10:30:3": ("drop_step", [10, 20, 30]),
    "drop_step=20,40;60;": ("drop_step", [(20, 40), (60,)]),
    "t1=none,3.5": ("t1", [None, 3.5]),
    "save_state=true,False": ("save_state", [True, False]),
    "loss=squared,cross_entropy": ("loss", ["squared", "cross_entropy"]),
}


@pytest.mark.parametrize("text", AXES)
def test_an_axis_means_what_it_says(text):
    field, values = AXES[text]
    found, parsed = parse_axis(text)
    assert found == field
    if isinstance(values[0], float | int) and not isinstance(values[0], bool):
        np.testing.assert_allclose(parsed, values, rtol=1e-15)  # spacing rounds once
    else:
        assert parsed == values


def test_fields_of_whole_numbers_get_whole_numbers():
    for text in ("seed=0:9:4", "minority_count=1:100:3:log", "num_saves=3..5"):
        assert all(type(value) is int for value in parse_axis(text)[1])


@pytest.mark.parametrize(
    "text",
    [
        "seed",
        "seed=",
        "=1",
        "",
        "nope=1",
        "t1=1:2",
        "t1=1:2:3:lin",
        "t1=1:2:3:log:4",
        "t1=1:2:2.5",
        "t1=1:2:0",
        "t1=1:2:-3",
        "t1=a:2:3",
        "t1=-1:1:3:log",
        "t1=0:1:3:log",
        "t1=0:inf:3",
        "seed=0:nan:3",
        "seed=true:3:3",
        "seed=9..0",
        f"seed=0..{LONGEST_AXIS}",
        f"t1=0:1:{LONGEST_AXIS + 1}",
        "seed=0..99999999999999",
    ],
)
def test_an_axis_that_means_nothing_is_refused_in_one_line(text):
    with pytest.raises(ssm.InputError, match="must be") as caught:
        parse_axis(text)
    assert "\n" not in str(caught.value)


HINTS = {
    "imbalance=1,10": "one of the fields of Config; did you mean imbalance_ratio?",
    "frobnicate=1": "one of the fields of Config; see ssm run --help",
    "seed=1,10,weight_exponent=0,1": "one axis: give one --grid for each axis",
    "a=1,10,seed=0,1": "one axis: give one --grid for each axis",
    "imbalance_ratio": f"{grids.FORMS}; write imbalance_ratio=1,10",
    "imbalance_ratio 1 100": f"{grids.FORMS}; write imbalance_ratio=1,100",
    "weight-exponent -1, 1": f"{grids.FORMS}; write weight_exponent=-1,1",
    "loss": f"{grids.FORMS}; write loss=A,B",
    "seed=": grids.FORMS,
}


@pytest.mark.parametrize("text", HINTS)
def test_a_hint_says_how_to_write_an_axis(text):
    with pytest.raises(ssm.InputError) as caught:
        parse_axis(text)
    assert str(caught.value).split(": must be ", 1)[1] == HINTS[text]


def test_a_grid_over_an_unknown_field_names_the_nearest(tiny):
    hint = (
        r"^grid='imbalance': must be one of the fields of Config; did you mean imbalance_ratio\?$"
    )
    with pytest.raises(ssm.InputError, match=hint):
        ssm.sweep({"imbalance": [1, 10]}, tiny())
    with pytest.raises(ssm.InputError, match=r"^grid=0: .*; see help\(ssm.Config\)$"):
        ssm.sweep({0: [1, 10]}, tiny())  # pyright: ignore[reportArgumentType] # wrong on purpose


def test_a_point_is_one_short_line_too(tiny):
    with pytest.raises(ssm.InputError, match=r"^loss='a\\na") as caught:
        ssm.sweep({"loss": ["a\n" * 100_000]}, tiny())
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1500 and "(at loss=a a a" in message


@pytest.mark.parametrize(
    "axes",
    [
        {},
        None,
        [("seed", [1, 2])],
        {"speed": [1, 2]},
        {0: [1, 2]},
        {"seed": []},
        {"seed": ()},
        {"seed": [1, 2, 1]},
        {"imbalance_ratio": [1, 1.0]},
        {"loss": "squared"},
        {"seed": 3},
        {"seed": None},
        {"seed": {1: 2}},
        {"seed": [{1: 2}]},
        {"counts": [[5, 5], (5, 5)]},
    ],
)
def test_what_is_no_grid_is_refused_in_one_line(axes):
    from_outside = inspect.unwrap(make_grid)  # without the types that tests check
    with pytest.raises(ssm.InputError, match=r"grid.*must be") as caught:
        from_outside(axes, ssm.Config())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "point"),
    [
        ({"seed": [0, "one"]}, "seed=one"),
        ({"seed": [0, 1.5]}, "seed=1.5"),
        ({"weight_exponent": [0.0, math.nan]}, "weight_exponent=nan"),
        ({"save_state": [False, 1]}, "save_state=1"),
        ({"imbalance_ratio": [2, 1, 0.5], "seed": [0, 1]}, "imbalance_ratio=0.5, seed=0"),
        (  # either value is fine, the two together are not
            {"num_classes": [4, 3], "seed": [0, 1], "minority_fraction": [0.5, 0.85]},
            "num_classes=3, seed=0, minority_fraction=0.85",
        ),
        (
            {"class_weights": [None, (1, 2, 3, 4)], "weight_exponent": [0, 1]},
            "class_weights=1,2,3,4, weight_exponent=1",
        ),
    ],
)
def test_a_point_that_is_not_allowed_is_named_before_anything_runs(
    tiny, monkeypatch, tmp_path, axes, point
):
    def ran(*_):
        raise AssertionError("something ran")

    monkeypatch.setattr(simulation, "prepare", ran)
    with pytest.raises(ssm.InputError, match="must be") as caught:
        ssm.sweep(axes, tiny(), tmp_path / "sweep.zarr")
    assert str(caught.value).endswith(f"(at {point})")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, -1, True])
def test_a_chunk_size_that_is_none_is_refused(tiny, size):
    with pytest.raises(ssm.InputError, match=r"chunk_size=.*must be an integer"):
        ssm.sweep({"seed": [0]}, tiny(), chunk_size=size)


def test_runs_are_in_row_major_order(tiny):
    axes = {"seed": [3, 1], "imbalance_ratio": [1.0, 2.0, 4.0], "weight_exponent": [0, 1]}
    grid = make_grid(axes, tiny(feature_dim=5))
    assert grid.shape == (2, 3, 2)
    for run, (seed, ratio, exponent) in enumerate(itertools.product(*axes.values())):
        assert grid.run(run)[0] == tiny(
            feature_dim=5, seed=seed, imbalance_ratio=ratio, weight_exponent=exponent
        )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_runs_that_differ_in_their_seed_only_are_a_row(tiny, place):
    axes = [("imbalance_ratio", [1.0, 2.0, 4.0]), ("weight_exponent", [0, 1])]
    axes.insert(place, ("seed", [3, 1]))
    grid = make_grid(dict(axes), tiny())
    rows = grid.settings()
    assert sorted(rows.ravel()) == list(range(12)) and (np.diff(rows[:, 0]) > 0).all()
    for row in rows:
        first, _ = grid.run(row[0])
        assert grid.from_seeds(first, row.tolist()) == [grid.run(run)[0] for run in row]
    alone = make_grid(dict(axes[:place] + axes[place + 1 :]), tiny(seed=5))
    assert alone.settings().tolist() == [[run] for run in range(6)]
    assert alone.from_seeds(alone.run(2)[0], [2]) == [alone.run(2)[0]]


@pytest.mark.parametrize("seed_first", [True, False])
def test_of_several_runs_that_are_not_allowed_the_first_is_named(tiny, seed_first):
    axes = {"seed": [0, -1, -2], "coupling": [0.5, 2.0]}
    axes = axes if seed_first else dict(reversed(axes.items()))
    point = "seed=0, coupling=2.0" if seed_first else "coupling=0.5, seed=-1"
    with pytest.raises(ssm.InputError, match=rf"\(at {point}\)$"):
        ssm.sweep(axes, tiny())


def test_anything_that_can_be_iterated_is_an_axis():
    whole = {"seed": [0, 1, 2]}
    for values in (range(3), np.arange(3), (0, 1, 2), iter([0, 1, 2]), {0: 1, 1: 1, 2: 1}.keys()):
        assert make_grid({"seed": values}, ssm.Config()).to_json()["axes"] == whole
    counts = make_grid({"counts": np.array([[5, 2], [9, 3]])}, ssm.Config())
    assert counts.axes["counts"] == ((5, 2), (9, 3))


def test_coordinates_are_plain_numbers_or_words():
    axes = {
        "seed": [2, 0],
        "imbalance_ratio": [1, 2.5],
        "save_state": [True, False],
        "loss": ["squared", "cross_entropy"],
        "counts": [None, (50, 5)],
        "t1": [None, 2.5],
    }
    grid = make_grid(axes, ssm.Config())
    found = grid.coordinates
    assert list(found) == list(grid.dimensions)
    assert {name: values.dtype.kind for name, values in found.items()} == {
        "seed": "i",
        "imbalance_ratio": "f",
        "save_state": "b",
        "loss_name": "U",  # `loss` is a variable
        "counts": "U",
        "t1": "U",
    }
    assert found["counts"].tolist() == ["none", "50,5"] and found["t1"].tolist() == ["none", "2.5"]


@given(
    st.dictionaries(st.integers(1, 3000), st.integers(1, 300), min_size=1, max_size=6),
    st.sampled_from([1, 10_000, grids.COMPILATION, 10**7]),
)
def test_padding_costs_as_little_as_it_can(runs, compilation):
    """Against all ways of putting each size in one of at most three groups."""

    def cost(padded):
        columns = sum(runs[n] * padded[n] for n in runs)
        return columns + compilation * len(set(padded.values()))

    def grouped(labels):
        largest = {}
        for n, label in zip(runs, labels, strict=True):
            largest[label] = max(n, largest.get(label, 0))
        return {n: largest[label] for n, label in zip(runs, labels, strict=True)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "COMPILATION", compilation)
        padded = grids.padded_sizes(Counter(runs))
    assert padded.keys() == runs.keys() and all(padded[n] >= n for n in runs)
    assert len(set(padded.values())) <= MOST_SIZES and set(padded.values()) <= runs.keys()
    ways = itertools.product(range(MOST_SIZES), repeat=len(runs))
    assert cost(padded) == min(cost(grouped(labels)) for labels in ways)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 400))
def test_chunks_cover_the_grid_once_and_keep_to_their_size(shape, most):
    chunk = grids.chunk_shape(tuple(shape), most)
    seen = np.zeros(shape, int)
    order = []
    for block in grids.blocks(tuple(shape), chunk):
        assert 1 <= seen[block].size <= max(most, 1)
        seen[block] += 1
        order.append(np.arange(seen.size).reshape(shape)[block].min())
    assert (seen == 1).all() and order == sorted(order)
    # as large as whole trailing axes allow: twice as long in the split axis would not fit
    assert math.prod(chunk) == seen.size or 2 * math.prod(chunk) * max(shape) > most
