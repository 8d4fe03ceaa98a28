"""Each definition of neural collapse against the formula as its paper writes it, by loops."""

import numpy as np
import pytest

import ssm
from ssm import collapse

LABELS = np.array([0, 2, 1, 0, 0, 1, 2, 0, 1, 0, 0])  # in no order, of 6, 3 and 2 samples
EQUAL = np.repeat([0, 1, 2], 4)
NEAR = 1e-10  # relative: rounding, of sums taken in another order


@pytest.fixture
def state(rng):
    return rng.normal(size=(3, 5)), rng.normal(size=(5, len(LABELS)))


def parts(H, labels):
    """Class by class: the mean, the covariance, and the share of samples."""
    own = [H[:, labels == c] for c in range(3)]
    means = [X.mean(axis=1) for X in own]
    covariances = [
        np.mean([np.outer(h - mean, h - mean) for h in X.T], axis=0)
        for X, mean in zip(own, means, strict=True)
    ]
    return means, covariances, [X.shape[1] / len(labels) for X in own]


def test_covariances_by_loops(state):
    _, H = state
    means, covariances, shares = parts(H, LABELS)
    even = [1 / 3] * 3
    for by, q in (("classes", even), ("samples", shares)):
        wanted = np.average(covariances, axis=0, weights=q)
        np.testing.assert_allclose(collapse.within_covariance(H, LABELS, by), wanted, atol=1e-12)
        for centre, p in (("classes", even), ("samples", shares)):
            mu = np.average(means, axis=0, weights=p)
            wanted = np.average([np.outer(m - mu, m - mu) for m in means], axis=0, weights=q)
            found = collapse.between_covariance(H, LABELS, by, centre)
            np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_pooled_covariances_add_up_to_that_of_all(state):
    """The law of total variance, which holds for averages over samples."""
    _, H = state
    whole = np.cov(H, bias=True)
    within = collapse.within_covariance(H, LABELS, "samples")
    between = collapse.between_covariance(H, LABELS, "samples", "samples")
    np.testing.assert_allclose(within + between, whole, atol=1e-12)


def test_nc1_in_both_forms(state):
    _, H = state
    for within in collapse.BY:
        for between in collapse.BY:
            for centre in collapse.BY:
                S = collapse.within_covariance(H, LABELS, within)
                B = collapse.between_covariance(H, LABELS, between, centre)
                words = {"within": within, "between": between, "centre": centre}
                wanted = np.trace(S @ np.linalg.pinv(B, rcond=1e-12)) / 3
                np.testing.assert_allclose(collapse.nc1(H, LABELS, **words), wanted, rtol=NEAR)
                found = collapse.nc1(H, LABELS, form="traces", **words)
                np.testing.assert_allclose(found, np.trace(S) / np.trace(B), rtol=NEAR)


def test_cdnv_by_a_loop(state):
    _, H = state
    means, covariances, _ = parts(H, LABELS)
    pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)]
    wanted = [
        (np.trace(covariances[i]) + np.trace(covariances[j]))
        / (2 * np.sum((means[i] - means[j]) ** 2))
        for i, j in pairs
    ]
    np.testing.assert_allclose(collapse.cdnv(H, LABELS), np.mean(wanted), rtol=NEAR)


def test_nc4_by_class_and_by_sample(state):
    W, H = state
    bias = np.array([0.3, -0.2, 0.0])
    means = np.stack(parts(H, LABELS)[0], axis=1)
    for b in (None, bias):
        wrong = [
            (W @ h + (0 if b is None else b)).argmax()
            != ((means - h[:, None]) ** 2).sum(axis=0).argmin()
            for h in H.T
        ]
        wrong = np.array(wrong)
        by_class = np.mean([wrong[c == LABELS].mean() for c in range(3)])
        np.testing.assert_allclose(
            collapse.nc4(W, H, LABELS, "samples", b), wrong.mean(), rtol=NEAR
        )
        np.testing.assert_allclose(collapse.nc4(W, H, LABELS, "classes", b), by_class, rtol=NEAR)


def test_etf_distances_against_dense_matrices(state):
    W, H = state
    P, Y = np.eye(3) - 1 / 3, np.eye(3)[:, LABELS]
    M = np.stack(parts(H, LABELS)[0], axis=1)
    C = M - M.mean(axis=1, keepdims=True)
    dense = {
        "samples": ((W @ W.T, P), (H.T @ H, Y.T @ P @ Y), (W @ H, P @ Y)),
        "means": ((W @ W.T, P), (M.T @ M, P), (W @ M, P)),
        "centred_means": ((W @ W.T, P), (C.T @ C, P), (W @ C, P)),
    }
    for of, pairs in dense.items():
        wanted = [np.linalg.norm(X / np.linalg.norm(X) - D / np.linalg.norm(D)) for X, D in pairs]
        np.testing.assert_allclose(collapse.etf_distances(W, H, LABELS, of), wanted, atol=1e-12)


def test_at_equal_counts_all_who_count_are_one(rng):
    W, H = rng.normal(size=(3, 5)), rng.normal(size=(5, len(EQUAL)))
    both = [
        [
            collapse.nc1(H, EQUAL, within=by, between=by, centre=by, form=form)
            for form in collapse.FORMS
        ]
        + [collapse.nc4(W, H, EQUAL, by)]
        for by in collapse.BY
    ]
    np.testing.assert_allclose(both[0], both[1], rtol=NEAR)


def test_measures_know_no_scale_and_no_rotation(state, rng):
    W, H = state
    turn = 3 * np.linalg.qr(rng.normal(size=(5, 5)))[0]
    for measure in (collapse.nc1, collapse.cdnv):
        np.testing.assert_allclose(measure(turn @ H, LABELS), measure(H, LABELS), rtol=NEAR)
    moved = H + rng.normal(size=(5, 1))  # and those of differences no origin
    np.testing.assert_allclose(collapse.cdnv(moved, LABELS), collapse.cdnv(H, LABELS), rtol=NEAR)
    np.testing.assert_allclose(
        collapse.etf_distances(W, turn @ moved, LABELS, "centred_means")[1],
        collapse.etf_distances(W, H, LABELS, "centred_means")[1],
        rtol=NEAR,
    )


def test_a_collapsed_simplex_is_at_zero(rng):
    """Distances to 1e-7: `geometry.distances` resolves that of W H so far beside scatter, which is rounding."""
    frame = np.linalg.qr(rng.normal(size=(5, 5)))[0][:, :3] @ (np.eye(3) - 1 / 3)
    H = frame[:, LABELS]
    assert collapse.cdnv(H, LABELS) < 1e-28 and collapse.nc4(frame.T, H, LABELS) == 0
    for form in collapse.FORMS:
        assert collapse.nc1(H, LABELS, form=form) < 1e-28  # squares of rounding
    for of in collapse.GRAMS:
        np.testing.assert_allclose(collapse.etf_distances(frame.T, H, LABELS, of), 0, atol=1e-7)
    assert np.isnan(collapse.nc1(np.ones((5, len(LABELS))), LABELS))


def test_the_defaults_are_what_a_run_observes(run):
    ds = run(geometry=True, save_state=True)
    labels = np.repeat(ds["class"].values, ds.class_count.values)
    for i in (0, 20, 49):
        W, H = ds.W.values[i], ds.H.values[i]
        np.testing.assert_allclose(collapse.nc1(H, labels), ds.nc1[i], rtol=1e-6)
        np.testing.assert_allclose(collapse.nc4(W, H, labels), ds.nc4[i], rtol=1e-12)
        # scatter keeps distances of Z to a part in 1e8
        np.testing.assert_allclose(
            collapse.etf_distances(W, H, labels), ds.etf_distance[i], atol=1e-7
        )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda H: collapse.nc1(H, LABELS, form="ratio"), "form='ratio': must be one of"),
        (lambda H: collapse.nc1(H, LABELS, within="pooled"), "by='pooled': must be one of"),
        (lambda H: collapse.etf_distances(H[:3, :5], H, LABELS, "H"), "of='H': must be one of"),
        (
            lambda H: collapse.cdnv(H, np.where(LABELS == 1, 0, LABELS)),
            "labels=.*each with a sample",
        ),
        (lambda H: collapse.cdnv(H, 0 * LABELS), "labels=.*two classes"),
        (lambda H: collapse.cdnv(H, LABELS - 1), "labels=.*from 0 on"),
    ],
)
def test_bad_input(call, said, state):
    with pytest.raises(ssm.InputError, match=said):
        call(state[1])
