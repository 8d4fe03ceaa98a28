"""What is given beside a Config: a loss, an optimiser, observables and a start of one's own."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ssm
from ssm import additions, preparation
from ssm.dynamics import trajectories
from ssm.dynamics.parameters import Params, classifier
from ssm.problem.own_loss import own_loss

SMALL: dict[str, Any] = {
    "num_classes": 4,
    "imbalance_ratio": 4.0,
    "minority_count": 2,
    "feature_dim": 6,
}
# by most tests, for the programs of that many times
SHARED: dict[str, Any] = SMALL | {"num_saves": 50}


class OwnCrossEntropy(NamedTuple):
    """Cross-entropy of scaled logits, written again."""

    scale: float = 1.0
    version = "1"

    def value(self, logits, labels):
        own = jnp.take_along_axis(self.scale * logits, labels[None], 0)[0]
        return jax.nn.logsumexp(self.scale * logits, axis=0) - own


class WithLogarithm(NamedTuple):
    """Cross-entropy that is known to any margin, by its leading term beyond a number."""

    far: float = -30.0
    version = "1"

    def value(self, logits, labels):
        return jnp.exp(self.log_value(logits, labels))

    def log_value(self, logits, labels):
        own = jnp.arange(len(logits))[:, None] == labels[None]
        behind = logits - jnp.where(own, logits, 0).sum(0)[None]
        odds = jax.nn.logsumexp(jnp.where(own, -jnp.inf, behind), axis=0)
        plain = jnp.log(jnp.log1p(jnp.exp(jnp.maximum(odds, self.far))))
        return jnp.where(odds < self.far, odds, plain)


class Risk(NamedTuple):
    """The weighted training loss, written again."""

    factor: float = 1.0
    dims = ()
    units = "loss"
    words = "weighted training loss"
    version = "1"

    def __call__(self, params, columns, time):
        logits = columns.logits(classifier(params), params.H, params.bias)
        return self.factor * jnp.dot(columns.risk_weights, columns.losses(logits))


class Margin(NamedTuple):
    """The least margin of a sample."""

    dims = ()
    units = "logit"
    words = "least margin of a sample"

    def __call__(self, params, columns, time):
        return columns.margin(columns.logits(classifier(params), params.H, params.bias))


class FeatureNorm(NamedTuple):
    """The norm of each sample's features."""

    dims = ("sample",)
    units = "1"
    words = "norm of the features of a sample"

    def __call__(self, params, columns, time):
        return jnp.linalg.norm(columns.features(params.H), axis=0)


class Undefined(NamedTuple):
    """No number at the start."""

    dims = ()
    units = "1"
    words = "nothing"

    def __call__(self, params, columns, time):
        return jnp.where(time > 0, time, jnp.nan)


class Adam(NamedTuple):
    """Adam, made of its number."""

    b2: float = 0.999
    version = "1"

    def transformation(self):
        return optax.adam(1.0, b2=self.b2)


def shared(run, other):
    """Variables that two runs have both, but for what theory says of a loss that it knows."""
    return [name for name in other if name in run and name != "predicted_learning_time"]


def largest_error(run, other):
    """Of all variables that two runs share, over the size of each; NaN stands in the same places."""
    errors = []
    for name in shared(run, other):
        x, y = run[name].values, other[name].values
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        errors.append(np.nanmax(np.abs(x - y), initial=0) / max(np.nanmax(np.abs(y), initial=0), 1))
    return max(errors)


@pytest.mark.parametrize("weights", [0.0, 0.5])
def test_an_own_loss_that_equals_a_builtin_one_gives_its_run(weights):
    config = ssm.Config(**SHARED, t1=60.0, weight_exponent=weights, save_state=True)
    run = ssm.simulate(config, loss=OwnCrossEntropy())
    # Rounding, which the flow's growth of early differences makes larger.
    assert largest_error(run, ssm.simulate(config)) < 1e-12
    assert ssm.Config.from_json(run.attrs["config"]).loss == "own"
    assert "OwnCrossEntropy" in run.attrs["own_loss"] and '"scale": 1.0' in run.attrs["own_loss"]


def test_the_numbers_of_an_own_loss_are_traced():
    """A temperature is a scale of the logits: the flow of s z from (W, H) is that of z from s^(1/2) (W, H)."""
    config = ssm.Config(**SHARED, t1=40.0, save_state=True)
    ssm.simulate(config, loss=OwnCrossEntropy())
    before = trajectories.num_compilations()
    run = ssm.simulate(config, loss=OwnCrossEntropy(2.0))
    assert trajectories.num_compilations() == before
    other = ssm.simulate(dataclasses.replace(config, logit_scale=2.0))
    np.testing.assert_allclose(run["strength"], other["strength"], atol=1e-12)


def test_the_gradient_of_an_own_logarithm(rng):
    """log |dl/dz_c| is log p_c, and log (1 - p_y) of the label, to some roundings of either."""
    logits, labels = 3 * rng.normal(size=(4, 8)), np.arange(8) % 4
    odds = np.exp(logits)
    own = np.eye(4, dtype=bool)[:, labels]
    expected = np.log(np.where(own, np.where(own, 0, odds).sum(0), odds) / odds.sum(0))
    loss = own_loss(WithLogarithm(), 4)
    found = jax.jit(lambda z, y: loss.log_logit_gradient(z, y))(logits, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
def test_an_own_loss_with_its_logarithm_runs_by_the_loss_clock():
    config = ssm.Config(**SHARED, clock="loss", t1=40.0, init_scale=0.1, rtol=1e-9)
    run, other = ssm.simulate(config, loss=WithLogarithm()), ssm.simulate(config)
    assert run["margin"].values[-1] > 5
    for name in ("log_loss", "margin", "strength", "log_time"):
        x, y = run[name].values, other[name].values
        np.testing.assert_allclose(x[1:], y[1:], rtol=1e-6)  # the flow's tolerance, some 1000 steps


@pytest.fixture(scope="module")
def observed():
    """A run that is asked for several observables, which share its compilation."""
    own = {"least": Margin(), "feature_norm": FeatureNorm(), "nothing": Undefined()}
    own |= {"risk": Risk(), "twice": Risk(2.0)}
    config = ssm.Config(**SHARED, t1=40.0, stop_margin=50.0, save_state=True)
    return ssm.simulate(config, observables=own)


def test_own_observables_that_equal_builtin_ones(observed):
    np.testing.assert_array_equal(observed["least"], observed["margin"])
    expected = {"description": "least margin of a sample", "units": "logit"}
    assert observed["least"].attrs == expected
    np.testing.assert_allclose(observed["risk"], observed["loss"], rtol=1e-14)  # another order
    np.testing.assert_array_equal(observed["twice"], 2 * observed["risk"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [{}, {"loss": "squared"}, {"coupling": 1.0}, {"optimizer": "adam", "num_steps": 50}],
)
def test_an_own_observable_is_asked_in_every_kind_of_run_and_changes_nothing(
    compiled_as_for_users, fields
):
    config = ssm.Config(**SHARED, **fields)
    run = ssm.simulate(config, observables={"risk": Risk(), "twice": Risk(2.0)})
    np.testing.assert_allclose(run["risk"], run["loss"], rtol=1e-14)  # sums in another order
    np.testing.assert_array_equal(run["twice"], 2 * run["risk"])
    np.testing.assert_array_equal(run["loss"], ssm.simulate(config)["loss"])


def test_an_own_observable_of_samples_has_no_padding(observed, tmp_path):
    expected = np.linalg.norm(observed["H"].values, axis=1)
    np.testing.assert_allclose(observed["feature_norm"], expected, rtol=1e-14)
    ssm.save(observed, tmp_path / "run.zarr")
    again = ssm.load(tmp_path / "run.zarr")
    np.testing.assert_array_equal(again["feature_norm"], observed["feature_norm"])
    assert again["feature_norm"].dims == ("time", "sample")


def test_an_undefined_own_observable_does_not_end_a_run(observed):
    assert observed.attrs["status"] == "finished"
    np.testing.assert_array_equal(np.isnan(observed["nothing"]), np.arange(50) == 0)
    np.testing.assert_array_equal(observed["nothing"][1:], observed["time"][1:])


def test_an_own_optimizer_that_equals_a_builtin_one_gives_its_run():
    config = ssm.Config(**SHARED, optimizer="adam", num_steps=50)
    run = ssm.simulate(config)
    left_out = dataclasses.replace(config, optimizer="own")
    for own in (optax.adam(1.0), Adam()):
        # Padding, which an own optimiser does not get, may change the order of sums.
        assert largest_error(ssm.simulate(left_out, optimizer=own), run) < 1e-12
    before = trajectories.num_compilations()
    other = ssm.simulate(left_out, optimizer=Adam(0.9))
    assert trajectories.num_compilations() == before
    assert np.abs(other["loss"].values - run["loss"].values).max() > 1e-3


def numpy_cdt(W, H, labels, gamma, rate, steps, every):
    """Training by gradient descent on the CDT loss, a loop of NumPy: the logits at observed steps."""
    counts = np.bincount(labels)
    factors = (counts / counts.max()) ** gamma
    one_hot = np.eye(len(counts))[labels].T
    seen = [W @ H]
    for step in range(1, steps + 1):
        scaled = factors[:, None] * (W @ H)
        p = np.exp(scaled - scaled.max(axis=0))
        p /= p.sum(axis=0)
        G = factors[:, None] * (p - one_hot) / len(labels)
        W, H = W - rate * G @ H.T, H - rate * W.T @ G
        if step % every == 0:
            seen.append(W @ H)
    return np.stack(seen)


def test_a_start_reproduces_a_loop_of_cdt_training():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), [8, 8, 2, 2])
    W, H = rng.normal(size=(4, 6)), 0.5 * rng.normal(size=(6, 20))
    config = ssm.Config(
        **SMALL,
        num_saves=13,
        loss="cdt",
        optimizer="gd",
        learning_rate=0.3,
        num_steps=12_000,
        save_state=True,
    )
    run = ssm.simulate(config, start=Params(W, H))
    expected = numpy_cdt(W, H, labels, 0.3, 0.3, 12_000, 1000)
    logits = run["W"].values @ run["H"].values
    # The rounding of 12,000 steps of a convex fall.
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(run["W"][0], W)
    kept = ssm.Config.from_json(run.attrs["config"])
    assert kept.init == "own" and np.isclose(
        kept.init_scale, np.sqrt(((W**2).sum() + (H**2).sum()) / 144)
    )
    assert run.attrs["start"].startswith("sha256 ")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        pytest.param({"loss": "squared"}, marks=pytest.mark.slow),
        pytest.param({"coupling": 0.3}, marks=pytest.mark.slow),
        {"coupling": 0.3, "between_coupling": 0.1, "loss": "squared"},
        {"depth": 3},
        pytest.param({"bias": "both"}, marks=pytest.mark.slow),
    ],
)
def test_a_start_that_a_config_has_drawn_gives_its_run(fields):
    config = ssm.Config(**SHARED, t1=20.0, save_state=True, rtol=1e-9, **fields)
    run = ssm.simulate(config)
    hidden = tuple(run["hidden"].values[0]) if "hidden" in run else ()
    bias = run["bias"].values[0] if "bias" in run else None
    start = Params(run["W"].values[0], run["H"].values[0], hidden, bias)
    again = ssm.simulate(config, start=start)
    # The tolerance of two flows, of which one follows coordinates where the loss is squared.
    np.testing.assert_allclose(again["strength"], run["strength"], atol=1e-6)
    np.testing.assert_allclose(again["loss"], run["loss"], rtol=1e-6)


def test_a_start_of_shared_features_has_a_column_a_class():
    config = ssm.Config(**SHARED, coupling=1.0, t1=20.0, save_state=True, rtol=1e-10)
    run = ssm.simulate(config)
    start = Params(run["W"].values[0], run["H"].values[0])
    np.testing.assert_allclose(ssm.simulate(config, start=start)["loss"], run["loss"], rtol=1e-8)


W, H = np.ones((4, 6)), np.ones((6, 20))


class Flat(NamedTuple):
    """A loss without a gradient."""

    def value(self, logits, labels):
        return (logits.argmax(0) != labels).astype(logits.dtype)


class NotFinite(NamedTuple):
    """A loss that is not a number."""

    def value(self, logits, labels):
        return jnp.log(-jnp.ones(len(labels))) + 0 * logits.sum(0)


class OfAll(NamedTuple):
    """A loss whose samples are not alone."""

    def value(self, logits, labels):
        return OwnCrossEntropy().value(logits - logits.mean(), labels) * logits.shape[1]


class Total(NamedTuple):
    """A loss of all samples together."""

    def value(self, logits, labels):
        return OwnCrossEntropy().value(logits, labels).sum()


class WrongLogarithm(NamedTuple):
    """A loss whose logarithm is another's."""

    def value(self, logits, labels):
        return OwnCrossEntropy().value(logits, labels)

    def log_value(self, logits, labels):
        return jnp.log(2 * self.value(logits, labels))


class Words(NamedTuple):
    """No numbers."""

    name: str = "x"

    def value(self, logits, labels):
        return logits.sum(0)


class WrongShape(NamedTuple):
    """An observable of another shape than it says."""

    dims = ("class",)
    units = "1"
    words = "nothing"

    def __call__(self, params, columns, time):
        return params.W


class Complex(NamedTuple):
    """An observable that is no real number."""

    dims = ()
    units = "1"
    words = "nothing"

    def __call__(self, params, columns, time):
        return jnp.sqrt(params.W[0, 0] + 0j)


@pytest.mark.parametrize(
    ("fields", "given", "line"),
    [
        ({}, {"start": (W, H)}, "start=(array"),
        (
            {},
            {"start": Params(W.T, H)},
            "start.W='an array of shape (6, 4)': must be a matrix of real numbers of shape (4, 6)",
        ),
        ({}, {"start": Params(W, H[:, 1:])}, "start.H='an array of shape (6, 19)'"),
        ({}, {"start": Params(W * np.nan, H)}, "start.W='not finite at [0, 0]'"),
        ({}, {"start": Params(0 * W, 0 * H)}, "start='all 0'"),
        (
            {},
            {"start": Params(W, H, (np.eye(6),))},
            "start.hidden='1 layers': must be 0 layers at depth=2",
        ),
        ({}, {"start": Params(W, H, (), np.ones(4))}, "start.bias='given'"),
        (
            {"bias": "output"},
            {"start": Params(W, H, (), np.ones(3))},
            "start.bias='an array of shape (3, 1)'",
        ),
        (
            {"init": "balanced"},
            {"start": Params(W, H)},
            "init='balanced': must be left out where start is given",
        ),
        (
            {"init_scale": 0.1},
            {"start": Params(W, H)},
            "init_scale=0.1: must be left out where start is given",
        ),
        ({"init": "own"}, {}, "init='own': must be another word unless start is given"),
        ({"loss": "own"}, {}, "loss='own': must be another word unless loss is given"),
        (
            {"optimizer": "own"},
            {},
            "optimizer='own': must be another word unless optimizer is given",
        ),
        ({"coupling": 0.5, "held_out": True}, {"start": Params(W, H)}, "held_out=True"),
        (
            {"loss": "squared"},
            {"loss": OwnCrossEntropy()},
            "loss='squared': must be left out where loss is given",
        ),
        (
            {"focusing": 2.0, "loss": "own"},
            {"loss": OwnCrossEntropy()},
            "focusing=2.0: must be left out under a loss of one's own",
        ),
        ({}, {"loss": OwnCrossEntropy()}, "t1=None: must be given with a loss of one's own"),
        (
            {"optimizer": "gd"},
            {"loss": OwnCrossEntropy()},
            "learning_rate=None: must be given with a loss",
        ),
        (
            {"t1": 1.0, "clock": "loss"},
            {"loss": OwnCrossEntropy()},
            "clock='loss': must be time with a loss of one's own that has no log_value",
        ),
        ({}, {"loss": "mine"}, "loss='mine': must be an object with value(logits, labels)"),
        ({}, {"loss": OwnCrossEntropy}, "an object with value(logits, labels)"),
        ({}, {"loss": Flat()}, "loss='Flat': must be a loss with a gradient"),
        ({}, {"loss": NotFinite()}, "loss='NotFinite': must be finite"),
        ({}, {"loss": Total()}, "loss='Total': must be of one value a column, shape (8,), not ()"),
        (
            {},
            {"loss": OfAll()},
            "loss='OfAll': must be of values that depend on their own column only",
        ),
        ({}, {"loss": WrongLogarithm()}, "log_value is the logarithm of its value"),
        ({}, {"loss": Words()}, "must be a pytree of numbers"),
        ({}, {"optimizer": "adam"}, "optimizer='adam': must be a transformation of optax"),
        (
            {"optimizer": "adam"},
            {"optimizer": optax.sgd(1.0)},
            "optimizer='adam': must be left out where optimizer is given",
        ),
        ({}, {"observables": [Risk()]}, "observables=[Risk"),
        (
            {},
            {"observables": {"loss": Risk()}},
            "observables='loss': must be a name that no variable",
        ),
        ({}, {"observables": {"a b": Risk()}}, "observables='a b': must be a name of letters"),
        (
            {},
            {"observables": {"x": lambda *_: 1}},
            "observables[x].dims=None: must be an object with dims, a tuple",
        ),
        (
            {},
            {"observables": {"x": WrongShape()}},
            "observables[x]='of shape (4, 6)': must be of the shape of its dims, (class)",
        ),
        (
            {},
            {"observables": {"x": Complex()}},
            "observables[x]='of type complex128': must be of real numbers",
        ),
        (
            {"loss": "squared"},
            {"observables": {"x": FeatureNorm()}},
            "without the dimension sample: this run follows its features by coordinates",
        ),
    ],
)
def test_what_cannot_be_given_is_refused_in_one_line(fields, given, line):
    with pytest.raises(ssm.InputError) as caught:
        config, beside = additions.additions(ssm.Config(**SHARED, **fields), **given)
        preparation.prepare(config, given=beside.of(config))
    assert line in str(caught.value) and "\n" not in str(caught.value)
