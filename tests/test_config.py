"""A Config is whole and valid, or a ValueError that names the field."""

import dataclasses
import inspect
import json
import math
import pydoc
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tyro._docstrings import get_field_docstring

import ssm
from ssm import Config
from ssm.config import bounds, documentation
from ssm.config.data import LARGEST_COUNT
from ssm.support import errors

FIELDS = [field.name for field in dataclasses.fields(Config)]

BAD = [
    ("num_classes", {"num_classes": 0}),
    ("num_classes", {"num_classes": 1}),
    ("num_classes", {"num_classes": 2.5}),
    ("num_classes", {"num_classes": True}),
    ("num_classes", {"profile": "custom", "counts": (3, 2), "num_classes": 3}),
    ("counts", {"profile": "custom"}),
    ("counts", {"profile": "custom", "counts": (3,)}),
    ("counts", {"profile": "custom", "counts": 7}),
    ("counts", {"profile": "custom", "counts": "35"}),
    ("counts[1]", {"profile": "custom", "counts": (3, 0)}),
    ("counts[0]", {"profile": "custom", "counts": (-3, 2)}),
    ("counts[0]", {"profile": "custom", "counts": (math.nan, 2)}),
    ("counts", {"profile": "step", "counts": (3, 2)}),
    ("counts", {"profile": "long_tailed", "counts": (3, 2)}),
    ("counts", {"counts": (3,)}),
    ("num_classes", {"counts": (3, 2), "num_classes": 3}),
    ("imbalance_ratio", {"imbalance_ratio": 0.5}),
    ("imbalance_ratio", {"imbalance_ratio": math.nan}),
    ("imbalance_ratio", {"imbalance_ratio": math.inf}),
    ("imbalance_ratio", {"imbalance_ratio": "10"}),
    ("imbalance_ratio", {"imbalance_ratio": 1e300}),
    ("minority_fraction", {"minority_fraction": 0.0}),
    ("minority_fraction", {"minority_fraction": 1.0}),
    ("minority_fraction", {"minority_fraction": 0.04}),
    ("minority_fraction", {"minority_fraction": 0.96}),
    ("minority_count", {"minority_count": 0}),
    ("feature_dim", {"feature_dim": 0}),
    ("feature_dim", {"imbalance_ratio": 1e9}),
    ("coupling", {"coupling": -0.1}),
    ("coupling", {"coupling": 1.1}),
    ("coupling", {"coupling": math.nan}),
    ("between_coupling", {"between_coupling": -0.1}),
    ("between_coupling", {"coupling": 1, "between_coupling": 1.0}),
    ("between_coupling", {"coupling": 0.2, "between_coupling": 0.3}),
    ("between_coupling", {"coupling": 1, "between_coupling": 0.3, "optimizer": "adam"}),
    ("bias", {"bias": "input"}),
    ("bias", {"bias": "output", "depth": 1, "feature_dim": 10}),
    ("bias", {"bias": "hidden", "optimizer": "adam"}),
    ("noise_dim", {"noise_dim": 0}),
    ("noise_dim", {"noise_dim": 2.5}),
    ("noise_dim", {"noise_dim": 2**30, "minority_count": 1000}),
    ("held_out", {"held_out": 1}),
    ("held_out", {"held_out": True}),
    ("feature_decay", {"held_out": True, "coupling": 0.2, "optimizer": "gd", "feature_decay": 0.1}),
    ("weight_exponent", {"weight_exponent": math.nan}),
    ("weight_exponent", {"weight_exponent": 11}),
    ("weight_exponent", {"weight_exponent": 1, "class_weights": (1,) * 10}),
    ("class_weights", {"class_weights": (1, 2)}),
    ("class_weights[3]", {"class_weights": (1, 1, 1, math.nan, 1, 1, 1, 1, 1, 1)}),
    ("class_weights[0]", {"class_weights": (0,) * 10}),
    ("init_scale", {"init_scale": 0}),
    ("init_scale", {"init_scale": math.nan}),
    ("init_scale", {"init_scale": 1e-71}),
    ("init_scale", {"init_scale": 1e-30, "dtype": "float32"}),
    ("t1", {"t1": 0}),
    ("t1", {"t1": math.nan}),
    ("num_saves", {"num_saves": 1}),
    ("rtol", {"rtol": 0}),
    ("depth", {"depth": 0}),
    ("feature_dim", {"depth": 1}),
    ("weight_decay", {"depth": 1, "feature_dim": 10, "weight_decay": 0.1}),
    ("init", {"depth": 1, "feature_dim": 10, "init": "balanced"}),
    ("weight_decay", {"weight_decay": -0.1}),
    ("feature_decay", {"feature_decay": math.nan}),
    ("clock", {"clock": "loss", "loss": "squared"}),
    ("clock", {"clock": "loss", "feature_decay": 0.1}),
    ("clock", {"clock": "fast"}),
    ("stop_margin", {"stop_margin": 0}),
    ("stop_margin", {"stop_margin": 5, "loss": "squared"}),
    ("geometry", {"geometry": True, "depth": 3}),
    ("rtol", {"rtol": math.nan}),
    ("atol", {"atol": -1e-9}),
    ("num_saves", {"num_saves": 2, "save_spacing": "log"}),
    ("save_state", {"save_state": True, "num_saves": 1_000_000}),
    ("feature_dim", {"num_classes": 10_000, "minority_count": 50}),
    ("class_weights[0]", {"class_weights": (1e160,) * 10}),
    ("max_steps", {"max_steps": 0}),
    ("seed", {"seed": -1}),
    ("save_state", {"save_state": 1}),
    ("profile", {"profile": "steps"}),
    ("loss", {"loss": "hinge"}),
    ("init", {"init": None}),
    ("save_spacing", {"save_spacing": "cubic"}),
    ("solver", {"solver": "euler"}),
    ("dtype", {"dtype": "float16"}),
    ("learning_rate", {"learning_rate": 0.1}),
]


@pytest.mark.parametrize(("field", "values"), BAD, ids=[f"{f}-{i}" for i, (f, _) in enumerate(BAD)])
def test_bad_values_are_refused_in_one_line_that_names_them(field, values):
    with pytest.raises(ValueError) as caught:
        Config(**values)
    message = str(caught.value)
    assert isinstance(caught.value, ssm.InputError)
    assert message.startswith(f"{field}=") and "must be" in message and "\n" not in message
    named = field.split("[")[0]
    if named == field and values.get(field) is not None and not isinstance(values[field], tuple):
        assert repr(values[field])[:60] in message


def test_the_message_says_what_is_allowed():
    with pytest.raises(ValueError, match=r"coupling=1.5: must be a finite number in \[0, 1\]"):
        Config(coupling=1.5)
    with pytest.raises(ValueError, match="loss='hinge': must be one of cross_entropy, squared"):
        Config(loss="hinge")  # pyright: ignore[reportArgumentType] # wrong on purpose


class Shown:
    """Something whose repr is given, or raised."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


HARD = {
    "long": "x" * 100_000,
    "lines": "a\nb\r\n" * 1000,
    "separators": Shown("a\u2028b\x85c\x0bd"),
    "colours": Shown("\x1b[31mred\x00" * 1000),
    "half a pair": Shown("\ud800"),
    "spaces": Shown(" " * 100_000 + "end"),
    "raises": Shown(KeyError("two\nlines")),
    "raises another": Shown(RecursionError()),
    "no text": Shown(5),
    "huge": 10**5000,
    "array": np.zeros((300, 300)),
}


@pytest.mark.parametrize("name", HARD)
def test_a_refusal_is_one_short_line_whatever_it_is_of(name):
    value = HARD[name]
    text = value if isinstance(value, str) else "field"
    refusals = [errors.invalid("seed", value, "an integer"), errors.invalid(text, 1, text)]
    each: list[dict[str, Any]] = [{"seed": value}, {text: value}]
    for fields in each:
        with pytest.raises(ssm.InputError) as caught:
            Config(**fields)
        refusals.append(caught.value)
    for refusal in refusals:
        message = str(refusal)
        assert message.isprintable() and len(message) < 1000
        assert ": must be " in message
        message.encode()


def test_what_is_shown_of_a_value():
    assert str(errors.invalid("a", Shown("1  2\n3"), "b")) == "a=1 2 3: must be b"
    assert str(errors.invalid("a", Shown(ValueError()), "b")).startswith("a=a Shown that cannot")
    cut = str(errors.invalid("a", "x" * 300, "b"))
    assert cut == f"a='{'x' * 196}...: must be b"


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("imbalance", "did you mean imbalance_ratio?"),
        ("num_class", "did you mean num_classes?"),
        ("optimiser", "did you mean optimizer?"),
        ("frobnicate", "see help(ssm.Config)"),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest(field, hint):
    with pytest.raises(ssm.InputError) as caught:
        Config(**dict[str, Any]({field: 10}))
    assert str(caught.value) == f"{field}=10: must be a field of Config; {hint}"


@pytest.mark.parametrize(
    ("word", "meant"),
    [("ERM", "erm"), ("held out", "held_out"), ("inver", "inverse"), ("xyz", None), (3, None)],
)
def test_the_nearest_of_some_names(word, meant):
    names = ["erm", "held_out", "inverse", "inverse_root"]
    assert errors.nearest(word, names) == meant
    hint = "" if meant is None else f"; did you mean {meant}?"
    assert errors.one_of(word, names) == f"one of erm, held_out, inverse, inverse_root{hint}"


@pytest.mark.parametrize("module", [ssm, ssm.practice])
def test_an_unknown_attribute_is_told_with_the_nearest(module):
    """Once: Python's own traceback would say it again if the error had its object."""
    for name in module.__all__:
        with pytest.raises(AttributeError, match=rf"; did you mean {name}\?$") as caught:
            getattr(module, f"{name}z")
        assert caught.value.obj is None


def test_help_describes_every_field():
    text = pydoc.plain(pydoc.render_doc(Config))
    words = " ".join(line.strip(" |") for line in text.splitlines())
    told = tyro_fields(Config)
    assert set(told) >= set(FIELDS)
    for field in dataclasses.fields(Config):
        assert f" {field.name} (" in words and f"default {field.default!r}): " in words
        assert " ".join((told[field.name] or "").split()) in " ".join(words.split())
    assert "loss ('cross_entropy' | 'squared' | " in words
    assert "counts (tuple[int, ...] | None, default None): Samples of each class" in words
    assert words.count("All that defines one run") == 1


def tyro_fields(cls):
    """What tyro reads below the fields, for --help."""
    return {name: get_field_docstring(cls, name, ()) for name in FIELDS}


def test_without_a_source_the_docstring_is_what_is_left(monkeypatch):
    def no_source(_):
        raise OSError

    documentation.docstrings_of_fields.cache_clear()
    documentation._source.cache_clear()
    monkeypatch.setattr(inspect, "getsource", no_source)
    described = type(vars(Config)["__doc__"])("\n    Words.\n    ")
    assert described.__get__(None, Config) == "Words."


def test_another_seed_is_all_that_changes():
    config = Config(num_classes=4, imbalance_ratio=3.0)
    assert config.with_seed(7) == dataclasses.replace(config, seed=7) and config.seed == 0
    seed: Any = np.int64(7)
    assert type(config.with_seed(seed).seed) is int
    with pytest.raises(ssm.InputError, match=r"^seed=-1: must be"):
        config.with_seed(-1)


@dataclasses.dataclass
class Twin:
    x: int = 0
    """Of the module."""


def test_fields_are_found_in_the_class_that_they_belong_to():
    @dataclasses.dataclass
    class Twin:  # of the same name as another
        x: int = 0
        """Of the function."""

    described = documentation.words_of_fields
    assert described(Twin) == {"x": "Of the function."}
    assert described(globals()["Twin"]) == {"x": "Of the module."}
    assert described(dataclasses.make_dataclass("Made", ["x"])) == {}  # which stands nowhere


def test_numbers_of_another_kind_of_run_are_told_apart():
    steps = "learning_rate=0.1: must be left out with optimizer=flow: it is of an optimiser's steps"
    with pytest.raises(ssm.InputError, match=f"^{steps} only$"):
        Config(learning_rate=0.1)
    with pytest.raises(ssm.InputError, match=r"^t1=2.0: must be left out with optimizer=adam: it"):
        Config(optimizer="adam", t1=2)
    with pytest.raises(ssm.InputError, match=r"^clock='loss': must be time with optimizer=adam"):
        Config(optimizer="adam", clock="loss")


def test_every_field_belongs_to_one_group_in_the_order_of_the_fields():
    groups = [group for group in reversed(Config.__mro__) if group is not Config]
    inherited = [
        field.name
        for group in groups
        if dataclasses.is_dataclass(group)
        for field in dataclasses.fields(group)
    ]
    assert inherited == FIELDS[: len(inherited)] and FIELDS[len(inherited) :] == ["seed", "dtype"]


def test_a_field_whose_annotation_leaves_open_what_is_allowed_is_a_mistake():
    @dataclasses.dataclass
    class Open:
        bounded: Annotated[float | None, bounds.Within(0, 1)] = None
        unbounded: float = 0.0

    with pytest.raises(TypeError, match=r"Open\.unbounded has no bounds"):
        bounds.checked_fields(Open())


def test_an_interval_may_hold_only_where_another_field_has_a_value():
    assert Config(init_scale=1e-30).init_scale == 1e-30
    with pytest.raises(ssm.InputError, match=r"number in \[1e-18, 1e\+18\]$"):
        Config(init_scale=1e-30, dtype="float32")
    with pytest.raises(ssm.InputError, match=r"an integer in \[3, 1000000\]$"):
        Config(num_saves=2, save_spacing="log")


def test_even_a_huge_integer_or_a_positional_value_is_one_line():
    with pytest.raises(ssm.InputError, match="seed=a huge int"):
        Config(seed=10**5000)
    with pytest.raises(ssm.InputError, match="Config=3: must be given by the names"):
        Config(3)  # pyright: ignore[reportCallIssue] # wrong on purpose


def test_counts_are_a_profile_of_their_own():
    config = Config(counts=(500, 50, 5))
    assert (config.profile, config.num_classes) == ("custom", 3)
    assert config == Config(profile="custom", counts=(500, 50, 5), num_classes=3)
    assert Config.from_json(config.to_json()) == config
    assert dataclasses.replace(config, seed=1).class_counts == (500, 50, 5)
    assert (Config().profile, Config().num_classes) == ("step", 10)
    said = (
        r"^counts=\(500, 50, 5\): must be left out with profile=step: counts are a custom profile$"
    )
    with pytest.raises(ssm.InputError, match=said):
        dataclasses.replace(config, profile="step")
    back = dataclasses.replace(config, profile=None, counts=None)
    assert back == Config(num_classes=3)


def test_the_json_of_an_earlier_version_is_read():
    """In which the profile is always written."""
    earlier = json.loads(Config(num_classes=3).to_json())
    assert earlier["profile"] == "step" and Config.from_json(json.dumps(earlier)).profile == "step"
    custom = {**earlier, "profile": "custom", "counts": [9, 2, 1]}
    assert Config.from_json(json.dumps(custom)) == Config(counts=(9, 2, 1))


def test_a_custom_profile_replaces_another():
    custom = dataclasses.replace(Config(), profile="custom", counts=(5, 3, 2))
    assert (
        custom.num_classes == 3
        and dataclasses.replace(custom, counts=(9, 1, 1)).class_counts[0] == 9
    )


def test_numpy_numbers_become_plain_ones():
    numbers: dict[str, Any] = {
        "num_classes": np.int64(4),
        "imbalance_ratio": np.float32(2),
        "coupling": 0,
        "class_weights": np.ones(4),
    }
    config = Config(**numbers)
    assert type(config.num_classes) is int and type(config.imbalance_ratio) is float
    assert type(config.coupling) is float and config.class_weights == (1.0,) * 4
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"foo": 1}', '{"coupling": "x"}'])
def test_json_that_is_no_config_is_refused(text):
    with pytest.raises(ssm.InputError):
        Config.from_json(text)


def test_groups_follow_position_for_step_and_count_otherwise():
    assert (
        Config(num_classes=4, imbalance_ratio=1).class_groups
        == ("majority",) * 2 + ("minority",) * 2
    )
    assert Config(profile="custom", counts=(1, 100, 9, 10)).class_groups == (
        "minority",
        "majority",
        "minority",
        "majority",
    )
    assert Config(profile="custom", counts=(5, 5)).class_groups == ("majority",) * 2


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 9) | st.floats(), max_size=4),
    st.sampled_from(["step", "long_tailed", "custom", "squared", "spectral", "log", "float32"]),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=2),
    st.complex_numbers(),
    st.binary(max_size=2),
)


@given(st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=6))
def test_any_values_give_a_config_or_a_value_error_that_names_a_field(values):
    try:
        config = Config(**values)
    except ValueError as error:
        assert str(error).split("=")[0].split("[")[0] in values or "minority" in str(error)
        assert "\n" not in str(error)
    else:
        counts = config.class_counts
        assert len(counts) == config.num_classes >= 2
        assert all(1 <= n <= LARGEST_COUNT for n in counts)
        assert Config.from_json(config.to_json()) == config
