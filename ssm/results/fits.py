"""Two common results of a sweep: where a ratio passes a level, and the power law that a quantity follows, each with its
interval over seeds."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import special

from ssm.config import profiles
from ssm.support import checks, errors

SPACINGS = ("linear", "log")
Values = xr.DataArray | ArrayLike


def ratio_of_learning_times(dataset: xr.Dataset) -> xr.DataArray:
    """The block learning time of the minority over that of the majority of each run. It is NaN where either block is not
    learned or does not exist, since a group of one class has no block."""
    times = dataset["block_learning_time"]
    majority, minority = (
        times.sel(block=group, drop=True).where(lambda t: t > 0) for group in profiles.GROUPS
    )
    ratio = (minority / majority).rename("ratio_of_learning_times")
    ratio.attrs = {"long_name": "minority / majority learning time", "units": "1"}
    return ratio


def crossing(
    values: xr.DataArray | xr.Dataset,
    along: str = "weight_exponent",
    *,
    level: float = 1.0,
    over: str = "seed",
    confidence: float = 0.95,
    spacing: str | None = None,
) -> xr.Dataset:
    """Where a positive quantity passes a level along an axis, for every point of all other axes.

    Between neighbours i and i + 1 on different sides of the level, x = x_i + s (x_(i+1) - x_i) with s =
    l_i / (l_i - l_(i+1)) and l = log(value / level), and log x takes the place of x on an axis in equal
    factors. The crossing is that of the geometric mean over seeds. Its interval is Student's by the jackknife: the
    crossings c_i of the means that leave one of S seeds out have the standard error sqrt((S - 1) / S sum_i
    (c_i - mean)^2), and S - 1 degrees of freedom. It assumes that seeds are independent and that the
    crossing is nearly linear in the means of the logarithms, as it is while it stays between the same two
    points of the axis. Unlike a mean over the crossings of single seeds it does not need each seed to cross.

    Args:
        values: an array with the dimension `along`, whose coordinate is x; a sweep stands for its
            `ratio_of_learning_times`. Values that are not finite count as missing.
        along: an axis, whose values are in any order and all different.
        level: > 0.
        over: the dimension of seeds; values without it are of one seed, whose interval is infinite.
        confidence: of the interval, in (0, 1).
        spacing: `linear` or `log`; left out, `log` where x is positive and the steps of its logarithm are
            more even than its own.

    Returns:
        Over the other axes `crossing`, `low`, `high`, `number` (of crossings, the first of which in x is
        given) and `reason`, which is empty unless the crossing is NaN. Then values are `above`, `below` or `at` the
        level throughout, or it is not known, since some are `missing`. A level that is touched without being passed
        is not crossed, but one that is reached at an end of the axis is. `each`, over `over` too, holds the crossings
        of single seeds. The interval is infinite where a mean that leaves one seed out does not cross.

    Raises ssm.InputError for values that are not positive, an axis that they lack, and other bad arguments.

    Source: the jackknife, Tukey 1958; the combination derived for this project.

    Example:
        >>> falls = xr.DataArray([4.0, 1.0, 0.25], {"weight_exponent": [0.0, 0.5, 1.0]})
        >>> crossing(falls, level=2.0).crossing.item()
        0.25
    """
    array = ratio_of_learning_times(values) if isinstance(values, xr.Dataset) else values
    level = checks.real("level", level, 0, open_ends="(")
    confidence = checks.real("confidence", confidence, 0, 1, open_ends="()")
    if along not in array.dims or array.sizes[along] < 2:
        raise errors.invalid("along", along, "a dimension of the values, of at least two points")
    array = _by_draw(array.sortby(along), over, along)
    x, spacing = _axis(along, array[along].values, spacing)
    logs = _logs("values", array.values) - np.log(level)
    mean, each = logs.mean(axis=-2), _first_crossings(x, logs)[0]
    places, number = _first_crossings(x, mean)
    freedom = array.sizes[over] - 1
    low, high = _interval(places, _jackknife_error(x, logs), freedom, confidence)

    dims, back = array.dims[:-2], np.exp if spacing == "log" else np.asarray
    found = {
        name: (dims, back(own))
        for name, own in (("crossing", places), ("low", low), ("high", high))
    }
    reason = np.where(number > 0, "", _why_none(mean))
    more = {"number": (dims, number), "reason": (dims, reason), "each": ((*dims, over), back(each))}
    kept = array.isel({along: 0}, drop=True).coords
    return xr.Dataset({**found, **more}, kept).assign_attrs(
        along=along, level=level, confidence=confidence, spacing=spacing
    )


def power_law(
    x: Values,
    y: Values,
    along: str | None = None,
    *,
    over: str = "seed",
    confidence: float = 0.95,
) -> xr.Dataset:
    """The power law y = a x^b along an axis, by least squares in logarithms, for every point of all
    other axes, and how far from one y is.

    For each seed log y = log a + b (log x) is fitted with equal weights; `exponent` and log `factor` are
    means over seeds, with Student's interval from the differences between seeds, which assumes that seeds are
    independent and their exponents about normal, but nothing of the errors within a seed. Where there is
    one seed the interval is that of the regression, from the residuals of m points with m - 2 degrees of freedom. It
    assumes that the errors of points are independent and of one size, and is too narrow where the residuals come from
    a bend.

    Two numbers say whether y follows a power law at all. `curvature`, d^2 log y / d (log x)^2 of the parabola through
    the logarithms, has an interval in the same way (m - 3 degrees of freedom for one seed); where the interval
    excludes 0, y bends. `departure` is the largest |log(y / fit)| of the geometric mean over seeds.

    Args:
        x, y: positive, arrays with the dimension `along` that are broadcast, or NumPy vectors. A missing
            y is NaN, and so is each fit that needs it.
        along: the axis, at least two points, whose neighbours differ in x; left out, the only dimension of x.
        over: the dimension of seeds, which x and y may lack.
        confidence: of the intervals, in (0, 1).

    Returns:
        Over the other axes `exponent`, `factor` and `curvature`, each with `..._low` and `..._high`
        (infinite without degrees of freedom), and `departure`; over `between` the neighbours'
        `local_exponent` and `local_x`, the geometric mean of their x; over `over` each `each_exponent`.

    Raises ssm.InputError for numbers that are not positive, an axis that they lack, or too few points.

    Source: textbook regression; with seeds as the draws, and the measures of departure, chosen here.

    Example:
        >>> found = power_law([1.0, 2.0, 4.0], [3.0, 12.0, 48.0])
        >>> round(found.exponent.item(), 12), round(found.factor.item(), 12)
        (2.0, 3.0)
    """
    xs, ys = (v if isinstance(v, xr.DataArray) else _vector(v) for v in (x, y))
    along = str(xs.dims[0]) if along is None and xs.ndim == 1 else along
    if along is None or along not in xs.dims or along not in ys.dims:
        raise errors.invalid("along", along, "a dimension of both x and y")
    confidence = checks.real("confidence", confidence, 0, 1, open_ends="()")
    xs, ys = xr.broadcast(xs, ys)
    xs, ys = (_by_draw(v, over, along) for v in (xs, ys))
    X, Y = _logs("x", xs.values), _logs("y", ys.values)
    m = ys.sizes[along]
    if m < 2 or (np.diff(X) == 0).any():
        allowed = "at least two points, each different from the next"
        raise errors.invalid("x", xs.values.ravel().tolist(), allowed)

    slope, error = _coefficient(X, Y, 1)
    bend, bend_error = _coefficient(X, Y, 2)
    centre = X.mean(axis=-1)
    intercept = Y.mean(axis=-1) - slope * centre
    residual = Y - intercept[..., None] - slope[..., None] * X
    noise = np.sqrt((residual**2).sum(axis=-1) / max(m - 2, 1) / m)
    dims, found = ys.dims[:-2], {}
    for name, own, own_error, freedom, back in (
        ("exponent", slope, error, m - 2, np.asarray),
        ("factor", intercept, np.hypot(noise, centre * error), m - 2, np.exp),
        ("curvature", 2 * bend, 2 * bend_error, m - 3, np.asarray),
    ):
        ends = _over_draws(own, own_error, freedom, confidence)
        names = (name, f"{name}_low", f"{name}_high")
        found |= {each: (dims, back(end)) for each, end in zip(names, ends, strict=True)}
    between, middle = (*dims, "between"), (X[..., 1:] + X[..., :-1]) / 2
    found |= {
        "departure": (dims, np.abs(residual.mean(axis=-2)).max(axis=-1)),
        "local_exponent": (between, (np.diff(Y) / np.diff(X)).mean(axis=-2)),
        "local_x": (between, np.exp(middle.mean(axis=-2))),
        "each_exponent": ((*dims, over), slope),
    }
    kept = ys.isel({along: 0}, drop=True).coords
    return xr.Dataset(found, kept).assign_attrs(along=along, confidence=confidence)


def _vector(values: ArrayLike) -> xr.DataArray:
    vector = checks.array("x and y", values, "vectors of numbers, or arrays of xarray")
    if vector.ndim != 1:
        raise errors.invalid("x and y", vector.shape, "vectors, or arrays of xarray with names")
    return xr.DataArray(vector, dims="point")


def _by_draw(array: xr.DataArray, over: str, along: str) -> xr.DataArray:
    """The array with the dimension of seeds, of length 1 where it lacks one, and that of points as its last two."""
    if over == along:
        raise errors.invalid("over", over, "another dimension than along")
    given = (
        array if over in array.dims else array.drop_vars(over, errors="ignore").expand_dims(over)
    )
    return given.transpose(..., over, along)


def _logs(name: str, values: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """The logarithms of the values; NaN for values that are not finite."""
    numbers = np.asarray(values, dtype=np.float64)
    if (numbers <= 0).any():
        raise errors.invalid(name, float(np.nanmin(numbers)), "positive, or NaN where missing")
    return np.log(np.where(np.isfinite(numbers), numbers, np.nan))


def _axis(
    name: str, values: np.ndarray, spacing: str | None
) -> tuple[Float[np.ndarray, " m"], str]:
    """The places along an ascending axis between which is interpolated, its numbers or their logarithms, and which of
    `SPACINGS` they are."""
    x = checks.array(name, values, "numbers")
    if not (np.isfinite(x).all() and (np.diff(x) > 0).all()):
        raise errors.invalid(name, x.tolist(), "finite numbers, each only once")
    spacing = _spacing_of(x) if spacing is None else checks.choice("spacing", spacing, SPACINGS)
    if spacing == "linear":
        return x, spacing
    if x[0] <= 0:
        raise errors.invalid("spacing", spacing, f"linear where {name} is not positive")
    return np.log(x), spacing


def _spacing_of(x: Float[np.ndarray, " m"]) -> str:
    """`log` where the steps of log x are more even than those of x."""
    if x[0] <= 0 or len(x) < 3:
        return "linear"
    unevenness = [np.std(np.diff(own)) / np.mean(np.diff(own)) for own in (x, np.log(x))]
    return "log" if unevenness[1] < unevenness[0] else "linear"


def _jackknife_error(
    x: Float[np.ndarray, " m"], logs: Float[np.ndarray, "*batch s m"]
) -> Float[np.ndarray, "*batch"]:
    """The standard error of the place where the mean over seeds passes 0, from the means that leave one seed out."""
    num = logs.shape[-2]
    if num == 1:
        return np.full(logs.shape[:-2], np.inf)
    others = (np.delete(logs, i, axis=-2).mean(axis=-2) for i in range(num))
    parts = np.stack([_first_crossings(x, other)[0] for other in others], axis=-1)
    return np.sqrt((num - 1) * parts.var(axis=-1))


def _over_draws(
    values: Float[np.ndarray, "*batch s"],
    errors: Float[np.ndarray, "*batch s"],
    freedom: int,
    confidence: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over seeds with its interval. The interval comes from the differences between seeds, or for a single seed
    from its own standard error with `freedom` degrees of freedom."""
    num = values.shape[-1]
    error = errors[..., 0]
    if num > 1:
        error, freedom = values.std(axis=-1, ddof=1) / np.sqrt(num), num - 1
    mean = values.mean(axis=-1)
    return mean, *_interval(mean, error, freedom, confidence)


def _interval(
    mean: np.ndarray, error: np.ndarray, freedom: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The mean minus and plus Student's quantile times the standard error; infinite where the error is not known."""
    reach = np.full(np.shape(mean), np.inf)
    if freedom > 0:
        quantile = float(special.stdtrit(freedom, (1 + confidence) / 2))
        reach = np.where(np.isfinite(error), quantile * error, np.inf)
    return mean - reach, mean + reach


def _coefficient(
    X: Float[np.ndarray, "*batch m"], Y: Float[np.ndarray, "*batch m"], degree: int
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """The highest coefficient of the polynomial of a degree through points, by least squares, and its
    standard error from the residuals; NaN where there are too few points.

    With q the part of X^degree that is orthogonal to lower powers, the coefficient is q^T Y / q^T q.
    """
    m = X.shape[-1]
    if m <= degree:
        return np.full(X.shape[:-1], np.nan), np.full(X.shape[:-1], np.nan)
    U = X - X.mean(axis=-1, keepdims=True)
    basis = [np.ones_like(U)]
    for _ in range(degree):
        power = basis[-1] * U
        for one in basis:
            power = power - one * _share(one, power)[..., None]
        basis.append(power)
    rest = Y
    for one in basis:
        rest = rest - one * _share(one, rest)[..., None]
    noise = (rest**2).sum(axis=-1) / (m - degree - 1) if m > degree + 1 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(noise / (basis[-1] ** 2).sum(axis=-1))
    return _share(basis[-1], Y), error


def _share(
    one: Float[np.ndarray, "*batch m"], other: Float[np.ndarray, "*batch m"]
) -> Float[np.ndarray, "*batch"]:
    """The coefficient of the projection of `other` on `one`, <one, other> / |one|^2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (one * other).sum(axis=-1) / (one**2).sum(axis=-1)


def _first_crossings(
    x: Float[np.ndarray, " m"], y: Float[np.ndarray, "*batch m"]
) -> tuple[Float[np.ndarray, "*batch"], Int[np.ndarray, "*batch"]]:
    """The first place where each curve passes 0, and the number of such places."""
    curves = y.reshape(-1, len(x))
    found = [_places(x, curve) for curve in curves]
    first = np.array([places[0] if places else np.nan for places in found], dtype=np.float64)
    number = np.array([len(places) for places in found], dtype=np.int64)
    return first.reshape(y.shape[:-1]), number.reshape(y.shape[:-1])


def _places(x: Float[np.ndarray, " m"], y: Float[np.ndarray, " m"]) -> list[float]:
    """The places along x where y passes 0, interpolated linearly between neighbours; missing values are no neighbours."""
    places, signs, i = [], np.sign(y), 0
    while i < len(x):
        if signs[i] == 0:
            end = i + 1
            while end < len(x) and signs[end] == 0:
                end += 1
            before = signs[i - 1] if i else np.nan
            after = signs[end] if end < len(x) else np.nan
            if before != after and end - i < len(
                x
            ):  # NaN, where there is no neighbour, differs from all.
                places.append(float(x[i]))
            i = end
            continue
        if i + 1 < len(x) and signs[i] * signs[i + 1] < 0:
            share = y[i] / (y[i] - y[i + 1])
            places.append(float(x[i] + share * (x[i + 1] - x[i])))
        i += 1
    return places


def _why_none(logs: Float[np.ndarray, "*batch m"]) -> np.ndarray:
    """The reasons why curves do not pass 0, as words: they are `above`, `below` or `at` it, or values are `missing`."""
    missing, below = np.isnan(logs).any(axis=-1), (logs < 0).any(axis=-1)
    level = (logs == 0).all(axis=-1)
    return np.select([missing, level, below], ["missing", "at", "below"], "above")
