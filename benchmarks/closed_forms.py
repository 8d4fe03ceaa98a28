"""A heat map in closed form: all blocks of 10,000 problems at 200 times, beside solving each of them; and what
cross-entropy's predictions cost at any number of samples."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

import ssm
from benchmarks.table import Row
from ssm import Config, exact, predictions, regularised, spectral, step, theory
from ssm.problem import make_problem
from ssm.theory import class_flow

NOTE = """Squared loss, spectral starts of scale 1e-3: R of 1 to 1000 x weight exponent of 0 to 1.5 x coupling of 0
to 1, all blocks at 200 times up to twice the learning time of each problem's cross component, seconds of
processor time. SciPy solves the three numbers of the cross component, point by point, by DOP853 at rtol
1e-12, and `ssm.simulate` follows W and H, on all cores; both are timed on some of the points, spread over
all, and scaled up. Beside them what any small start does while logits are small, all class-mean logits of the
same problems at as many times up to when the first block is learned, of which 1.6 GB are the logits; and where
weight decay ends each problem, at as many decays. Then the same number of problems from random balanced starts of scale 1e-3,
k = 10 and d = 16, each with samples and a start of its own: all class-mean logits at 200 times up to twice when
its last component is learned, and when each component is; some of the points are timed and scaled up.

Cross-entropy: learning times of all components from a random start of 1e-6 with equal features in a class, 25 billion samples (n_min = 5, R = 1e9),
k = 10, the longest of g = 0, 1/2, 1 and c = 0, 0.1, 1; of one start in eight at R = 10, which is what a run of a sweep over seeds pays; of one
start of 1e-3 at R of 1 to 100 x g of 0 to 1, each setting by itself and all together, which is what a run of a sweep without seeds pays; and of as
many problems as above, R of 1 to 1000, g of 0 to 1.5 and c of 0 to 1, with a random start of 1e-3 each."""

START, NUM_TIMES = 1e-6, 200
TARGET = 5.0  # seconds
FARTHEST = 1e9  # imbalance ratio


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    sizes = (5, 4, 5) if quick else (25, 20, 20)
    R, g, c = (
        np.geomspace(1, 1000, sizes[0])[:, None, None],
        np.linspace(0, 1.5, sizes[1])[:, None],
        np.linspace(0, 1, sizes[2]),
    )
    problems, points = step.grid(R, g, c), int(np.prod(sizes))
    learned = step.learning_times(problems, START)
    times = 2 * learned[..., 1, None] * np.linspace(0, 1, NUM_TIMES)
    ours = float(np.median([_spent(lambda: step.curves(times, problems, START)) for _ in range(3)]))
    of_times = _spent(lambda: step.learning_times(problems, START))
    of_start, of_ends = _of_start(problems, learned), _of_decays(problems)
    report(0.3)
    some = np.random.default_rng(0).permutation(points)[: 4 if quick else 40]
    by_scipy = _spent(lambda: [_scipy(problems, times, i) for i in some]) * points / len(some)
    report(0.6)
    numbers = [x.ravel() for x in np.broadcast_arrays(R, g, c)]
    configs = [
        Config(
            loss="squared",
            init="spectral",
            init_scale=START**0.5,
            imbalance_ratio=float(numbers[0][i]),
            weight_exponent=float(numbers[1][i]),
            coupling=float(numbers[2][i]),
            t1=float(times.reshape(points, -1)[i, -1]),
            num_saves=NUM_TIMES,
        )
        for i in some[: 2 if quick else 8]
    ]
    for config in configs:  # compiled
        ssm.simulate(config)
    begun = time.perf_counter()
    for config in configs:
        ssm.simulate(config)
    simulated = (time.perf_counter() - begun) * points / len(configs)
    report(1.0)
    return [
        Row(
            f"ours: ssm.step.curves, {points} problems x {NUM_TIMES} times, one core",
            f"{ours:.3g} s",
            ours,
            "a second",
            at_most=TARGET,
        ),
        Row("ours: ssm.step.learning_times of the same", f"{of_times:.3g} s"),
        Row(
            f"ours: theory.linear_phase, {points} problems x {NUM_TIMES} times, k = 10, one core",
            f"{of_start:.3g} s",
            of_start,
            "a second",
            at_most=TARGET,
        ),
        Row(
            f"ours: ssm.regularised.cross_strengths, {points} problems x {NUM_TIMES} decays, one core",
            f"{of_ends:.3g} s",
            of_ends,
            "a second",
            at_most=TARGET,
        ),
        *_balanced(quick),
        Row("scipy DOP853, one core, scaled up", f"{by_scipy:.3g} s", by_scipy / ours, "ours"),
        Row("ssm.simulate, compiled, scaled up", f"{simulated:.3g} s", simulated / ours, "ours"),
        *_cross_entropy(quick),
        *_class_means(problems),
    ]


def _of_start(problems: step.Step, learned: np.ndarray) -> float:
    """Seconds of the linear phase of one start, the median of three."""
    rng = np.random.default_rng(0)
    W, means = 1e-3 * rng.normal(size=(10, 16)), 1e-3 * rng.normal(size=(16, 10))
    times = learned.min(axis=-1)[..., None] * np.linspace(0, 1, NUM_TIMES)
    work = functools.partial(theory.linear_phase, W, means, problems, times)
    return float(np.median([_spent(work) for _ in range(3)]))


def _of_decays(problems: step.Step) -> float:
    """Seconds of the ends under decays from none to more than any component stands, the median of three."""
    decays = np.append(0.0, np.geomspace(1e-5, 1.0, NUM_TIMES - 1))
    grid = problems._replace(
        **{name: getattr(problems, name)[..., None, :] for name in step.Step._fields[:5]}
    )
    work = functools.partial(regularised.cross_strengths, grid, decays, decays)
    return float(np.median([_spent(work) for _ in range(3)]))


def _balanced(quick: bool) -> list[Row]:
    """Seconds of 10,000 random balanced starts, from some of them."""
    number, rng = 20 if quick else 500, np.random.default_rng(0)
    counts = np.full((number, 10), 5)
    counts[:, :5] = np.round(5 * np.geomspace(1, 1000, number))[:, None]
    W = 1e-3 * rng.normal(size=(number, 10, 16))
    values, vectors = np.linalg.eigh(W.swapaxes(1, 2) @ W)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None] @ vectors.swapaxes(1, 2)
    # Columns of length 1 over the samples, of which only their class means count.
    frame = np.linalg.qr(rng.normal(size=(number, 50, 16)))[0].swapaxes(1, 2)
    means = root @ frame.reshape(number, 16, 10, 5).sum(axis=3) / (5 * counts[:, None]) ** 0.5
    learned = exact.balanced_learning_times(W, means, counts)
    times = 2 * learned.max(axis=1, keepdims=True) * np.linspace(0, 1, NUM_TIMES)
    flow = functools.partial(exact.balanced_flow, times, W, means, counts)
    seconds = [
        float(np.median([_spent(work) for _ in range(3)])) * 10_000 / number
        for work in (flow, lambda: exact.balanced_learning_times(W, means, counts))
    ]
    return [
        Row(
            f"ours: ssm.exact.balanced_flow, 10000 problems x {NUM_TIMES} times, one core, scaled up",
            f"{seconds[0]:.3g} s",
            seconds[0],
            "a second",
            at_most=TARGET,
        ),
        Row("ours: ssm.exact.balanced_learning_times of the same", f"{seconds[1]:.3g} s"),
    ]


def _cross_entropy(quick: bool) -> list[Row]:
    """Seconds of the predictions under cross-entropy."""
    cases = itertools.product((0.0,) if quick else (0.0, 0.5, 1.0), (0.0, 0.1, 1.0))
    longest = max(_predicting(FARTHEST, g, c, 1) for g, c in cases)
    of_a_run = _predicting(10.0, 0.0, 0.0, 8) / 8
    return [
        Row(
            "ours: cross-entropy's learning times at R = 1e9, longest",
            f"{longest:.3g} s",
            longest,
            "a second",
            at_most=1.0,
        ),
        Row("ours: of one start in eight at R = 10", f"{1e3 * of_a_run:.3g} ms"),
    ]


def _class_means(problems: step.Step) -> list[Row]:
    """Seconds of the learning times of a start each: of settings as a sweep has them, and of the points of a grid."""
    rng = np.random.default_rng(0)
    axes = np.geomspace(1, 100, 8).tolist(), np.linspace(0, 1, 8).tolist()
    settings = [
        _prospect(Config(imbalance_ratio=R, weight_exponent=g, init_scale=1e-3), rng)
        for R, g in itertools.product(*axes)
    ]
    alone = _spent(lambda: [predictions.predicted_learning_times(*each) for each in settings])
    together = _spent(lambda: predictions.predicted_together(settings))
    points, k, d = problems.num_samples.size, 10, 16
    W, means = 1e-3 * rng.normal(size=(2, *np.shape(problems.num_samples), k, d))
    basis = step.components(problems)
    grid = functools.partial(
        class_flow.component_learning_times, problems, basis, W, means.swapaxes(-1, -2)
    )
    number = len(settings)
    return [
        Row(
            f"ours: of {number} settings, a start each, together",
            f"{1e3 * together / number:.3g} ms a setting",
        ),
        Row(
            "ours: of the same, one by one",
            f"{1e3 * alone / number:.3g} ms a setting",
            alone / together,
            "together",
        ),
        Row(f"ours: of {points} problems, a start each, one core", f"{_spent(grid):.3g} s"),
    ]


def _prospect(config: Config, rng: np.random.Generator) -> predictions.Prospect:
    """A setting with one Gaussian start, with as many features as its Config has, equal in a class."""
    problem, shape = make_problem(config), (config.num_classes, config.feature_dim)
    W, means = config.init_scale * rng.normal(size=(2, *shape))
    start = predictions.Start(W, means.T)
    return predictions.Prospect(config, problem, spectral.components(problem), start)


def _predicting(ratio: float, exponent: float, coupling: float, starts: int) -> float:
    """Seconds of processor time of the learning times of starts at one setting, the median of five."""
    config = Config(
        imbalance_ratio=ratio,
        weight_exponent=exponent,
        coupling=coupling,
        init="collapsed",
        init_scale=1e-6,
    )
    problem, rng = make_problem(config), np.random.default_rng(0)
    k, d = len(problem.counts), config.feature_dim
    components = spectral.components(problem)
    W, means = config.init_scale * rng.normal(size=(2, starts, k, d))
    start = predictions.Start(W, means.swapaxes(1, 2))
    work = functools.partial(
        predictions.predicted_learning_times, config, problem, components, start
    )
    return float(np.median([_spent(work) for _ in range(5)]))


def _spent(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _scipy(problems: step.Step, times: np.ndarray, point: int) -> np.ndarray:
    """The cross component of one of the problems."""
    one = step.Step(*(x.reshape(-1, 2)[point] for x in problems[:4]))
    (s, w, kappa), n = exact.cross_parts(one), one.num_samples

    def field(_: float, state: np.ndarray) -> np.ndarray:
        force = w / n * (s - state[0] * state[1:])
        return np.append(force @ state[1:], kappa * force * state[0])

    along = kappa * s / np.linalg.norm(np.sqrt(kappa) * s)
    first, own = START**0.5 * np.append(1.0, along), times.reshape(-1, NUM_TIMES)[point]
    return solve_ivp(field, (0, own[-1]), first, "DOP853", own, rtol=1e-12, atol=1e-16).y
