"""Weights that follow predictive uncertainty: the formula, where the uncertainty comes from, and what is refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import LinearSVC

import ssm
from ssm.problem.schedules import (
    Chain,
    LinearRamp,
    PrevalencePower,
    Ramp,
    Statistics,
    Uncertainty,
    UnitMean,
    class_entropy,
)

COUNTS = np.array([100.0, 40.0, 7.0])
UNCERTAIN = np.array([0.1, 0.2, 0.6])


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 2.0])
def test_weights_are_powers_of_uncertainty_over_its_mean(exponent):
    """The same with NumPy as with JAX, compiled; a class without any uncertainty keeps a weight."""
    part, ones = Uncertainty(exponent), np.ones(3)
    expected = (UNCERTAIN / 0.3) ** exponent
    found, _ = part.update(ones, (), Statistics(COUNTS, uncertainty=UNCERTAIN), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert type(found) is np.ndarray
    compiled = jax.jit(lambda u: part.update(jnp.ones(3), (), Statistics(COUNTS, None, None, u), 0))
    np.testing.assert_allclose(compiled(jnp.asarray(UNCERTAIN))[0], expected, rtol=1e-13)
    certain, _ = part.update(ones, (), Statistics(COUNTS, uncertainty=np.zeros(3)), 0)
    np.testing.assert_array_equal(certain, ones)


def test_what_holds_it_needs_what_it_needs():
    part, other = Uncertainty(1.0), PrevalencePower(1.0)
    ramp = LinearRamp(0, 1)
    for needing in (part, Chain(other, part, UnitMean()), Ramp(ramp, Chain(part))):
        assert needing.needs_uncertainty and not needing.needs_performance
    for without in (other, Chain(other), Ramp(ramp, other)):
        assert not without.needs_uncertainty
    with pytest.raises(ssm.InputError, match=r"^uncertainty=None: must be known where weights"):
        part.update(np.ones(3), (), Statistics(COUNTS), 0)
    with pytest.raises(ssm.InputError, match=r"^exponent"):
        Uncertainty("much")


def test_entropy_is_the_mean_of_each_class():
    rng = np.random.default_rng(0)
    p, labels, s = rng.dirichlet(np.ones(4), 60), np.arange(60) % 4, rng.integers(1, 4, 60)
    p[0] = [1, 0, 0, 0]
    each = np.array([stats.entropy(row, base=4) for row in p])
    expected = [np.average(each[labels == c], weights=s[labels == c]) for c in range(4)]
    np.testing.assert_allclose(class_entropy(p, labels, s), expected, rtol=1e-12)


def test_rounds_follow_the_entropy_of_an_ensemble_on_samples_that_it_has_not_seen():
    """Out-of-fold probabilities as scikit-learn's cross-validation has them; in the first round weights are ones, so that nothing is
    taken back."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [140, 60, 24])
    X = rng.normal(size=(224, 2)) + np.array([[0, 0], [1.5, 0], [0, 1.5]])[y]
    cv = StratifiedKFold(4)
    ensemble = BaggingClassifier(LogisticRegression(), n_estimators=3, random_state=0)
    model = ssm.Reweighted(ensemble, schedule=Uncertainty(1.5), rounds=2, cv=cv).fit(X, y)
    p: Any = cross_val_predict(ensemble, X, y, cv=cv, method="predict_proba")
    u = class_entropy(p, y)
    np.testing.assert_allclose(model.round_weights_[0], (u / u.mean()) ** 1.5, rtol=1e-9)
    assert model.class_weights_[2] > model.class_weights_[0]
    # The weights of the first round are taken back, so that the second hardly differs.
    np.testing.assert_allclose(model.round_weights_[1], model.round_weights_[0], rtol=0.3)


def test_what_has_no_probabilities_is_refused():
    model = ssm.Reweighted(LinearSVC(), schedule=Chain(Uncertainty(1.0), UnitMean()))
    with pytest.raises(ssm.InputError, match="predict_proba, where shares, decision, calibration"):
        model.fit(np.eye(4), [0, 0, 1, 1])


def test_a_run_of_the_model_has_no_uncertainty(tiny):
    with pytest.raises(ssm.InputError, match=r"ssm\.Reweighted"):
        ssm.simulate(tiny(optimizer="gd"), schedule=Uncertainty(1.0))


def test_what_is_said_of_them_is_what_was_measured():
    """The numbers of the page, by their rows of the benchmark: gains over no weights, and over inverse frequency."""
    root, rows = Path(__file__).parents[1], {}
    for line in (root / "benchmarks" / "uncertainty.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7:
            rows[tuple(cells[:3])] = [cell.split(" ")[0] for cell in cells[4:6]]
    page = (root / "docs" / "how-to" / "weights.md").read_text()
    said = page.split("## Weights that follow uncertainty")[1].split("\n## ")[0]
    for name in ("uncertainty, g = 1", "inverse", "none, for equal shares"):
        digits, cancer = (
            float(rows[data, "ensemble", name][0]) for data in ("digits", "breast cancer")
        )
        between = " of balanced accuracy over no weights on digits" if "g = 1" in name else ""
        after = " on breast cancer" if between else ""
        assert f"{digits:.3f}{between} and {cancer:.3f}{after}" in said
    gains = [float(x[1]) for key, x in rows.items() if key[2] == "inverse and uncertainty"]
    assert len(gains) == 4 and max(gains) == 0.007 and sum(gain > 0 for gain in gains) == 1
    for (_, _, name), (_, beside) in rows.items():
        if name == "by recall":
            assert float(beside) < -0.01
        elif name.startswith("uncertainty"):
            assert float(beside) < 0.002
