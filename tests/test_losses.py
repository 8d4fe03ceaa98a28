"""Values against independent formulas, gradients against automatic differentiation and finite differences."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ssm import InputError, losses
from ssm.config.loss import MARGIN_LOSSES, NEUTRAL

COUNTS = [200, 60, 15, 4]
COMBINED = {
    "additive_adjustment": 0.7,
    "multiplicative_adjustment": 0.2,
    "largest_margin": 0.4,
    "logit_scale": 3.0,
    "focusing": 1.5,
    "label_smoothing": 0.1,
}
CASES = {**MARGIN_LOSSES, "label_smoothing": {"label_smoothing": 0.1}, "combined": COMBINED}

# one compilation each for all tests of their shapes
adjusted = jax.jit(losses.adjusted_cross_entropy)
adjusted_gradient = jax.jit(losses.adjusted_cross_entropy_gradient)
automatic_gradient = jax.jit(
    jax.grad(lambda z, y, adjustment: losses.adjusted_cross_entropy(z, y, adjustment).sum())
)
log_adjusted = jax.jit(losses.log_adjusted_cross_entropy)
log_adjusted_gradient = jax.jit(losses.adjusted_cross_entropy_log_gradient)


@pytest.fixture
def columns(rng):
    return rng.normal(size=(4, 7)) * 3, rng.integers(0, 4, size=7)


def test_squared_against_numpy(columns):
    Z, y = columns
    S = np.eye(4)[y].T - 0.25
    value = losses.squared(jnp.array(Z), jnp.array(y))
    np.testing.assert_allclose(value, 0.5 * ((Z - S) ** 2).sum(0), rtol=1e-13)


def test_cross_entropy_against_numpy(columns):
    Z, y = columns
    p = np.exp(Z) / np.exp(Z).sum(0)
    value = losses.cross_entropy(jnp.array(Z), jnp.array(y))
    np.testing.assert_allclose(value, -np.log(p[y, np.arange(7)]), rtol=1e-12)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_logit_gradients(columns, name):
    Z, y = jnp.array(columns[0]), jnp.array(columns[1])
    loss = losses.LOSSES[name]
    by_hand = loss.logit_gradient(Z, y)
    automatic = jax.grad(lambda z: loss.value(z, y).sum())(Z)
    np.testing.assert_allclose(by_hand, automatic, atol=1e-14)
    step = 1e-6
    finite = (loss.value(Z.at[1].add(step), y) - loss.value(Z.at[1].add(-step), y)) / (2 * step)
    np.testing.assert_allclose(by_hand[1], finite, atol=1e-8)


def test_the_softmax_of_large_logits_is_finite():
    Z = jnp.array([[1e5, -1e5], [-1e5, 1e5]])
    y = jnp.array([0, 0])
    np.testing.assert_array_equal(losses.cross_entropy(Z, y), [0, 2e5])
    np.testing.assert_array_equal(losses.cross_entropy_gradient(Z, y), [[0, -1], [0, 1]])


@pytest.mark.parametrize("margin", [5, 50, 500, 50_000])
def test_log_space_against_many_digits(margin):
    """Loss and gradient at margins where the loss is as small as e^-50000."""
    behind = [0.0, 0.3, 1.7, 40.0]  # of the other logits, below the one that is next
    z = [float(margin), *(-x for x in behind)]
    Z, y = jnp.array(z)[:, None], jnp.array([0])
    with mpmath.workdps(50):
        others = [mpmath.e ** (mpmath.mpf(x) - margin) for x in z[1:]]
        odds = mpmath.fsum(others)
        exact_loss = mpmath.log(mpmath.log1p(odds))
        exact = [mpmath.log(x / (1 + odds)) for x in (odds, *others)]
    # a difference of logarithms is the relative error of what they are of
    off = abs(float(mpmath.mpf(float(losses.log_cross_entropy(Z, y)[0])) - exact_loss))
    assert off < 1e-12 * max(margin / 500, 1)  # beyond 500 the logarithm itself is rounded to that
    found = losses.cross_entropy_log_gradient(Z, y)[:, 0]
    for ours, theirs in zip(found, exact, strict=True):
        assert abs(float(mpmath.mpf(float(ours)) - theirs)) < 1e-12 * max(margin / 500, 1)


def test_log_space_is_the_logarithm(columns):
    Z, y = jnp.array(columns[0]), jnp.array(columns[1])
    value, gradient = losses.cross_entropy(Z, y), losses.cross_entropy_gradient(Z, y)
    np.testing.assert_allclose(jnp.exp(losses.log_cross_entropy(Z, y)), value, rtol=1e-12)
    magnitudes = jnp.exp(losses.cross_entropy_log_gradient(Z, y))
    np.testing.assert_allclose(magnitudes, abs(gradient), rtol=1e-9)  # softmax - 1 loses some
    order = np.sort(columns[0], axis=0)
    wrong = columns[0].argmax(0) != columns[1]
    margins = np.array(losses.margins(Z, y))
    np.testing.assert_allclose(margins[~wrong], (order[-1] - order[-2])[~wrong], rtol=1e-13)
    assert (margins[wrong] < 0).all()


def case_columns(rng, name):
    """Seven columns whose scaled logits are of size one, where plain formulas lose no digits."""
    scale = CASES[name].get("logit_scale", 1.0)
    return rng.normal(size=(4, 7)) / scale, rng.integers(0, 4, size=7)


def published(name, z, y):
    """A named loss of one column as its paper writes it, by plain exponentials."""
    n = np.array(COUNTS, dtype=float)
    k, others = len(n), [c for c in range(len(n)) if c != y]
    softmax = np.exp(z) / np.exp(z).sum()
    shrunk = (n / n.max()) ** 0.3  # CDT's and VS's
    if name == "logit_adjustment":
        return np.log(1 + sum(n[c] / n[y] * np.exp(z[c] - z[y]) for c in others))
    if name == "cdt":
        return -np.log(np.exp(shrunk[y] * z[y]) / np.exp(shrunk * z).sum())
    if name == "vs":
        return -np.log(n[y] * np.exp(shrunk[y] * z[y]) / (n * np.exp(shrunk * z)).sum())
    if name == "ldam":
        own = np.exp(30 * (z[y] - 0.5 * (n.min() / n[y]) ** 0.25))
        return -np.log(own / (own + sum(np.exp(30 * z[c]) for c in others)))
    if name == "focal":
        return -((1 - softmax[y]) ** 2) * np.log(softmax[y])
    if name == "label_smoothing":
        return -(0.9 * np.log(softmax[y]) + 0.1 * np.log(softmax).mean())
    a = COMBINED
    seen = a["logit_scale"] * (n / n.max()) ** a["multiplicative_adjustment"] * z
    seen = seen + a["additive_adjustment"] * np.log(n / n.sum())
    seen[y] -= a["logit_scale"] * a["largest_margin"] * n[y] ** -0.25 / (n**-0.25).max()
    p = np.exp(seen) / np.exp(seen).sum()
    q = np.full(k, a["label_smoothing"] / k)
    q[y] += 1 - a["label_smoothing"]
    return -((1 - p[y]) ** a["focusing"]) * (q * np.log(p)).sum()


@pytest.mark.parametrize("name", CASES)
def test_adjusted_losses_against_their_papers(rng, name):
    Z, y = case_columns(rng, name)
    value = adjusted(jnp.array(Z), jnp.array(y), losses.adjustment(COUNTS, **CASES[name]))
    exact = [published(name, Z[:, i], y[i]) for i in range(7)]
    np.testing.assert_allclose(value, exact, rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_adjusted_losses(rng, name):
    Z, y = map(jnp.array, case_columns(rng, name))
    numbers = losses.adjustment(COUNTS, **CASES[name])
    scale = float(numbers.factors.max())
    by_hand = adjusted_gradient(Z, y, numbers)
    # rounding of sums of terms up to `scale` times the loss, about 10
    np.testing.assert_allclose(by_hand, automatic_gradient(Z, y, numbers), atol=1e-13 * scale)
    step = 1e-5 / scale
    for c in range(4):
        up, down = (adjusted(Z.at[c].add(x), y, numbers) for x in (step, -step))
        # rounding of the loss (1e-15 / 1e-5) and the third derivative (1e-10 / 6), both of losses 10
        np.testing.assert_allclose(by_hand[c], (up - down) / (2 * step), atol=3e-9 * scale)


@pytest.mark.parametrize(
    ("general", "special"),
    [
        ({**MARGIN_LOSSES["vs"], "additive_adjustment": 0.0}, MARGIN_LOSSES["cdt"]),
        (
            {**MARGIN_LOSSES["vs"], "multiplicative_adjustment": 0.0},
            MARGIN_LOSSES["logit_adjustment"],
        ),
        ({**MARGIN_LOSSES["focal"], "focusing": 0.0}, {}),
        ({**MARGIN_LOSSES["ldam"], "largest_margin": 0.0, "logit_scale": 1.0}, {}),
        (NEUTRAL, {}),
    ],
    ids=["vs-is-cdt", "vs-is-la", "focal-is-ce", "ldam-is-ce", "neutral-is-ce"],
)
def test_losses_that_contain_others(columns, general, special):
    Z, y = map(jnp.array, columns)
    ours, theirs = (losses.adjustment(COUNTS, **x) for x in (general, special))
    np.testing.assert_array_equal(adjusted(Z, y, ours), adjusted(Z, y, theirs))
    np.testing.assert_array_equal(adjusted_gradient(Z, y, ours), adjusted_gradient(Z, y, theirs))


def test_without_adjustment_it_is_cross_entropy(columns):
    Z, y = map(jnp.array, columns)
    neutral = losses.adjustment(COUNTS)
    # cross-entropy rounds to 1e-16 where losses are small
    np.testing.assert_allclose(
        adjusted(Z, y, neutral), losses.cross_entropy(Z, y), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(
        adjusted_gradient(Z, y, neutral), losses.cross_entropy_gradient(Z, y), atol=1e-15
    )
    np.testing.assert_array_equal(log_adjusted(Z, y, neutral), losses.log_cross_entropy(Z, y))
    np.testing.assert_allclose(
        log_adjusted_gradient(Z, y, neutral), losses.cross_entropy_log_gradient(Z, y), atol=1e-13
    )


def test_logit_adjustment_is_balanced_softmax(rng):
    Z, y = case_columns(rng, "logit_adjustment")
    p = np.array(COUNTS)[:, None] * np.exp(Z) / (np.array(COUNTS) @ np.exp(Z))
    numbers = losses.adjustment(COUNTS, additive_adjustment=1)
    value = adjusted(jnp.array(Z), jnp.array(y), numbers)
    np.testing.assert_allclose(value, -np.log(p[y, np.arange(7)]), rtol=1e-12)
    gradient = adjusted_gradient(jnp.array(Z), jnp.array(y), numbers)
    np.testing.assert_allclose(gradient, p - np.eye(4)[y].T, atol=1e-14)


def test_the_class_weight_stays_outside_the_focal_factor():
    """Common code takes p_y = exp(-w CE), which the weight then changes."""
    w, y = 4.0, jnp.zeros(7, int)
    Z = jnp.zeros((4, 7)).at[0].set(np.log(3))  # p_y = 1/2
    value = adjusted(Z, y, losses.adjustment(COUNTS, focusing=1))
    ours = losses.weighted_risk(value, y, np.array([w, 1.0, 1.0, 1.0]), "mean")
    cross_entropy = w * np.log(2)
    common = (1 - np.exp(-cross_entropy)) * cross_entropy
    assert float(ours) == pytest.approx(w * (1 - 0.5) * np.log(2), rel=1e-14)
    assert common / float(ours) == pytest.approx(1.875, rel=1e-14)


@pytest.mark.parametrize("focusing", [0.0, 0.5, 2.0])
def test_the_focal_factor_is_finite_where_probabilities_round(focusing):
    """p_y rounds to 1 in the first column, 1 - p_y underflows in the second, p_y in the third."""
    Z = jnp.array([[50.0, 2e3, -1e5], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    y = jnp.zeros(3, int)
    numbers = losses.adjustment(COUNTS, focusing=focusing)
    value, gradient = adjusted(Z, y, numbers), adjusted_gradient(Z, y, numbers)
    wrong = 3 * np.exp(-50.0)
    np.testing.assert_allclose(value[0], wrong ** (1 + focusing), rtol=1e-13)
    slope = (1 + focusing) * wrong ** (1 + focusing)
    np.testing.assert_allclose(gradient[:, 0], slope * np.array([-1, *[1 / 3] * 3]), rtol=1e-13)
    assert float(value[1]) == 0
    assert (gradient[:, 1] == 0).all()
    assert float(value[2]) == pytest.approx(1e5 + np.log(3), rel=1e-14)
    np.testing.assert_allclose(gradient[:, 2], [-1, *[1 / 3] * 3], rtol=1e-9)  # digits of 1e5
    assert jnp.isfinite(automatic_gradient(Z, y, numbers)).all()


@pytest.mark.parametrize("margin", [5, 50, 500, 50_000])
def test_adjusted_log_space_against_many_digits(margin):
    """VS, LDAM and focal at once, at margins where the loss is as small as e^-100000."""
    a = COMBINED | {"label_smoothing": 0.0}
    z, y = [0.3, float(margin), -1.7, 0.0], 1
    Z, labels = jnp.array(z)[:, None], jnp.array([y])
    numbers = losses.adjustment(COUNTS, **a)
    ours = [*log_adjusted(Z, labels, numbers), *log_adjusted_gradient(Z, labels, numbers)[:, 0]]
    with mpmath.workdps(50):
        mpf = mpmath.mpf
        factors = [
            a["logit_scale"] * (mpf(n) / 200) ** a["multiplicative_adjustment"] for n in COUNTS
        ]
        seen = [
            factors[c] * z[c] + a["additive_adjustment"] * mpmath.log(mpf(n) / sum(COUNTS))
            for c, n in enumerate(COUNTS)
        ]
        seen[y] -= a["logit_scale"] * a["largest_margin"] * (mpf(4) / COUNTS[y]) ** mpf(0.25)
        behind = [mpmath.e ** (x - seen[y]) for c, x in enumerate(seen) if c != y]
        odds = mpmath.fsum(behind)
        right, wrong, plain = 1 / (1 + odds), odds / (1 + odds), mpmath.log1p(odds)
        focal = wrong ** a["focusing"]
        # dl/dz'_y = -focal (1 - p_y + gamma p_y CE), and the others share its negative as softmax
        own = focal * (wrong + a["focusing"] * right * plain)
        shares = [*behind[:1], odds, *behind[1:]]
        gradient = [f * own * x / odds for f, x in zip(factors, shares, strict=True)]
        exact = [mpmath.log(x) for x in (focal * plain, *gradient)]
        for found, theirs in zip(ours, exact, strict=True):
            off = abs(float(mpf(float(found)) - theirs))
            # a sum of a few logarithms of this size, each rounded
            assert off < 1e-13 + 8 * np.finfo(float).eps * abs(float(theirs))


def test_adjusted_log_space_is_the_logarithm(rng):
    Z, y = map(jnp.array, case_columns(rng, "combined"))
    numbers = losses.adjustment(COUNTS, **(COMBINED | {"label_smoothing": 0.0}))
    value, gradient = adjusted(Z, y, numbers), adjusted_gradient(Z, y, numbers)
    np.testing.assert_allclose(jnp.exp(log_adjusted(Z, y, numbers)), value, rtol=1e-13)
    signs = np.where(np.arange(4)[:, None] == np.array(y), -1, 1)
    np.testing.assert_allclose(
        signs * jnp.exp(log_adjusted_gradient(Z, y, numbers)), gradient, rtol=1e-13
    )
    smoothed = losses.adjustment(COUNTS, **COMBINED)
    np.testing.assert_array_equal(log_adjusted(Z, y, smoothed), log_adjusted(Z, y, numbers))


def test_numbers_become_arrays_in_float64():
    numbers = losses.adjustment(
        [8, 128], additive_adjustment=1, multiplicative_adjustment=0.5, largest_margin=2
    )
    np.testing.assert_allclose(numbers.factors, [0.25, 1], rtol=1e-15)
    np.testing.assert_allclose(numbers.offsets, np.log([1 / 17, 16 / 17]), rtol=1e-14)
    np.testing.assert_allclose(numbers.margins, [2, 1], rtol=1e-15)
    for leaf in (*numbers, *losses.adjustment(COUNTS, logit_scale=3)):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype == np.float64


def test_adjustments_can_be_traced(columns):
    """Hyperparameters as axes of one compilation, with the values that host numbers give."""
    Z, y = map(jnp.array, columns)
    traces = []

    @jax.jit
    @jax.vmap
    def swept(numbers):
        traces.append(1)
        return losses.adjusted_cross_entropy(Z, y, losses.adjustment(COUNTS, **numbers))

    values = jnp.linspace(0.5, 1, 3)
    for scale in (1.0, 2.0):
        by_vmap = swept({name: scale * x * values for name, x in COMBINED.items()})
        for i, value in enumerate(values):
            numbers = {name: float(scale * x * value) for name, x in COMBINED.items()}
            alone = adjusted(Z, y, losses.adjustment(COUNTS, **numbers))
            np.testing.assert_allclose(by_vmap[i], alone, rtol=1e-13)
    assert len(traces) == 1


def test_reductions_by_hand():
    values, labels = jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 1, 1])
    weights = np.array([0.5, 3.0])
    mean = losses.weighted_risk(values, labels, weights, "mean")
    assert float(mean) == pytest.approx((0.5 * 1 + 3 * 2 + 3 * 4) / 3, rel=1e-15)
    weighted = losses.weighted_risk(values, labels, weights, "weighted_mean")
    assert float(weighted) == pytest.approx((0.5 * 1 + 3 * 2 + 3 * 4) / (0.5 + 3 + 3), rel=1e-15)
    with pytest.raises(InputError, match="reduction='sum': must be one of mean, weighted_mean"):
        losses.weighted_risk(values, labels, weights, "sum")


BAD_NUMBERS = {
    "additive_adjustment": np.nan,
    "multiplicative_adjustment": np.nan,
    "largest_margin": np.inf,
    "logit_scale": "1",
    "focusing": None,
    "label_smoothing": 1.0,
}


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_numbers_of_no_adjustment_are_refused_by_name(name, untyped):
    with pytest.raises(InputError, match=rf"^{name}=.*: must be a finite number"):
        losses.adjustment(COUNTS, **{name: BAD_NUMBERS[name]})
    with pytest.raises(InputError, match=r"^additive_adjustment="):
        losses.adjustment(COUNTS, additive_adjustment=jnp.array(jnp.nan))  # known, not traced


@pytest.mark.parametrize(
    "counts", [[3, 0], [3, -1], [3.0, np.nan], [np.inf, 1.0], [], [[3, 1], [2, 2]], None]
)
def test_counts_that_are_none_are_refused_by_name(counts, untyped):
    with pytest.raises(InputError, match=r"^counts=.*: must be positive finite numbers"):
        losses.adjustment(counts)


def test_numbers_that_are_being_traced_pass():
    """A sweep over an adjustment is a vmap, in which no value is known."""

    def offsets(additive):
        return losses.adjustment(COUNTS, additive_adjustment=additive).offsets

    found = jax.jit(jax.vmap(offsets))(jnp.array([0.0, 2.0]))
    prior = np.array(COUNTS) / sum(COUNTS)
    np.testing.assert_allclose(found, [np.zeros(4), 2 * np.log(prior)], rtol=1e-15)
