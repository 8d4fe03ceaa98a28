"""Tests that may be looked at at any time: their level over a year of looks, their delay, and their ingredients."""

import numpy as np
import pytest
from scipy import integrate, stats

from ssm.practice.watching import sequential
from ssm.practice.watching.sequential import Evidence, Means, Rates

LEVEL, WEEKS = 0.05, 52
RATES = np.array([0.95, 0.85, 0.6, 0.99, 0.3])
REFERENCE = np.array([1000, 300, 300, 2000, 50])
"""Held-out cases, so that some references are good and some poor."""
A_WEEK = np.array([300, 40, 100, 1000, 10])


def crossings(rng, repetitions, weeks=WEEKS):
    """Clean years of five classes: whether each class's evidence ever reached its part of the level, shape (r, 5)."""
    p, n, a_week = (np.tile(x, repetitions) for x in (RATES, REFERENCE, A_WEEK))
    rates = Rates.of(rng.binomial(n, p), n)
    evidence = Evidence.begun(rates.doubt, len(sequential.ODDS_RATIOS), WEEKS)
    most = np.full(len(p), -np.inf)
    for _ in range(weeks):
        trials = rng.poisson(a_week)
        evidence, now = evidence.after(rates.log_likelihoods(rng.binomial(trials, p), trials))
        most = np.maximum(most, now)
    return (most >= np.log(len(RATES) / LEVEL)).reshape(repetitions, -1)


def test_a_clean_year_seldom_alarms():
    """The hypothesis is at its edge: no class got better either. 60 years tell a level of 5 % from one of 17 %."""
    assert crossings(np.random.default_rng(0), 60).any(1).mean() <= LEVEL


@pytest.mark.slow
def test_many_clean_years_seldom_alarm():
    """600 years: at a true level of 0.08 this would fail with a probability of 99.7 %."""
    years = crossings(np.random.default_rng(1), 600)
    assert years.any(1).mean() <= LEVEL
    assert (years.mean(0) <= 2 * LEVEL / len(RATES)).all()


def fixed_sample_size(reference, rate, drop, alpha, power):
    """The cases of the textbook's one-sided test of two proportions, which looks once and knows when to."""
    n, now = np.arange(5, 10**5), rate - drop
    pooled = (reference * rate + n * now) / (reference + n)
    null = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / reference))
    other = np.sqrt(rate * (1 - rate) / reference + now * (1 - now) / n)
    enough = stats.norm.isf(alpha) * null + stats.norm.ppf(power) * other <= drop
    return n[enough.argmax()]


@pytest.mark.parametrize("rate", [0.7, 0.85, 0.95])
@pytest.mark.parametrize("clean_weeks", [0, 20])
@pytest.mark.parametrize("series", [6, 30])
def test_a_drop_of_ten_points_is_found_within_twice_the_delay(rate, clean_weeks, series):
    """The median delay, of that of the test of fixed sample size with the same level and a power of 90 %, though that one
    need not find out when the drop began. 2000 held-out cases of the class, 20 a week."""
    rng, alpha, reference, a_week, repetitions = (
        np.random.default_rng(2),
        0.05 / series,
        2000,
        20,
        40,
    )
    fixed = fixed_sample_size(reference, rate, 0.1, alpha, 0.9)
    held_out = np.full(repetitions, reference)
    rates = Rates.of(rng.binomial(held_out, rate), held_out)
    evidence = Evidence.begun(rates.doubt, len(sequential.ODDS_RATIOS), WEEKS)
    delay = np.full(repetitions, np.inf)
    for week in range(clean_weeks + 3 * fixed // a_week):
        p = rate if week < clean_weeks else rate - 0.1
        trials = np.full(repetitions, a_week)
        evidence, now = evidence.after(rates.log_likelihoods(rng.binomial(trials, p), trials))
        found = (now >= -np.log(alpha)) & np.isinf(delay)
        delay[found] = (week + 1 - clean_weeks) * a_week
    assert delay.min() > 0 and np.median(delay) <= 2 * fixed


def test_the_weights_of_all_windows_sum_to_one():
    for life in (1, 52):
        weights = [sequential.start_weight(s, life) for s in range(1, 5000)]
        assert sum(weights) + sequential._left(4999, life) == pytest.approx(1)


def test_a_p_value_becomes_an_e_value():
    """Its mean over uniform p values is 1."""
    mean = integrate.quad(lambda u: sequential.DOUBT * u ** (sequential.DOUBT - 1), 0, 1)[0]
    assert mean == pytest.approx(1)


def test_a_likelihood_ratio_has_mean_one():
    """Summed over all outcomes of three trials, at each candidate rate."""
    rates = Rates.of([30], [40])
    trials = 3
    outcomes = np.arange(trials + 1)
    p = rates.rates[0][None, :]
    probability = stats.binom.pmf(outcomes[:, None], trials, p)
    ratios = np.exp([rates.log_likelihoods([s], [trials])[0] for s in outcomes])
    mean = np.einsum("st,sjt->jt", probability, ratios)
    np.testing.assert_allclose(mean, 1, rtol=1e-12)


def test_the_candidates_are_the_references_own_limits():
    """P(Bin(n_0, theta) >= s_0) is the p value that goes with the candidate before it."""
    rates = Rates.of([37], [40])
    p_values = stats.binom.sf(36, 40, rates.rates[0, 1:])
    expected = np.log(sequential.DOUBT) + (sequential.DOUBT - 1) * np.log(p_values)
    np.testing.assert_allclose(rates.doubt[0, :-1], expected, rtol=1e-9)


def test_without_a_reference_there_is_no_alarm():
    rates = Rates.of([0, 0], [0, 50])
    evidence = Evidence.begun(rates.doubt, len(sequential.ODDS_RATIOS), WEEKS)
    for _ in range(5):
        evidence, now = evidence.after(rates.log_likelihoods([0, 0], [10**5, 10**5]))
    assert now.max() < 1e-9


def test_windows_in_one_step_or_many_come_to_the_same():
    """A change at the beginning of the first: the evidence of all cases is the product of that of parts."""
    rates = Rates.of([900], [1000])
    parts = sum(rates.log_likelihoods([s], [n]) for s, n in ((30, 50), (41, 50)))
    np.testing.assert_allclose(parts, rates.log_likelihoods([71], [100]), atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_moved_mean_is_found_and_a_still_one_is_not(sign):
    rng, m = np.random.default_rng(3), 60
    p = rng.beta(1, 9, size=100_000)

    def batch(shift, n=400):
        q = rng.choice(p, size=(m, n))
        d = (rng.random((m, n)) < np.clip(q + shift, 0, 1)) - q
        return np.full(m, n), d.sum(1), (d**2).sum(1)

    count, total, squares = batch(0, 4000)
    error = np.sqrt((squares / count - (total / count) ** 2) / count)
    means = Means.of(total / count, error, np.full(m, sign))
    evidence = Evidence.begun(means.doubt, len(sequential.BETS), WEEKS)
    for _ in range(WEEKS):
        evidence, still = evidence.after(means.log_likelihoods(*batch(0)))
        assert (still >= np.log(20)).mean() <= 0.05
    for _ in range(8):
        evidence, moved = evidence.after(means.log_likelihoods(*batch(0.06 * sign)))
    assert (moved >= np.log(20)).mean() > 0.9


def test_bets_on_a_mean_are_fair_for_any_law():
    """Numbers of two values with mean theta, of every shape: the mean of L is at most 1."""
    theta = 0.1
    means = Means(np.array([[theta]]), np.zeros((1, 1)), np.ones((1, 1)))
    for low in np.linspace(-1, theta - 0.01, 12):
        for high in np.linspace(theta + 0.01, 1, 12):
            share = (theta - low) / (high - low)
            bets = [np.exp(means.log_likelihoods([1], [x], [x * x])[0, :, 0]) for x in (low, high)]
            assert ((1 - share) * bets[0] + share * bets[1] <= 1 + 1e-12).all()


def test_a_confidence_sequence_holds_at_all_times():
    """300 repetitions of 3000 trials, looked at after each of 60 numbers of trials: 5 % miss at most."""
    rng, p = np.random.default_rng(4), 0.9
    cumulative = rng.binomial(1, p, size=(300, 3000)).cumsum(1)
    times = np.unique(np.geomspace(1, 3000, 60).astype(int))
    low, high = sequential.confidence_sequence(cumulative[:, times - 1], times, 0.05)
    assert ((low > p) | (high < p)).any(1).mean() <= 0.05


def test_the_ends_of_a_confidence_sequence_are_where_the_evidence_is_one_over_alpha():
    s, n, alpha = 85, 100, 0.01
    for end in sequential.confidence_sequence(s, n, alpha):
        density = stats.beta.pdf(end, s + 0.5, n - s + 0.5) / stats.beta.pdf(end, 0.5, 0.5)
        assert 1 / density == pytest.approx(1 / alpha, rel=1e-6)  # prior over posterior density
    low, high = sequential.confidence_sequence([0, 7, 0], [0, 7, 7], 0.05)
    assert (low[0], high[0], high[1], low[2]) == (0, 1, 1, 0) and low[1] > 0.3
