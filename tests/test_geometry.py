"""Terminal geometries, distances to them and neural collapse, against dense matrices and loops."""

import jax
import numpy as np
import pytest

from ssm import geometry, spectral
from ssm.config.profiles import step_counts
from ssm.problem import membership, simplex_labels

COUNTS = {
    "step": (9, 9, 9, 2, 2),
    "k = 2": (40, 3),
    "equal": (6,) * 5,
    "odd": (1, 7, 3, 3, 90, 7, 1),
    "long tail": (100, 46, 21, 10, 5, 2),
    "k = 30": tuple(round(90 * 90 ** (-c / 29)) for c in range(30)),
}
every_count = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
SMALL = [COUNTS[name] for name in ("step", "k = 2", "odd")]


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def label_svd(counts):
    """The SVD of the dense label matrix, without its zero mode."""
    U, s, Vt = np.linalg.svd(simplex_labels(labels_of(counts), len(counts)), full_matrices=False)
    r = len(counts) - 1
    return U[:, :r], s[:r], Vt[:r]


def exact_state(counts, d, rng, scale=3.0):
    """W and H = M Y of the SELI configuration from the dense SVD, randomly rotated into d >= k."""
    U, s, Vt = label_svd(counts)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0][: len(s)]
    return scale * (U * np.sqrt(s)) @ frame, (frame.T * np.sqrt(s)) @ Vt


def statistics(H, labels, k):
    """Class means, total scatter and class-averaged covariance, sample by sample."""
    means = np.stack([H[:, labels == c].mean(axis=1) for c in range(k)], axis=1)
    d = len(H)
    scatter, within = np.zeros((d, d)), np.zeros((d, d))
    for c in range(k):
        outer = np.zeros((d, d))
        for i in np.flatnonzero(labels == c):
            outer += np.outer(H[:, i] - means[:, c], H[:, i] - means[:, c])
        scatter += outer
        within += outer / (labels == c).sum() / k
    return means, scatter, within


def dense_distances(W, H, target, labels):
    """The published definition with n x n matrices; `target` expanded to samples."""
    wanted = (
        target.classifier,
        target.features[np.ix_(labels, labels)],
        target.logits[:, labels],
    )
    return np.array(
        [
            np.sqrt((((X / np.sqrt((X**2).sum())) - D / np.sqrt((D**2).sum())) ** 2).sum())
            for X, D in zip((W @ W.T, H.T @ H, W @ H), wanted, strict=True)
        ]
    )


# --- targets


@every_count
def test_seli_against_the_dense_decomposition(counts):
    U, s, Vt = label_svd(counts)
    labels = labels_of(counts)
    found = geometry.seli(np.array(counts))
    # a few roundings of the largest entry: s spans less than 1e2
    np.testing.assert_allclose(found.classifier, (U * s) @ U.T, atol=1e-13 * s[0])
    features = found.features[np.ix_(labels, labels)]
    np.testing.assert_allclose(features, (Vt.T * s) @ Vt, atol=1e-13 / s[-1])
    S = simplex_labels(labels, len(counts))
    np.testing.assert_allclose(found.logits[:, labels], S, atol=1e-15)


@every_count
def test_seli_factors_interpolate_and_scale_with_the_counts(counts):
    found = geometry.seli(np.array(counts))
    k = len(counts)
    np.testing.assert_allclose(found.classifier @ found.features, np.eye(k) - 1 / k, atol=1e-12)
    smaller = geometry.seli(np.array(counts) / 7.3)  # no integers
    np.testing.assert_allclose(smaller.classifier * np.sqrt(7.3), found.classifier, atol=1e-12)
    np.testing.assert_allclose(smaller.features / np.sqrt(7.3), found.features, atol=1e-12)


def test_seli_of_equal_counts_is_the_simplex_etf():
    found, etf = geometry.seli(np.full(6, 5)), geometry.etf(6)
    np.testing.assert_allclose(found.classifier, np.sqrt(5) * etf.classifier, atol=1e-14)
    np.testing.assert_allclose(found.features, etf.features / np.sqrt(5), atol=1e-14)
    np.testing.assert_array_equal(found.logits, etf.logits)
    cosine = etf.classifier[0, 1] / etf.classifier[0, 0]
    assert cosine == pytest.approx(-1 / 5, rel=1e-14)


@pytest.mark.parametrize("counts", [(3, 0), (3, -1, 2), (3, np.nan)])
def test_counts_must_be_positive(counts):
    with pytest.raises(ValueError, match="must be positive"):
        geometry.seli(np.array(counts))


@pytest.mark.parametrize("coupling", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("counts", SMALL)
def test_effective_counts_give_the_least_norm_factors_of_coupled_features(counts, coupling):
    """The least |W|^2 + tr(H K^-1 H^T) with W H = S is the SVD of S K^(-1/2), here dense."""
    labels = labels_of(counts)
    K = (1 - coupling) * np.eye(len(labels)) + coupling * (labels[:, None] == labels)
    values, vectors = np.linalg.eigh(K)
    root = (vectors * np.sqrt(values)) @ vectors.T
    S = simplex_labels(labels, len(counts))
    U, s, Vt = np.linalg.svd(S @ np.linalg.inv(root), full_matrices=False)
    U, s, Vt = U[:, :-1], s[:-1], Vt[:-1]
    kappa = 1 + coupling * (np.array(counts) - 1)
    found = geometry.seli(geometry.effective_counts(np.array(counts), kappa))
    np.testing.assert_allclose(found.classifier, (U * s) @ U.T, atol=1e-12 * s[0])
    features = root @ (Vt.T * s) @ Vt @ root
    expanded = found.features[np.ix_(labels, labels)]
    np.testing.assert_allclose(expanded, features, atol=1e-12 / s[-1])


def test_effective_counts_at_both_ends():
    counts = np.array([50, 7, 1])
    np.testing.assert_array_equal(geometry.effective_counts(counts, np.ones(3)), counts)
    shared = geometry.effective_counts(counts, counts.astype(float))
    np.testing.assert_array_equal(shared, np.ones(3))
    for found, expected in zip(geometry.seli(shared), geometry.etf(3), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-15)


# --- targets of factors


def factors_of(counts):
    """Those of g = 0.3, 1, -0.4, and without any order."""
    n = np.array(counts) / max(counts)
    rng = np.random.default_rng(len(counts))
    return [*(n**g for g in (0.3, 1.0, -0.4)), np.exp(rng.normal(size=len(n)))]


@every_count
def test_adjusted_seli_of_equal_factors_is_seli(counts):
    """Of factors c all but W and H's common scale: Z, W W^T and H^T H go as 1 / c."""
    n = np.array(counts)
    expected = geometry.seli(n)
    for scale in (1.0, 7.3):
        found = geometry.adjusted_seli(n, np.full(len(n), scale))
        for value, wanted in zip(found, expected, strict=True):
            # a few roundings of the largest entry
            np.testing.assert_allclose(
                scale * value, wanted, atol=2e-14 * np.abs(wanted).max(), rtol=0
            )


@every_count
def test_adjusted_seli_against_the_dense_decomposition(counts):
    labels, k = labels_of(counts), len(counts)
    for factors in factors_of(counts):
        x = 1 / factors
        Z = (np.eye(k) - np.outer(x, x) / (x @ x)) @ (x[:, None] * membership(labels, k).T)
        U, s, Vt = np.linalg.svd(Z, full_matrices=False)
        U, s, Vt = U[:, :-1], s[:-1], Vt[:-1]
        found = geometry.adjusted_seli(np.array(counts), factors)
        expanded = found.features[np.ix_(labels, labels)]
        for value, wanted in (
            (found.classifier, (U * s) @ U.T),
            (expanded, (Vt.T * s) @ Vt),
            (found.logits[:, labels], Z),
        ):
            # roundings of the largest entry; s spans less than 1e3
            np.testing.assert_allclose(value, wanted, atol=1e-12 * np.abs(wanted).max(), rtol=0)


@every_count
def test_adjusted_seli_has_the_least_nuclear_norm(counts):
    """Certified by duality: G of spectral norm 1 bounds |Z'|_* >= <G, Z'> for any Z', and <G, Z'> =
    sum_i sum_c lam_ci (f_y z'_y - f_c z'_c) >= sum lam with positive lam for a feasible one; here
    both are equal, so nothing feasible is smaller. No formula of the solution enters."""
    n, k = np.array(counts), len(counts)
    other = ~np.eye(k, dtype=bool)
    for factors in factors_of(counts):
        _, features, Z = geometry.adjusted_seli(n, factors)
        scaled = factors[:, None] * Z
        gaps = np.diag(scaled) - scaled
        np.testing.assert_allclose(gaps[other], 1, rtol=1e-12)  # all are active
        # one column a class, times sqrt(n_c), has the norm of one column a sample
        U, s, Vt = np.linalg.svd(Z * np.sqrt(n))
        G = U[:, :-1] @ Vt[:-1] * np.sqrt(n)  # <G, Z> over classes is that over samples
        assert np.linalg.norm(G / np.sqrt(n), 2) == pytest.approx(1, abs=1e-13)
        multipliers = -G / factors[:, None]
        assert (multipliers[other] > 0).all()
        np.testing.assert_allclose(multipliers[other], -(features * n)[other], rtol=1e-10)
        # G is made of the multipliers: no more is left of it at the labels
        np.testing.assert_allclose(np.where(other, multipliers, 0).sum(0), np.diag(-multipliers))
        assert multipliers[other].sum() == pytest.approx(s.sum(), rel=1e-12)


@pytest.mark.parametrize("counts", SMALL)
def test_no_feasible_logits_near_adjusted_seli_have_a_smaller_nuclear_norm(counts, rng):
    """Random ones, scaled so that the least gap is 1."""
    n = np.array(counts)
    other = ~np.eye(len(n), dtype=bool)
    for factors in factors_of(counts):
        Z = geometry.adjusted_seli(n, factors).logits
        least = np.linalg.norm(Z * np.sqrt(n), "nuc")
        for size in (0.01, 0.1, 1.0):
            for _ in range(10):
                tried = Z + size * rng.normal(size=Z.shape) / factors[:, None]
                scaled = factors[:, None] * tried
                margin = (np.diag(scaled) - scaled)[other].min()
                if margin > 0:
                    assert np.linalg.norm(tried / margin * np.sqrt(n), "nuc") > least


@pytest.mark.parametrize(
    ("counts", "factors"), [((3, 0), (1, 1)), ((3, 2), (1, 0)), ((3, 2), (1, -1.0))]
)
def test_counts_and_factors_must_be_positive(counts, factors):
    with pytest.raises(ValueError, match="must be positive"):
        geometry.adjusted_seli(np.array(counts), np.array(factors))


# --- closed forms under STEP

STEPS = [(4, 0.25), (4, 0.5), (5, 0.4), (10, 0.5), (10, 0.9), (10, 0.1), (50, 0.5), (50, 0.2)]


def step_entries(classifier, features, k_maj):
    """What `StepGeometry` holds, read off Gram matrices; NaN where a group is a single class."""
    k = len(classifier)
    pairs = [(0, 1, k_maj > 1), (k - 2, k - 1, k - k_maj > 1), (0, k - 1, True)]

    def cosines(gram):
        return [
            gram[a, b] / np.sqrt(gram[a, a] * gram[b, b]) if exists else np.nan
            for a, b, exists in pairs
        ]

    w2, h2 = (np.diag(gram)[[0, -1]] for gram in (classifier, features))
    return w2, h2, cosines(classifier), cosines(features), (1 - 1 / k) / np.sqrt(w2 * h2)


@pytest.mark.parametrize("R", [1, 3, 10, 100, 1000])
@pytest.mark.parametrize(("k", "rho"), STEPS)
def test_step_closed_forms_against_the_decomposition(k, rho, R):
    """The left vectors and values of S are those of P diag(sqrt(n_c))."""
    counts = np.array(step_counts(k, R, rho, 3))
    k_min = round(rho * k)
    U, s, _ = np.linalg.svd((np.eye(k) - 1 / k) * np.sqrt(counts))
    U, s = U[:, :-1], s[:-1]
    expected = step_entries((U * s) @ U.T, (U / s) @ U.T, k - k_min)
    found = geometry.seli_step(k - k_min, k_min, 3 * R, 3)
    for name, value, dense in zip(found._fields, found, expected, strict=True):
        # norms relatively; cosines, which may vanish, against 1
        np.testing.assert_allclose(value, dense, rtol=1e-12, atol=1e-12, err_msg=name)
    for value, dense in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(value, dense, rtol=1e-12)


@pytest.mark.parametrize("R", [1, 7, 1000])
@pytest.mark.parametrize(("k", "rho"), STEPS)
def test_step_closed_forms_against_seli(k, rho, R):
    k_min = round(rho * k)
    found = geometry.seli_step(k - k_min, k_min, 2 * R, 2)
    target = geometry.seli(np.array(step_counts(k, R, rho, 2)))
    expected = step_entries(target.classifier, target.features, k - k_min)
    for value, dense in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("R", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("k", [4, 10, 50])
def test_step_at_half_the_classes_is_the_published_form(k, R):
    """Thrampoulidis et al. 2022, in units of the minority count."""
    q, root = np.sqrt((R + 1) / 2), np.sqrt(R)
    w2 = [root * (1 - 2 / k) + q / k, (1 - 2 / k) + q / k]
    h2 = [(1 - 2 / k) / root + 1 / (k * q), (1 - 2 / k) + 1 / (k * q)]
    cos_w = [(-2 * root + q) / ((k - 2) * root + q), (-2 + q) / ((k - 2) + q)]
    cos_h = [
        (-2 / root + 1 / q) / ((k - 2) / root + 1 / q),
        (-2 + 1 / q) / ((k - 2) + 1 / q),
    ]
    found = geometry.seli_step(k // 2, k // 2, 6 * R, 6)
    np.testing.assert_allclose(found.classifier_norms2, np.sqrt(6) * np.array(w2), rtol=1e-13)
    np.testing.assert_allclose(found.feature_norms2, np.array(h2) / np.sqrt(6), rtol=1e-13)
    np.testing.assert_allclose(found.classifier_cosines[:2], cos_w, atol=1e-14)
    np.testing.assert_allclose(found.feature_cosines[:2], cos_h, atol=1e-14)
    alignment = (1 - 1 / k) / np.sqrt(np.array(w2) * h2)
    np.testing.assert_allclose(found.alignment, alignment, rtol=1e-13)


def test_step_of_equal_counts_is_the_simplex_etf():
    found = geometry.seli_step(7, 3, 1, 1)
    np.testing.assert_allclose([found.classifier_norms2, found.feature_norms2], 0.9, rtol=1e-14)
    np.testing.assert_allclose(found.classifier_cosines, -1 / 9, rtol=1e-13)
    np.testing.assert_allclose(found.feature_cosines, -1 / 9, rtol=1e-13)
    np.testing.assert_allclose(found.alignment, 1, rtol=1e-14)


@pytest.mark.parametrize("arguments", [(0, 3, 5, 1), (3, 0, 5, 1), (3, 3, 5, 0), (3, 3, -1.0, 1)])
def test_step_needs_both_groups(arguments):
    with pytest.raises(ValueError, match="must be positive"):
        geometry.seli_step(*arguments)


# --- distances


@pytest.mark.parametrize("target", ["seli", "etf"])
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("counts", SMALL)
def test_distances_against_matrices_over_samples(counts, spread, target, rng):
    labels, k, d = labels_of(counts), len(counts), 6
    aim = geometry.seli(np.array(counts)) if target == "seli" else geometry.etf(k)
    W = rng.normal(size=(k, d))
    H = rng.normal(size=(d, k))[:, labels] + spread * rng.normal(size=(d, len(labels)))
    means, scatter, _ = statistics(H, labels, k)
    found = geometry.distances(W, means, scatter, np.array(counts), aim)
    # both sides round at 1e-16 of quantities of order one
    np.testing.assert_allclose(found, dense_distances(W, H, aim, labels), rtol=1e-13)


def test_distances_of_a_batch_are_those_of_its_members(rng):
    counts = np.array(COUNTS["step"])
    aim, d = geometry.seli(counts), 7
    W, means = rng.normal(size=(2, 3, 5, d)), rng.normal(size=(2, 3, d, 5))
    E = rng.normal(size=(2, 3, d, d))
    scatter = E @ np.swapaxes(E, -1, -2)
    found = geometry.distances(W, means, scatter, counts, aim)
    assert found.shape == (2, 3, len(geometry.PARTS))
    for at in np.ndindex(2, 3):
        single = geometry.distances(W[at], means[at], scatter[at], counts, aim)
        np.testing.assert_allclose(found[at], single, rtol=1e-14)


def test_distances_do_not_see_rotations_and_scales(rng):
    counts = np.array(COUNTS["step"])
    aim, d = geometry.seli(counts), 7
    W, means, E = rng.normal(size=(5, d)), rng.normal(size=(d, 5)), rng.normal(size=(d, d))
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    plain = geometry.distances(W, means, E @ E.T, counts, aim)
    turned = geometry.distances(W @ Q.T, Q @ means, Q @ E @ E.T @ Q.T, counts, aim)
    np.testing.assert_allclose(turned, plain, rtol=1e-13)
    for size in (1e-100, 1e100):  # fourth powers of such entries are no numbers
        scaled = geometry.distances(size * W, means * size, size**2 * E @ E.T, counts, aim)
        np.testing.assert_allclose(scaled, plain, rtol=1e-13)
    larger = geometry.Geometry(*(7 * x for x in aim))
    np.testing.assert_allclose(
        geometry.distances(W, means, E @ E.T, counts, larger), plain, rtol=1e-13
    )


@every_count
def test_the_distance_of_an_exact_configuration_is_zero(counts, rng):
    k = len(counts)
    W, H = exact_state(counts, k + 4, rng)
    means, scatter, _ = statistics(H, labels_of(counts), k)
    found = geometry.distances(W, means, scatter, np.array(counts), geometry.seli(np.array(counts)))
    assert (found < 1e-14).all(), found


@pytest.mark.skipif(bool(np.finfo(np.longdouble).eps > 1e-18), reason="needs extended precision")
@pytest.mark.parametrize("size", [1e-6, 1e-10, 1e-13])
def test_small_distances_keep_their_digits(size, rng):
    """A perturbed exact configuration, against n x n matrices in extended precision."""
    counts = COUNTS["step"]
    labels, k, d = labels_of(counts), len(counts), 9
    W, H = exact_state(counts, d, rng)
    W = W.astype(np.longdouble) + size * rng.normal(size=W.shape)
    deviation = rng.normal(size=H.shape)
    means, scatter, _ = statistics(deviation, labels, k)
    deviation -= means[:, labels]
    shift = rng.normal(size=(d, k))
    H = H.astype(np.longdouble) + size * (shift[:, labels] + deviation)
    aim = geometry.seli(np.array(counts))
    exact = dense_distances(
        W, H, geometry.Geometry(*(x.astype(np.longdouble) for x in aim)), labels
    )
    assert (exact > size / 10).all()
    H_means = np.stack([H[:, labels == c].mean(axis=1) for c in range(k)], axis=1)
    found = geometry.distances(
        W.astype(float), H_means.astype(float), size**2 * scatter, np.array(counts), aim
    )
    np.testing.assert_allclose(found, exact.astype(float), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(8))
def test_deviations_that_the_classifier_does_not_see(seed):
    """W E = 0 up to a rounding of either sign in tr(W E E^T W^T): only the features are away."""
    rng = np.random.default_rng(seed)
    counts = COUNTS["step"]
    labels, k, d = labels_of(counts), len(counts), 9
    W, H = exact_state(counts, d, rng)
    unseen = np.linalg.svd(W)[2][k - 1 :]
    H = H + unseen.T @ rng.normal(size=(len(unseen), len(labels)))
    means, scatter, _ = statistics(H, labels, k)
    means -= unseen.T @ unseen @ means  # deviations only
    H = means[:, labels] + H - statistics(H, labels, k)[0][:, labels]
    aim = geometry.seli(np.array(counts))
    found = geometry.distances(W, means, scatter, np.array(counts), aim)
    assert found[1] == pytest.approx(dense_distances(W, H, aim, labels)[1], rel=1e-12)
    assert found[0] < 1e-14
    rounding = np.sqrt(np.finfo(float).eps * scatter.trace()) * np.linalg.norm(W)
    assert found[2] < 10 * rounding / np.linalg.norm(W @ H)


def test_the_distance_of_nothing_is_undefined(rng):
    counts = np.array(COUNTS["step"])
    aim, d = geometry.seli(counts), 6
    W, means, scatter = rng.normal(size=(5, d)), rng.normal(size=(d, 5)), np.eye(d)
    zeros = np.zeros_like
    for state, undefined in [
        ((zeros(W), means, scatter), [True, False, True]),
        ((W, zeros(means), zeros(scatter)), [False, True, True]),
        ((W, zeros(means), scatter), [False, False, False]),
    ]:
        found = geometry.distances(*state, counts, aim)
        np.testing.assert_array_equal(np.isnan(found), undefined)


# --- neural collapse


def published_collapse(W, H, labels, k):
    """Papyan, Han, Donoho 2020, word by word, averages taken over classes."""
    d = len(H)
    mu = [H[:, labels == c].mean(axis=1) for c in range(k)]
    mu_G = sum(mu) / k
    Sigma_W, Sigma_B = np.zeros((d, d)), np.zeros((d, d))
    for c in range(k):
        mine = np.flatnonzero(labels == c)
        for i in mine:
            Sigma_W += np.outer(H[:, i] - mu[c], H[:, i] - mu[c]) / len(mine) / k
        Sigma_B += np.outer(mu[c] - mu_G, mu[c] - mu_G) / k
    result = {"nc1": np.trace(Sigma_W @ np.linalg.pinv(Sigma_B, rcond=1e-10)) / k}
    norms, angles, distances = [], [], []
    for vectors in (list(W), [m - mu_G for m in mu]):
        lengths = [np.sqrt(v @ v) for v in vectors]
        mean = sum(lengths) / k
        norms.append(np.sqrt(sum((x - mean) ** 2 for x in lengths) / k) / mean)
        cosines = [
            vectors[a] @ vectors[b] / lengths[a] / lengths[b]
            for a in range(k)
            for b in range(k)
            if a != b
        ]
        middle = sum(cosines) / len(cosines)
        angles.append(np.sqrt(sum((x - middle) ** 2 for x in cosines) / len(cosines)))
        distances.append(sum(abs(x + 1 / (k - 1)) for x in cosines) / len(cosines))
    result |= {"nc2_norms": norms, "nc2_angles": angles, "nc2_distance": distances}
    Mdot = np.array([m - mu_G for m in mu]).T
    gap = W.T / np.linalg.norm(W, "fro") - Mdot / np.linalg.norm(Mdot, "fro")
    return result | {"nc3": np.linalg.norm(gap, "fro") ** 2}


@pytest.mark.parametrize("d", [3, 6, 12])
@pytest.mark.parametrize("counts", [*SMALL, COUNTS["long tail"]])
def test_neural_collapse_as_published(counts, d, rng):
    labels, k = labels_of(counts), len(counts)
    W = rng.normal(size=(k, d))
    H = 5 + rng.normal(size=(d, k))[:, labels] + rng.normal(size=(d, len(labels)))
    means, _, within = statistics(H, labels, k)
    found = geometry.neural_collapse(W, means, within)
    expected = published_collapse(W, H, labels, k)
    assert found.keys() == expected.keys()
    for name in found:
        # the reference inverts Sigma_B, whose condition is the square of that of the means; with
        # two classes the cosine of the means is exactly -1 and what should be 0 is a rounding
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-14, err_msg=name)


def test_neural_collapse_of_a_batch_is_that_of_its_members(rng):
    W, means, E = (rng.normal(size=(2, 3, *shape)) for shape in [(5, 7), (7, 5), (7, 7)])
    within = E @ np.swapaxes(E, -1, -2)
    found = geometry.neural_collapse(W, means, within)
    for at in np.ndindex(2, 3):
        single = geometry.neural_collapse(W[at], means[at], within[at])
        for name in found:
            np.testing.assert_allclose(found[name][at], single[name], rtol=1e-12)


@pytest.mark.parametrize(("k", "d"), [(2, 1), (2, 5), (5, 4), (5, 9), (30, 40)])
def test_a_simplex_etf_is_fully_collapsed(k, d, rng):
    """Also far from the origin: the rounding of mu_G, 1e-16 of the offset, is all that is left."""
    corners = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]  # rows are the simplex
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0][: k - 1]
    W = corners @ frame
    for offset in (0.0, 10.0):
        means = 3 * W.T + offset
        found = geometry.neural_collapse(4 * W, means, np.zeros((d, d)))
        assert found["nc1"] == 0
        for name in ("nc2_norms", "nc2_angles", "nc2_distance", "nc3"):
            np.testing.assert_allclose(found[name], 0, atol=1e-13 if offset else 2e-15)
        logits = W @ (means - offset)
        assert geometry.nearest_mean_mismatch(logits, means, means, np.eye(k)) == 0
    away = geometry.distances(4 * W, 3 * W.T, np.zeros((d, d)), np.ones(k), geometry.etf(k))
    assert (away < 1e-14).all()


def test_means_far_from_the_origin_keep_their_rank(rng):
    """The one direction that rounding adds to Sigma_B must not be inverted."""
    k, d = 6, 10
    means, E = rng.normal(size=(d, k)), rng.normal(size=(d, d))
    W, within = rng.normal(size=(k, d)), E @ E.T
    near = geometry.neural_collapse(W, means, within)["nc1"]
    far = geometry.neural_collapse(W, means + 1e6, within)["nc1"]
    assert far == pytest.approx(near, rel=1e-7)  # the means themselves are rounded at 1e-10
    line, places = rng.normal(size=d), np.arange(6.0)  # means on a line: Sigma_B of rank one
    found = geometry.neural_collapse(W, np.outer(line, places) + 1e6, within)["nc1"]
    expected = line @ within @ line / (line @ line) ** 2 / places.var() / k
    assert found == pytest.approx(expected, rel=1e-7)


def test_collapse_without_directions_is_undefined(rng):
    k, d = 3, 5
    W, means, within = rng.normal(size=(k, d)), rng.normal(size=(d, k)), np.eye(d)
    equal = np.repeat(np.full((d, 1), 0.1), k, axis=1)  # their average is not 0.1 to the last bit
    for none in (np.zeros((d, k)), equal, np.full((d, k), np.nan)):
        found = geometry.neural_collapse(W, none, within)
        assert np.isnan(found["nc1"]) and np.isnan(found["nc3"])
        for name in ("nc2_norms", "nc2_angles", "nc2_distance"):
            np.testing.assert_array_equal(np.isnan(found[name]), [False, True])
    found = geometry.neural_collapse(np.zeros((k, d)), means, within)
    assert found["nc1"] > 0 and np.isnan(found["nc3"])
    for name in ("nc2_norms", "nc2_angles", "nc2_distance"):
        np.testing.assert_array_equal(np.isnan(found[name]), [True, False])
    W[1] = 0  # a single class without direction still has a length
    found = geometry.neural_collapse(W, means, within)
    assert found["nc2_norms"][0] > 0 and np.isnan(found["nc2_angles"][0])


def test_nearest_mean_mismatch_against_a_loop(rng):
    counts = (30, 9, 4, 1)
    labels, k, d = labels_of(counts), 4, 3
    means = rng.normal(size=(d, k))
    H = means[:, labels] + rng.normal(size=(d, len(labels)))
    logits = rng.normal(size=(k, d)) @ H
    shares = []
    for c in range(k):
        wrong = [
            int(np.argmin([np.linalg.norm(H[:, i] - means[:, j]) for j in range(k)]))
            != int(np.argmax(logits[:, i]))
            for i in np.flatnonzero(labels == c)
        ]
        shares.append(np.mean(wrong))
    columns = membership(labels, k)
    found = geometry.nearest_mean_mismatch(logits, H, means, columns)
    assert 0.1 < found < 1
    np.testing.assert_allclose(found, np.mean(shares), rtol=1e-14)

    padded_logits, padded_H = (np.pad(x, ((0, 0), (0, 5))) for x in (logits, H))
    padded_H[:, -2:] = 1e3
    columns_padded = np.pad(columns, ((0, 5), (0, 0)))
    again = geometry.nearest_mean_mismatch(padded_logits, padded_H, means, columns_padded)
    np.testing.assert_allclose(again, found, rtol=1e-14)

    many, H_many, means_many = (np.stack([x, x[::-1]]) for x in (logits, H, means))
    both = geometry.nearest_mean_mismatch(many, H_many, means_many, columns)
    one = geometry.nearest_mean_mismatch(logits[::-1], H[::-1], means[::-1], columns)
    np.testing.assert_allclose(both, [found, one], rtol=1e-14)

    traced = jax.jit(geometry.nearest_mean_mismatch)
    np.testing.assert_allclose(traced(logits, H, means, columns), found, rtol=1e-14)
    np.testing.assert_allclose(traced(many, H_many, means_many, columns), both, rtol=1e-14)


def test_a_column_that_stands_for_several_samples_counts_as_many(rng):
    """Weights in `class_columns`: one column with weight 3 is three equal columns."""
    k, d = 3, 4
    W, means, H = rng.normal(size=(k, d)), rng.normal(size=(d, k)), rng.normal(size=(d, 7))
    columns = membership(np.array([0, 0, 0, 1, 1, 2, 2]), k)
    times = np.array([1, 3, 1, 2, 1, 1, 1])
    found = geometry.nearest_mean_mismatch(W @ H, H, means, columns * times[:, None])
    spelled = np.repeat(H, times, axis=1)
    expected = geometry.nearest_mean_mismatch(
        W @ spelled, spelled, means, np.repeat(columns, times, axis=0)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@every_count
def test_the_left_vectors_are_those_of_the_project_basis(counts):
    """`seli` goes through weights of single samples; the basis that runs are read in agrees."""
    spectrum = spectral.label_spectrum(counts)
    U, s = spectrum.left, spectrum.singular_values
    found = geometry.seli(np.array(counts))
    np.testing.assert_allclose(U.T @ found.classifier @ U, np.diag(s), atol=1e-13 * s[0])
