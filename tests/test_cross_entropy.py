"""STEP under cross-entropy as five numbers, against simulated runs and the flow of all classes by SciPy."""

import dataclasses
import itertools

import numpy as np
import pytest
from marks import UNCHECKED
from scipy.integrate import solve_ivp
from scipy.special import log_softmax

import ssm
from ssm import InputError, exact, preparation, simulation, spectral, step
from ssm.dynamics.flow import Flow
from ssm.dynamics.parameters import Params
from ssm.problem import make_problem

SIZES = [(1, 1), (1, 3), (4, 2), (5, 5)]
SCALE = 1e-2  # of a spectral start, whose product strength is its square
AXES = ("contrasts", "classifier", "features", "blocks", "class_margins", "class_strengths")


def config_of(sizes, ratio, coupling, **changes):
    fields = {
        "num_classes": sum(sizes),
        "minority_fraction": sizes[1] / sum(sizes),
        "imbalance_ratio": float(ratio),
        "minority_count": 2,
        "coupling": coupling,
        "weight_exponent": 0.3,
        "feature_dim": sum(sizes),
        "init": "spectral",
        "init_scale": SCALE,
        "num_saves": 12,
        "rtol": 1e-10,
        "atol": 1e-14,
    }
    return ssm.Config(**{**fields, **changes})


def factors(problem, start):
    """W (k x d) and class means (d x k) of a symmetric start, each contrast along a direction of its own."""
    k, groups = len(problem.counts), problem.class_groups
    f = np.sqrt(problem.kernel_eigenvalues / problem.counts)
    W, M = np.zeros((k, k)), np.zeros((k, k))
    between, used = np.zeros(k), 1
    for g, name in enumerate(("majority", "minority")):
        mine = np.flatnonzero(groups == name)
        between[mine] = (1 - 2 * g) / len(mine)
        x, lam = start.contrasts[g], start.imbalances[g]
        alpha = np.sqrt(lam / 2 + np.sqrt(x**2 + lam**2 / 4))
        for i in range(1, len(mine)):  # Helmert's contrasts
            u = np.zeros(k)
            u[mine[:i]], u[mine[i]] = 1.0, -float(i)
            u /= np.linalg.norm(u)
            W[:, used], M[used] = alpha * u, x / alpha * f * u
            used += 1
    W[:, 0] = start.classifier * between / np.linalg.norm(between)
    M[0] = f * np.where(between > 0, start.features[0], -start.features[1])
    return W, M


def observed(problem, W, M):
    """Block shares, margins and strengths of a class of each group, log loss, from all class-mean logits."""
    Z, p = W @ M, problem
    k = len(p.counts)
    components = spectral.components(p)
    shares = spectral.strengths(Z * p.counts, components) / components.singular_values
    own = np.diag(Z)
    margins = own - np.where(np.eye(k) == 1, -np.inf, Z).max(axis=0)
    gaps = np.where(np.eye(k) == 1, -np.inf, Z - own)  # no difference of numbers near 1
    losses = np.log(np.log1p(np.exp(gaps).sum(axis=0)))
    log_loss = np.logaddexp.reduce(np.log(p.counts * p.class_weights / p.counts.sum()) + losses)
    first = [int(np.flatnonzero(p.class_groups == g)[0]) for g in ("majority", "minority")]
    strengths = spectral.class_strengths(Z * p.counts, p.counts)
    return (
        spectral.block_means(shares, components.blocks),
        margins[first],
        strengths[first],
        log_loss,
    )


def flow_of_classes(problem, W, M, times, by_loss=False):
    """W, M and flow time at each time, by SciPy, all class means with the softmax of all their logits."""
    p, k = problem, len(problem.counts)
    n = p.counts.sum()

    def field(_, state):
        W, M = state[: k * k].reshape(k, k), state[k * k : -1].reshape(k, k)
        log_p = log_softmax(W @ M, axis=0)
        G = np.exp(log_p)
        np.fill_diagonal(G, 0)
        np.fill_diagonal(G, -G.sum(axis=0))  # p_y - 1, without losing its digits
        losses = np.log1p(-np.diag(G) / np.exp(np.diag(log_p)))
        speed = 1 / (p.counts * p.class_weights * losses / n).sum() if by_loss else 1.0
        G = G * p.class_weights / n
        dW, dM = -(G * p.counts) @ M.T, -(W.T @ G) * p.kernel_eigenvalues
        return speed * np.concatenate([dW.ravel(), dM.ravel(), [1.0]])

    start = np.concatenate([W.ravel(), M.ravel(), [0.0]])
    size = np.abs(start[start != 0]).min()
    done = solve_ivp(field, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-13 * size)
    assert done.success
    return [(y[: k * k].reshape(k, k), y[k * k : -1].reshape(k, k), y[-1]) for y in done.y.T]


def check(found, states, problem, tolerance):
    """All that follows from the five numbers, within a share of the largest logit."""
    for i, (W, M, time) in enumerate(states):
        blocks, margins, strengths, log_loss = observed(problem, W, M)
        near = {"rtol": 0, "atol": tolerance * np.abs(W @ M).max()}
        np.testing.assert_allclose(found.class_margins[i], margins, **near)
        np.testing.assert_allclose(found.class_strengths[i], strengths, **near)
        np.testing.assert_allclose(found.blocks[i], blocks, **near)
        assert found.log_loss[i] == pytest.approx(log_loss, abs=10 * near["atol"])
        if time > 0:
            # log t is mostly the largest logit, whose error is in it
            wanted = pytest.approx(np.log(time), abs=max(1e-9, 10 * near["atol"]))
            assert found.log_time[i] == wanted


# the smallest run of each kind; the others are slow
FAST = {((4, 2), 10, 0.0), ((4, 2), 10, 0.1), ((1, 3), 10, 1.0)}
RUNS = [
    pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow)
    for case in itertools.product(SIZES, (1, 10, 100), (0.0, 0.1, 1.0))
]


@pytest.mark.parametrize(("sizes", "ratio", "coupling"), RUNS)
def test_spectral_runs(sizes, ratio, coupling):
    """1e-9 is ten times the tolerance of a step of the runs, some of whose errors add up."""
    config = config_of(sizes, ratio, coupling, save_state=True)
    ds, problem = ssm.simulate(config), make_problem(config)
    assert ds.status == "finished"
    found = exact.cross_entropy_step(ds.time.values, problem, SCALE**2)
    blocks = ds.block_strength.values / ds.block_target.values
    size = np.nanmax(np.abs(ds.strength.values / ds.component_target.values), axis=1)
    size = np.maximum(size, ds.class_strength.values.max(axis=1))[:, None]
    np.testing.assert_allclose(found.blocks / size, blocks / size, rtol=0, atol=1e-9)
    first = [int((problem.class_groups == g).argmax()) for g in ("majority", "minority")]
    strengths = ds.class_strength.values[:, first]
    np.testing.assert_allclose(found.class_strengths / size, strengths / size, rtol=0, atol=1e-9)
    # log L moves at most twice as far as the logits
    np.testing.assert_array_less(np.abs(found.log_loss - np.log(ds.loss)), 2e-9 * size[:, 0])
    learned = exact.cross_entropy_learning_times(problem, SCALE**2)
    reached = np.isfinite(ds.block_learning_time.values)
    assert reached.sum() >= 1
    # runs interpolate between their steps with a polynomial of lower order
    np.testing.assert_allclose(learned[reached], ds.block_learning_time.values[reached], rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "coupling"), [((4, 2), 0.0), ((1, 3), 1.0)])
def test_runs_by_the_loss_clock(sizes, coupling):
    """Steps of 1e-10 of the state, some thousands of them."""
    config = config_of(
        sizes, 10, coupling, clock="loss", stop_margin=100.0, num_saves=8, solver="dopri5"
    )
    ds, problem = ssm.simulate(config), make_problem(config)
    kept = np.isfinite(ds.margin.values)
    ds = ds.isel(time=kept)
    found = exact.cross_entropy_step(ds.time.values, problem, SCALE**2, clock="loss")
    margin = found.class_margins.min(axis=1)
    assert margin[-1] > 5
    size = np.maximum(found.class_margins.max(axis=1), 1e-6)
    np.testing.assert_allclose(margin / size, ds.margin.values / size, rtol=0, atol=3e-9)
    np.testing.assert_allclose(found.log_loss, ds.log_loss, rtol=3e-9, atol=1e-9)
    # runs take log L as linear on pieces of a step; `test_the_flow_of_all_classes` is sharper
    np.testing.assert_allclose(found.log_time[1:], ds.log_time[1:], rtol=1e-6)


@pytest.mark.parametrize("imbalance", [0.0, 0.03, -0.03])
def test_collapsed_runs(imbalance):
    """A symmetric collapsed start, factors balanced or not, in a run of one column a class."""
    config = config_of((4, 2), 10, 0.0, init="collapsed", t1=100.0)
    run = preparation.prepare(config)
    start = exact.symmetric_start(run.problem, 0.01, imbalance)
    start = start._replace(contrasts=np.array([0.02, 0.005]), features=start.features * [2.0, 0.5])
    W, M = factors(run.problem, start)
    assert isinstance(run.flow, Flow)
    run = run._replace(flow=dataclasses.replace(run.flow, params=Params(W, M)))
    arrays, _ = simulation.run_arrays(run, simulation.follow(run))
    found = exact.cross_entropy_step(preparation.save_times(config, 100.0), run.problem, start)
    first = [int((run.problem.class_groups == g).argmax()) for g in ("majority", "minority")]
    strengths = arrays["class_strength"]
    near = {"rtol": 0, "atol": 1e-9 * strengths.max()}
    np.testing.assert_allclose(found.class_strengths, strengths[:, first], **near)
    np.testing.assert_allclose(np.exp(found.log_loss), arrays["loss"], rtol=1e-9)


POINTS = [
    ((4, 2), 30.0, 0.5, 0.0, 0.0),
    ((1, 1), 1e6, 0.3, 0.0, 0.2),
    ((1, 3), 1e3, 1.0, 1.0, -0.2),
    ((2, 3), 7.0, -0.4, 0.1, -0.1),
]
FAR_APART = [((4, 2), 1e6, 0.5, 0.0, 0.1), ((5, 5), 1e6, 0.9, 1.0, 0.0)]
# Quick is each point by one of the two clocks, in turn.
CASES = [
    pytest.param(*point, clock, marks=[] if (i + j) % 2 == 0 else pytest.mark.slow)
    for i, point in enumerate(POINTS)
    for j, clock in enumerate(("time", "loss"))
]
CASES += [
    # by the loss clock these take explicit steps too many
    (*FAR_APART[0], "time"),
    pytest.param(*FAR_APART[1], "time", marks=pytest.mark.slow),
]


@UNCHECKED
@pytest.mark.parametrize(("sizes", "ratio", "exponent", "coupling", "imbalance", "clock"), CASES)
def test_the_flow_of_all_classes(sizes, ratio, exponent, coupling, imbalance, clock):
    """1e-9 of the largest logit: steps of 1e-12 by SciPy add up, and the direction between the groups, which
    grows from what one group leaves to the other, keeps what went wrong before."""
    config = config_of(sizes, ratio, coupling, weight_exponent=exponent)
    problem = make_problem(config)
    start = exact.symmetric_start(problem, 0.03, imbalance)
    learned = exact.cross_entropy_learning_times(problem, start, clock=clock)
    times = np.nanmax(learned) * np.array([0.0, 0.2, 0.7, 1.0, 1.3])
    found = exact.cross_entropy_step(times, problem, start, clock=clock)
    states = flow_of_classes(problem, *factors(problem, start), times, clock == "loss")
    check(found, states, problem, 1e-9)
    last = int(np.nanargmax(learned))
    assert found.blocks[3, last] == pytest.approx(0.5, rel=1e-11)


@UNCHECKED
@pytest.mark.slow
def test_what_is_conserved():
    """lam_g is used by the field itself; of the direction between the groups it is a law. From far behind and
    over any number of steps: 1e-12 of the terms."""
    whole = step.grid([1.0, 50.0, 1e9], 0.4, [[0.0], [0.2], [1.0]], num_classes=7)
    for lam in (0.0, -0.5):
        start = exact.symmetric_start(whole, 1e-3, lam)
        for clock, times in (("time", [0.0, 1.0, 1e3, 1e12]), ("loss", [0.0, 1.0, 50.0, 150.0])):
            found = exact.cross_entropy_step(np.array(times), whole, start, clock=clock)
            of_features = (whole.sizes[..., None, :] * found.features**2).sum(axis=-1)
            kept = found.classifier**2 - of_features - lam
            known = np.isfinite(kept)  # some are too far by the loss clock
            assert known[..., :3].all()
            assert (np.abs(kept) <= 1e-12 * (found.classifier**2 + of_features))[known].all()
            assert (np.diff(found.log_loss, axis=-1) <= 0)[known[..., 1:]].all()


FARTHEST = [pytest.param(1e9, exponent, marks=pytest.mark.slow) for exponent in (0.0, 0.5, 1.0)]


@UNCHECKED
@pytest.mark.parametrize(("ratio", "exponent"), [(1e6, 0.0), *FARTHEST])
def test_learning_times_are_when_the_share_is_half(ratio, exponent):
    """From the first to the last block there are up to twelve decades, and at the end the share goes as the
    logarithm of time: 1e-12 is some roundings of either."""
    three = step.grid(ratio, exponent, np.array([0.0, 0.1, 1.0]))
    learned = exact.cross_entropy_learning_times(three, 1e-6)
    found = exact.cross_entropy_step(learned, three, 1e-6)
    of_its_own = np.diagonal(found.blocks, axis1=-2, axis2=-1)
    assert of_its_own.shape == (3, 3)
    np.testing.assert_allclose(of_its_own, 0.5, rtol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_growing_start_of_a_growing_start_is_itself(sizes):
    problem = make_problem(config_of(sizes, 20, 0.1))
    start = exact.symmetric_start(problem, 1e-4, growing=True)
    start = start._replace(contrasts=np.array([2e-4, 5e-5]))
    found = exact.growing_start(*factors(problem, start), problem)
    several = np.array(sizes) > 1
    np.testing.assert_allclose(found.contrasts[several], start.contrasts[several], rtol=1e-12)
    for name in ("classifier", "features", "imbalances"):
        np.testing.assert_allclose(getattr(found, name), getattr(start, name), rtol=1e-12)
    # what shrinks is left out: half of a classifier without features
    W, M = factors(problem, start)
    half = exact.growing_start(W, 0 * M, problem)
    np.testing.assert_allclose(half.contrasts[several], start.contrasts[several] / 4, rtol=1e-12)
    np.testing.assert_allclose(half.classifier, start.classifier / 2, rtol=1e-12)


@pytest.mark.parametrize("ratio", [1.0, 30.0])
def test_contrasts_of_a_random_start_from_its_growing_start(ratio):
    """Each group's mean strength: a twentieth of 28 e-folds is more than contrasts of a draw are apart."""
    config = config_of((4, 4), ratio, 0.05, init="gaussian", init_scale=1e-6, feature_dim=16)
    run = simulation.prepare(config)
    W, H = run.flow.params.W, run.flow.params.H
    start = exact.growing_start(W, run.flow.field.columns.class_means(H), run.problem)
    found = exact.cross_entropy_learning_times(run.problem, start)
    blocks = spectral.block_means(run.predicted_learning_time, run.components.blocks)
    np.testing.assert_allclose(found[[0, 2]], blocks[[0, 2]], rtol=0.05)


@UNCHECKED
@pytest.mark.parametrize("clock", ["time", "loss"])
def test_class_times_are_when_the_margin_is_there(clock):
    """To some roundings of the margin, at either time of the two groups and by either clock."""
    k, minorities = np.array([(sum(sizes), sizes[1]) for sizes in SIZES]).T
    every = step.grid(50.0, 0.4, 0.1, num_classes=k, minority_fraction=minorities / k)
    np.testing.assert_allclose(every.sizes, SIZES, rtol=1e-12)
    found = exact.cross_entropy_class_times(every, 1e-5, 0.7, clock=clock)
    margins = exact.cross_entropy_step(found, every, 1e-5, clock=clock).class_margins
    of_its_own = np.diagonal(margins, axis1=-2, axis2=-1)
    assert of_its_own.shape == (len(SIZES), 2)
    np.testing.assert_allclose(of_its_own, 0.7, rtol=1e-11)


@UNCHECKED
@pytest.mark.slow
def test_what_is_never_learned():
    """Free features at R = 10^9 from 1e-12 need logits of some thousand across, whose time no number holds."""
    learned = exact.cross_entropy_learning_times(step.grid(1e9), 1e-12)
    assert np.isfinite(learned[[0, 2]]).all() and learned[1] == np.inf


@UNCHECKED
@pytest.mark.slow
def test_groups_may_be_exchanged():
    """The names of the groups are in no formula: equal to rounding, which a millionfold faster group amplifies
    in the other to 1e-12."""
    one = step.grid([3.0, 1e6], 0.7, 0.05, num_classes=5, minority_fraction=0.4)
    groups = ("sizes", "counts", "weights", "kernel")
    other = one._replace(**{name: getattr(one, name)[..., ::-1] for name in groups})
    times = np.geomspace(1, 1e5, 7)
    first, second = (exact.cross_entropy_step(times, each, 1e-4) for each in (one, other))
    for name in AXES:
        mine, its = getattr(first, name), getattr(second, name)
        its = its if its.ndim == 2 else its[..., ::-1]
        np.testing.assert_allclose(its, mine, rtol=1e-11)
    np.testing.assert_allclose(first.log_loss, second.log_loss, rtol=1e-11, atol=1e-12)
    learned = [exact.cross_entropy_learning_times(each, 1e-4) for each in (one, other)]
    np.testing.assert_allclose(learned[0], learned[1][..., ::-1], rtol=1e-11)


@UNCHECKED
@pytest.mark.slow
def test_points_of_a_grid_are_those_alone():
    """Newton's iterations end together, the only thing points share: 1e-12 is some of their rounding, at
    margins that do not amplify it."""
    R, g = np.array([1.0, 1e4])[:, None], np.array([0.0, 1.0])
    whole, lam = step.grid(R, g, 0.1, num_classes=6), np.array([0.2, 0.0])
    start = exact.symmetric_start(whole, 1e-5, lam)
    for clock, times in (
        ("time", np.array([3.0, 0.0, 500.0])),
        ("loss", np.array([70.0, 10.0, 0.0])),
    ):
        found = exact.cross_entropy_step(times, whole, start, clock=clock)
        learned = exact.cross_entropy_learning_times(whole, start, clock=clock)
        assert found.blocks.shape == (2, 2, 3, 3) and found.log_loss.shape == (2, 2, 3)
        for i, j in np.ndindex(2, 2):
            point = step.grid(R[i, 0], g[j], 0.1, num_classes=6)
            alone = exact.symmetric_start(point, 1e-5, lam[j])
            one = exact.cross_entropy_step(times, point, alone, clock=clock)
            for mine, its in zip(found, one, strict=True):
                np.testing.assert_allclose(mine[i, j], its, rtol=1e-12, atol=1e-13)
            its = exact.cross_entropy_learning_times(point, alone, clock=clock)
            np.testing.assert_allclose(learned[i, j], its, rtol=1e-12)


def test_two_classes_have_margins_that_features_alone_part():
    """With equal counts there is one margin, m = s y a f with y = sqrt(2) a, so that by hand m' = 4 r m / (1 +
    e^m)."""
    one = step.grid(1.0, num_classes=2, minority_count=4.0)
    f, rate = np.sqrt(1 / 4), 4 * np.sqrt(1 / 4) / 8  # kappa = 1, w = 1, r = w sqrt(n_c kappa) / n
    times = np.linspace(0, 60, 5)

    def field(_, margin):
        return 4 * rate * margin / (1 + np.exp(margin))

    start = np.array([0.01 * f])  # y sqrt(2) a = 0.01
    wanted = solve_ivp(field, (0, 60), start, "DOP853", times, rtol=1e-13, atol=1e-16).y[0]
    found = exact.cross_entropy_step(times, one, 0.01)
    for g in (0, 1):
        np.testing.assert_allclose(found.class_margins[:, g], wanted, rtol=1e-11)
    assert np.isnan(found.contrasts).all() and np.isnan(found.blocks[:, [0, 2]]).all()
    np.testing.assert_allclose(found.blocks[:, 1], wanted, rtol=1e-11)
    learned = exact.cross_entropy_learning_times(one, 0.01)
    np.testing.assert_array_equal(np.isnan(learned), [True, False, True])


@UNCHECKED
@pytest.mark.parametrize(
    ("ratio", "coupling"),
    [
        (1.0, 0.0),
        pytest.param(100.0, 0.3, marks=pytest.mark.slow),
        pytest.param(1e9, 1.0, marks=pytest.mark.slow),
    ],
)
def test_the_terminal_phase(ratio, coupling):
    """At margins beyond 1e8 all classes have one, the logits are their limit's to one over it, and log L and
    log t are plus and minus it but for logarithms of it."""
    one = step.grid(ratio, 0.0, coupling, num_classes=4)
    found = exact.cross_entropy_step(np.geomspace(1, 1e4, 400), one, 0.01, clock="loss")
    last = int(np.isfinite(found.log_loss).sum()) - 1  # what follows is too far to be told apart
    margin = found.class_margins[last]
    assert margin.min() > 1e8 and margin.max() < 1e13
    np.testing.assert_allclose(margin[0], margin[1], rtol=1e-6)
    np.testing.assert_allclose([-found.log_loss[last], found.log_time[last]], margin[0], rtol=1e-6)
    # what has no part that grows: x_g f_g is the margin within the groups too
    np.testing.assert_allclose(found.blocks[last, [0, 2]], margin, rtol=1e-6)


def test_what_cannot_be_used_is_refused():
    one = step.grid(4.0)
    for name, call in (
        ("times", lambda: exact.cross_entropy_step(np.array([-1.0]), one, 1e-3)),
        ("clock", lambda: exact.cross_entropy_step(np.zeros(1), one, 1e-3, clock="tau")),
        ("start", lambda: exact.cross_entropy_step(np.zeros(1), one, 0.0)),
        ("imbalance", lambda: exact.symmetric_start(one, 1.0, np.inf)),
        ("level", lambda: exact.cross_entropy_learning_times(one, 1e-3, 0.0)),
        (
            "weights",
            lambda: exact.cross_entropy_learning_times(
                one._replace(weights=np.array([1.0, 0.0])), 1e-3
            ),
        ),
    ):
        with pytest.raises(InputError, match=f"^{name}="):
            call()
    negative = exact.symmetric_start(one, 1.0)._replace(features=np.array([1.0, -1.0]))
    with pytest.raises(InputError, match=r"^start.features="):
        exact.cross_entropy_step(np.zeros(1), one, negative)
