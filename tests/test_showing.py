"""A Config is shown by what differs from its defaults: as the call that makes it, and as a table in a notebook."""

import dataclasses
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import rich.pretty

from ssm import Config
from ssm.config import showing
from ssm.problem import make_problem
from ssm.results import schema

CONFIGS = {
    "standard": Config(),
    "step": Config(num_classes=7, imbalance_ratio=33.3, minority_fraction=0.3, weight_exponent=0.5),
    "negative": Config(profile="long_tailed", imbalance_ratio=1e6, weight_exponent=-10),
    "counts": Config(counts=(9, 9, 4, 2), class_weights="balanced", seed=3),
    "sqrt": Config(counts=tuple(range(1, 40)), class_weights="sqrt", loss="squared"),
    "given": Config(num_classes=2, class_weights=(0.5, 3.0)),
    "of unit mean": Config(num_classes=2, class_weights=(0.5, 3.0), reduction="weighted_mean"),
    "effective": Config(profile="long_tailed", class_weights="effective"),
    "beta": Config(profile="long_tailed", effective_number_beta=0.999),
    "no beta": Config(profile="long_tailed", effective_number_beta=0.0),
    "absent": Config(targets="own", counts=(6, 0, 2), weight_exponent=0.5),
    "absent and named": Config(targets="own", counts=(0, 6, 2), class_weights="effective"),
    "absent and given": Config(
        targets="own", counts=(6, 0, 2), class_weights=(0.5, 7.0, 3.0), reduction="weighted_mean"
    ),
    "steps": Config(
        optimizer="adam", num_steps=999, drop_step=(2, 5), learning_rate_schedule="step"
    ),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def parsed(config):
    """Its table as a tree; without entities but those of XML it is read as such, so that no mark is left open."""
    return ElementTree.fromstring(config._repr_html_())


def fields(tree):
    """What tables of three columns show, by field."""
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]
    return {row[1]: row[2] for row in rows if len(row) == 3}


@each
def test_a_config_is_shown_as_the_shortest_call_that_makes_it(config):
    assert eval(repr(config), {"Config": Config}) == config
    for name, value in showing.differing(config).items():
        assert f"{name}={value!r}" in repr(config)
        assert value != getattr(Config(), name)


def test_only_what_differs_is_shown():
    assert repr(Config(loss="squared", seed=1)) == "Config(loss='squared', seed=1)"
    assert repr(Config(imbalance_ratio=10, profile="step")) == "Config()"
    assert rich.pretty.pretty_repr(Config(seed=1)) == "Config(seed=1)"


@each
def test_the_table_has_every_field_once_with_its_value(config):
    tree = parsed(config)
    (folded,) = tree.iter("details")
    hidden, shown = fields(folded), fields(tree)
    assert sorted(shown) == sorted(field.name for field in dataclasses.fields(Config))
    assert sum(len(row) == 3 for row in tree.iter("tr")) == len(shown)
    differing = showing.differing(config)
    assert set(hidden) == set(shown) - set(differing)
    assert {mark.text for mark in folded.iter("strong")} == set()
    assert set(differing) <= {mark.text for mark in tree.iter("strong")}
    for name, text in shown.items():
        value = getattr(config, name)
        if len(repr(value)) < 60:
            assert text == repr(value)
    assert f"{len(hidden)} fields at their defaults" == next(folded.iter("summary")).text


def test_every_group_has_its_title_beside_its_first_field():
    (folded,) = parsed(Config()).iter("details")
    titles = ["".join(next(iter(row)).itertext()) for row in folded.iter("tr")]
    assert [title for title in titles if title] == list(showing.GROUPS.values())


@each
def test_weights_of_classes_are_those_of_the_problem(config):
    # two roundings of 1e-16 each, in sums of at most 40 terms
    expected = make_problem(config).class_weights
    np.testing.assert_allclose(showing.class_weights(config), expected, rtol=1e-14)


def test_classes_that_are_alike_share_a_row():
    config = Config(num_classes=5, imbalance_ratio=4, minority_count=2, weight_exponent=1)
    # STEP with round(0.5 * 5) = 2 minorities; w_c = n / (k n_c) with n = 3 * 8 + 2 * 2
    rows = [[cell.text or "" for cell in row] for row in parsed(config).iter("tr")]
    assert ["0 to 2", "majority", "8", "0.7"] in rows
    assert ["3 to 4", "minority", "2", "2.8"] in rows
    text = config._repr_html_()
    assert "28 samples in 5 classes; 28 feature columns, which stand for samples" in text
    assert "stand for classes" in dataclasses.replace(config, coupling=1)._repr_html_()
    later = dataclasses.replace(config, weight_start=5.0)
    assert "weight (from 5 on)" in later._repr_html_()


def test_many_classes_and_long_tuples_stay_short():
    config = Config(counts=tuple(range(1, 1001)))
    assert len(config._repr_html_()) < 20_000
    assert fields(parsed(config))["counts"] == "(1, 2, 3, 4, …, 999, 1000), 1000 values"
    assert eval(repr(config), {"Config": Config}) == config


def test_nothing_in_a_value_is_a_mark():
    config = Config()
    object.__setattr__(config, "loss", "<script>alert('&')</script>")  # past all checks
    assert "<script>" not in config._repr_html_()
    assert fields(parsed(config))["loss"] == repr("<script>alert('&')</script>")


def test_a_theme_decides_on_colours():
    text = CONFIGS["step"]._repr_html_()
    assert "color" not in text and "background" not in text


def test_showing_needs_no_numbers():
    code = "import ssm, sys; ssm.Config()._repr_html_(), repr(ssm.Config()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "xarray"} & set(done.stdout.split())


def test_variables_of_a_result_say_what_they_are(run):
    """The HTML of xarray shows these attributes beside each variable."""
    dataset = run()
    for name in {*dataset.data_vars, *schema_coordinates(dataset)}:
        assert dataset[name].attrs["description"], name
    text = dataset._repr_html_()
    assert dataset["strength"].attrs["description"].split(";")[0] in text
    assert "weighted training loss" in text


def schema_coordinates(dataset):
    """Coordinates but the indices, which only number or name what they are of."""
    return [name for name in dataset.coords if name not in schema.INDICES]
