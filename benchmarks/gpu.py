"""A sweep of ten thousand small runs in one batch on an accelerator, beside this machine's cores and the
accelerator's own limits. It needs an accelerator, so it runs only where it is asked for by name."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.limits import copies_moved, num_evaluations
from benchmarks.table import Row, milliseconds
from ssm.support import errors

NOTE = """Runs of `ssm.sweep` under cross-entropy, k = 10, d = 16, float64, rtol 1e-6, 100 saved times: 5 ratios x 5
exponents x 4 couplings x 100 seeds in one batch on the accelerator, all padded to n = 50 columns, and with 10
seeds to n = 275; the whole sweep on the accelerator in one chunk, and on the cores in chunks of the usual size,
with 10 seeds. Compiled beforehand. What is *prepared* and *made into variables* is done on the host, before and
after a batch, by one thread.

Limits: *bandwidth* is the bytes of a batch that puts its state and the slopes of its stages into memory and
nothing else, at as many steps as its longest run has, at the rate of a large copy; *on chip* is the bytes of a
batch that keeps them on the chip, the start read and the observations written once; *arithmetic* is the products
of all field evaluations of the steps that the runs take themselves, at the rate of a large product. The time
of a batch of one run is what it costs to send small operations to the accelerator one after the other."""

OUT = Path("build/gpu/parts.jsonl")
"""What each part finds, a line each, written as it is found."""
SAVES, DIM, CLASSES = 100, 16, 10
SEEDS, FEWER_SEEDS = 100, 10
AXES = {"weight_exponent": [0.0, 0.25, 0.5, 0.75, 1.0], "coupling": [0.1, 0.25, 0.5, 0.75]}
RATIOS = {50: (1, [5.0, 6.0, 7.0, 8.0, 9.0]), 275: (5, [5.0, 6.0, 7.0, 8.0, 10.0])}
"""Samples of a minority class and ratios by the number of columns that all runs are padded to."""
SIZE = 4096
"""Rows of a large product."""
SAME = 1e-6
"""The most that learning times, and strengths, of the accelerator and of the cores may be apart, relative."""
LONGEST, ALL_LONGEST, SHORTEST = 90.0, 215.0, 10.0
"""Seconds after which a part is given up; after which nothing more is measured; and without which no part begins."""


def require() -> None:
    """Raise `ssm.InputError` where JAX finds no accelerator.

    This process never asks for one itself: JAX would take most of the memory of the device for it.
    """
    if _in_process("device")["platform"] == "cpu":
        raise errors.invalid("benchmark", "gpu", "left out where JAX finds no accelerator")


def run(quick: bool, report: Callable[[float], None]) -> list[Row]:
    """Measure; the rows of the table."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.unlink(missing_ok=True)
    parts, fewer = _Parts(), 2 if quick else FEWER_SEEDS
    limits = parts.find("rates", quick=quick)
    rows = [Row("what the device can do", "not measured")] if limits is None else _limits(limits)
    small, large = RATIOS
    rows += _both(parts, limits, small, 4 if quick else SEEDS, fewer)
    report(0.5)
    rows += _both(parts, limits, large, fewer, fewer)
    report(0.7)
    rows += _single_rows(parts.find("single"))
    rows += _fewer_rows(parts.find("fewer", columns=small, seeds=fewer))
    report(1.0)
    return rows


def _both(
    parts: _Parts, limits: dict[str, Any] | None, columns: int, seeds: int, fewer: int
) -> list[Row]:
    """One sweep in a batch and on the cores, with `fewer` seeds, and a batch of all seeds."""
    asked = {"columns": columns, "fewer": fewer}
    with tempfile.TemporaryDirectory() as folder:
        ours = parts.find("batch", **asked, seeds=seeds, results=f"{folder}/batch.npz")
        theirs = parts.find("cores", **asked, results=f"{folder}/cores.npz")
        alone = None
        if columns == min(RATIOS):
            alone = parts.find("cores_without_threads", **asked, results=f"{folder}/alone.npz")
        rows = _cores_rows(columns, theirs, alone)
        if ours is None:
            return [*rows, Row(f"n = {columns}: in one batch", "not measured")]
        rows += _sweep_rows(columns, ours, theirs)
        rows += [] if limits is None else _limit_rows(columns, ours, limits)
        return rows + ([] if theirs is None else _compared(folder))


class _Parts:
    """Parts of the measurement, each in a process of its own, as long as there is time."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def find(self, name: str, **asked: Any) -> dict[str, Any] | None:
        """What a function of this module finds; None where it fails or takes too long, which is said."""
        begun = time.perf_counter()
        left = ALL_LONGEST - (begun - self.begun)
        line: dict[str, Any] = {"part": name, "seconds": 0.0} | asked
        found, missing = None, "no time was left" if left < SHORTEST else ""
        if not missing:
            try:
                found = _in_process(name, min(LONGEST, left), **asked)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                missing = str(error)[-3000:]
        line |= {"failed": missing} if found is None else {"found": found}
        line["seconds"] = time.perf_counter() - begun
        print(json.dumps(line), file=sys.stderr, flush=True)
        with OUT.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        return found


def _in_process(name: str, longest: float = 60.0, **asked: Any) -> dict[str, Any]:
    """What a function of this module finds in a process of its own, those on the cores without an
    accelerator."""
    environment = {"JAX_PLATFORMS": "cpu"} if "cores" in name else {}
    if "without_threads" in name:
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as cache:
        return timing.in_fresh_process(
            f"benchmarks.gpu:{name}", cache, environment=environment, longest=longest, **asked
        )


def device() -> dict[str, Any]:
    """What JAX computes on."""
    import jax

    found = jax.devices()[0]
    return {"device": found.device_kind, "platform": found.platform}


def rates(quick: bool) -> dict[str, Any]:
    """What the device is, and its limits: bytes of a copy and operations of a product a second, and seconds of
    one round of a loop and of one small operation in it."""
    import jax
    import jax.numpy as jnp

    found = device()
    with jax.enable_x64(True):
        large = jnp.arange(2**22 if quick else 2**29, dtype=jnp.float64)
        found["bytes_a_second"] = 2 * large.nbytes / _median(jax.jit(lambda x: x + 1), large)
        del large
        size = 256 if quick else SIZE
        for name, dtype, precision in (
            ("float64", jnp.float64, "highest"),
            ("float32", jnp.float32, "highest"),
            ("float32_by_default", jnp.float32, None),
        ):
            factor = jax.random.normal(jax.random.key(0), (size, size), dtype)
            product = jax.jit(lambda x, p=precision: jnp.matmul(x, x, precision=p))
            found[f"{name}_operations_a_second"] = 2 * size**3 / _median(product, factor)
            exact = np.asarray(factor[:4], np.float64) @ np.asarray(factor, np.float64)
            off = np.linalg.norm(np.asarray(product(factor)[:4], np.float64) - exact)
            found[f"{name}_error"] = float(off / np.linalg.norm(exact))
        found |= _loop_costs(100 if quick else 5000)
    return found


def _loop_costs(rounds: int) -> dict[str, float]:
    """Seconds of a round of a compiled loop, and of each of many small operations in it."""
    import jax
    import jax.numpy as jnp

    def loop(products: int) -> Callable[[Any], Any]:
        def once(carry: tuple[Any, Any]) -> tuple[Any, Any]:
            number, x = carry
            for _ in range(products):
                x = jnp.tanh(x @ x)
            return number + 1, x * 0.999

        def whole(x: Any) -> Any:
            start = jnp.zeros((), int), x
            return jax.lax.while_loop(lambda carry: carry[0] < rounds, once, start)[1]

        return jax.jit(whole)

    x = jax.random.normal(jax.random.key(0), (16, 16))
    empty, full = (_median(loop(products), x) / rounds for products in (0, 20))
    return {"round_seconds": empty, "product_seconds": (full - empty) / 20}


def _median(work: Callable[[Any], Any], asked: Any, repeats: int = 5) -> float:
    """Seconds of compiled work, after a first call."""
    import jax

    return timing.medians({"": lambda: jax.block_until_ready(work(asked))}, repeats)[""]


def _axes(columns: int, seeds: int) -> tuple[dict[str, list[Any]], Any]:
    """The grid of a sweep and its base."""
    import ssm

    minority_count, ratios = RATIOS[columns]
    base = ssm.Config(minority_count=minority_count, feature_dim=DIM, num_saves=SAVES)
    return {"imbalance_ratio": ratios} | AXES | {"seed": list(range(seeds))}, base


def cores(columns: int, fewer: int, results: str) -> dict[str, Any]:
    """The sweep on this machine's cores."""
    import ssm
    from ssm.support import machine

    axes, base = _axes(columns, fewer)
    ssm.sweep(axes | {"seed": [0], "weight_exponent": [0.0]}, base)  # compiled
    begun = time.process_time()
    seconds, swept = _timed(lambda: ssm.sweep(axes, base))
    busy = (time.process_time() - begun) / seconds
    return {"seconds": seconds, "cores": machine.num_cores(), "busy": busy} | _kept(swept, results)


def cores_without_threads(columns: int, fewer: int, results: str) -> dict[str, Any]:
    """The same where the linear algebra of NumPy has one thread."""
    return cores(columns, fewer, results)


def batch(columns: int, seeds: int, fewer: int, results: str) -> dict[str, Any]:
    """The parts that the sweep on an accelerator in one batch consists of, and then the whole with `fewer`
    seeds."""
    import jax

    import ssm
    from ssm.dynamics import trajectories

    axes, base = _axes(columns, seeds)
    found: dict[str, Any] = {}
    found["prepare"], groups = _timed(lambda: list(_prepared(axes, base, columns)))
    ready = [run for group in groups for run in group]
    jax.block_until_ready(jax.numpy.zeros(1) + 1)  # the device is there
    found["stack"], stacked = _timed(lambda: trajectories.stacked([run.flow for run in ready]))
    with jax.enable_x64(True):
        found["there"], stacked = _timed(lambda: jax.block_until_ready(jax.device_put(stacked)))
        found["first"], _ = _timed(lambda: jax.block_until_ready(trajectories.solve_batch(stacked)))
        found["solve"] = _median(trajectories.solve_batch, stacked, 3)
        solved = jax.block_until_ready(trajectories.solve_batch(stacked))
        found["back"], solved = _timed(lambda: jax.device_get(solved))
        text = trajectories.solve_batch.lower(stacked).compile().as_text() or ""
    stacked = None  # its memory is the device's
    found |= {"runs": len(ready), "operations": _operations(text)}
    found |= {"state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(ready[0].flow.params))}
    leaves, structure = jax.tree.flatten(solved)
    found["observed_bytes"] = sum(leaf.nbytes for leaf in leaves) / len(ready)
    each = [structure.unflatten([leaf[i] for leaf in leaves]) for i in range(len(ready))]
    found["steps"] = sum(int(kept[1]) for kept, _ in each)
    found["most_steps"] = max(int(kept[1]) for kept, _ in each)
    found["make"] = _making(groups, each)
    found["memory"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    axes["seed"] = axes["seed"][:fewer]
    of_fewer = [run.flow for group in groups for run in group[:fewer]]
    size = len(of_fewer)
    with jax.enable_x64(True):  # as large a batch as the sweep's, compiled
        stacked = jax.device_put(trajectories.stacked(of_fewer))
        found["solve_fewer"] = _median(trajectories.solve_batch, stacked, 3)
    before, begun = trajectories.num_compilations(), time.process_time()
    found["seconds"], swept = _timed(lambda: ssm.sweep(axes, base, chunk_size=size))
    found["busy"] = (time.process_time() - begun) / found["seconds"]
    found["compilations"] = trajectories.num_compilations() - before
    return found | {"sweep": _kept(swept, results)}


def _making(groups: list[list[Any]], each: list[Any]) -> float:
    """Seconds in which what was found of all runs is made into variables, from every tenth group."""
    from ssm import simulation

    seeds, some = len(groups[0]), range(0, len(groups), 10)

    def make() -> None:
        for i in some:
            made = simulation.make_trajectories(groups[i], each[i * seeds : (i + 1) * seeds])
            for run, one in zip(groups[i], made, strict=True):
                simulation.run_arrays(run, one)

    return _timed(make)[0] * len(groups) / len(some)


def fewer(columns: int, seeds: int) -> dict[str, Any]:
    """Seconds and steps of batches of fewer runs, and of the whole batch with two saved times in place of all."""
    import jax

    from ssm.dynamics import trajectories

    axes, base = _axes(columns, seeds)
    flows = [run.flow for group in _prepared(axes, base, columns) for run in group]
    order = np.random.default_rng(0).permutation(len(flows)).tolist()
    batches = {
        "of_1": [flows[order[0]]],
        "of_256": [flows[i] for i in order[:256]],
        "without_saves": [dataclasses.replace(flow, times=flow.times[[0, -1]]) for flow in flows],
    }
    found: dict[str, Any] = {}
    with jax.enable_x64(True):
        for name, some in batches.items():
            stacked = jax.device_put(trajectories.stacked(some))
            found[name] = _median(trajectories.solve_batch, stacked, 3)
            kept, _ = jax.device_get(trajectories.solve_batch(stacked))
            found[f"steps_{name}"] = int(kept[1].max())
    return found


def single() -> dict[str, Any]:
    """One run by `ssm.simulate` in each precision: its learning times, seconds and status."""
    import ssm

    config = ssm.Config(feature_dim=DIM, num_saves=SAVES, coupling=0.25)
    found: dict[str, Any] = {}
    for dtype in ("float64", "float32"):
        one = dataclasses.replace(config, dtype=dtype)
        ssm.simulate(one)
        seconds, run = _timed(lambda one=one: ssm.simulate(one))
        found[dtype] = {
            "seconds": seconds,
            "status": run.attrs["status"],
            "steps": int(run.attrs["num_steps"]),
            "learning_time": run["learning_time"].values.tolist(),
        }
    return found


def _prepared(axes: dict[str, list[Any]], base: Any, columns: int) -> Iterator[list[Any]]:
    """The runs of the grid made ready, those that differ in their seed only together."""
    from ssm import preparation

    *fields, _ = axes
    for values in itertools.product(*(axes[field] for field in fields)):
        setting = dataclasses.replace(base, **dict(zip(fields, values, strict=True)))
        configs = [dataclasses.replace(setting, seed=seed) for seed in axes["seed"]]
        yield preparation.prepare_together([preparation.Alike(configs, columns)])[0]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def _kept(swept: Any, results: str) -> dict[str, Any]:
    """What is compared of a sweep, written down, and its steps."""
    np.savez(results, **{name: swept[name].values for name in ("learning_time", "strength")})
    steps = swept["num_steps"].values
    return {
        "runs": steps.size,
        "steps": int(steps.sum()),
        "most_steps": int(steps.max()),
        "finished": int((swept["status"].values == "finished").sum()),
    }


def _operations(text: str, least: int = 4) -> dict[str, int]:
    """How many operations each part of a compiled program sends to the device, as far as they are seen in its
    text: all but those inside of a merged one. Parts of fewer than `least` are left out."""
    merged = set(re.findall(r"[^\w]calls=%?([\w.-]+)", text))
    merged |= set(re.findall(r" (?:reduce|sort|scatter|map)\(.*to_apply=%?([\w.-]+)", text))
    kinds = (
        r" = \S.* (?:fusion|custom-call|copy|dynamic-update-slice|reduce|dot|sort|scatter|while)\("
    )
    found: dict[str, int] = {}
    part = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            part = line.removeprefix("ENTRY ").lstrip("%").split(" ")[0]
        elif part not in merged and re.search(kinds, line):
            found[part] = found.get(part, 0) + 1
    return {name: number for name, number in found.items() if number >= least}


def _limits(found: dict[str, Any]) -> list[Row]:
    """What the device can do."""
    return [
        Row(f"the device: {found['device']}", f"{found['bytes_a_second'] / 1e9:.0f} GB/s"),
        *(
            Row(
                f"product of {SIZE} x {SIZE}, {name.replace('_', ' ')}",
                f"{found[f'{name}_operations_a_second'] / 1e12:.3g} TFLOP/s, off by {found[f'{name}_error']:.1e}",
            )
            for name in ("float64", "float32", "float32_by_default")
        ),
        Row("a round of an empty compiled loop", f"{1e6 * found['round_seconds']:.3g} us"),
        Row("a product of 16 x 16 in it", f"{1e6 * found['product_seconds']:.3g} us"),
    ]


def _cores_rows(
    columns: int, found: dict[str, Any] | None, alone: dict[str, Any] | None
) -> list[Row]:
    """The sweep on the cores, and where the linear algebra of NumPy has one thread."""
    rows = []
    for one, more in ((found, ""), (alone, ", one thread for NumPy's linear algebra")):
        if one is not None:
            busy = f"{one['busy']:.1f} of {one['cores']} cores busy"
            what = f"n = {columns}: ssm.sweep, {one['runs']:,} runs, {busy}{more}"
            rows.append(Row(what, milliseconds(one["seconds"] / one["runs"])))
    return rows


def _sweep_rows(columns: int, ours: dict[str, Any], theirs: dict[str, Any] | None) -> list[Row]:
    """The sweep in a batch and its parts."""
    runs, solve, sweep = ours["runs"], ours["solve"] / ours["runs"], ours["sweep"]
    whole = ours["seconds"] / sweep["runs"]
    of_cores = None if theirs is None else theirs["seconds"] / theirs["runs"]
    to = "" if theirs is None else f"faster than {theirs['cores']} cores"

    def faster(seconds: float) -> float | None:
        return None if of_cores is None else of_cores / seconds

    finished = f"{sweep['finished']:,} finished"
    steps = f"{ours['most_steps']} steps at most, {ours['steps'] / runs:.1f} in the mean"
    most = max(ours["operations"].values(), default=0)
    rows = [
        Row(
            f"n = {columns}: ssm.sweep, {sweep['runs']:,} runs in one batch, {finished}",
            milliseconds(whole),
            faster(whole),
            to,
        ),
        Row(f"a batch of {runs:,}, {steps}", milliseconds(solve), faster(solve), to),
        Row(
            f"a batch of {sweep['runs']:,}",
            milliseconds(ours["solve_fewer"] / sweep["runs"]),
        ),
        *(
            Row(
                f"of these: {what}",
                milliseconds(ours[name] / runs),
                ours[name] / runs / solve,
                "the batch",
            )
            for name, what in (
                ("prepare", "prepared"),
                ("stack", "stacked"),
                ("there", "sent to the device"),
                ("back", "sent back"),
                ("make", "made into variables"),
            )
        ),
        Row("compiled", f"{ours['first'] - ours['solve']:.3g} s"),
        Row("operations sent one by one in the largest part of the program", f"{most}"),
    ]
    if ours["memory"] is not None:
        rows.append(Row("most memory of the device", f"{ours['memory'] / 2**30:.3g} GiB"))
    return rows


def _limit_rows(columns: int, ours: dict[str, Any], limits: dict[str, Any]) -> list[Row]:
    """How far a batch is from what the device can do."""
    products = 3 * 2 * CLASSES * DIM * columns  # W H, G H^T and W^T G
    arithmetic = num_evaluations(ours["steps"]) * products
    arithmetic = arithmetic / limits["float64_operations_a_second"]
    moved = _bytes(ours)
    least = {
        f"bandwidth, {moved['memory'] / 1e9:.3g} GB": moved["memory"] / limits["bytes_a_second"],
        f"on chip, {moved['chip'] / 1e9:.3g} GB": moved["chip"] / limits["bytes_a_second"],
        "arithmetic": arithmetic,
    }
    return [
        Row(f"limit: {what}", f"{seconds:.3g} s", ours["solve"] / seconds, "of it the batch takes")
        for what, seconds in least.items()
    ]


def _bytes(ours: dict[str, Any]) -> dict[str, float]:
    """The least bytes of a batch whose state lies in memory between its stages, and of one whose state
    stays on the chip."""
    once = ours["runs"] * (ours["state_bytes"] + ours["observed_bytes"])
    copies = copies_moved(ours["most_steps"], 0)
    return {"memory": copies * ours["runs"] * ours["state_bytes"] + once, "chip": once}


def _compared(folder: str) -> list[Row]:
    """How far the two sweeps are apart."""
    ours, theirs = (np.load(f"{folder}/{where}.npz") for where in ("batch", "cores"))
    times = np.nanmax(np.abs(ours["learning_time"] / theirs["learning_time"] - 1))
    strength = np.nanmax(np.abs(ours["strength"] - theirs["strength"]))
    strength = strength / np.nanmax(np.abs(theirs["strength"]))
    missing = (np.isnan(ours["learning_time"]) != np.isnan(theirs["learning_time"])).sum()
    return [
        Row(
            "learning times apart, relative, most",
            f"{times:.1e}",
            times / SAME,
            f"{SAME:g}",
            at_most=1,
        ),
        Row(
            "strengths apart, of the largest, most",
            f"{strength:.1e}",
            strength / SAME,
            f"{SAME:g}",
            at_most=1,
        ),
        Row("learned on one side only", f"{missing}", float(missing), "none", at_most=0),
    ]


def _single_rows(found: dict[str, Any] | None) -> list[Row]:
    """One run in each precision, and how far its learning times are from those in float64."""
    if found is None:
        return [Row("ssm.simulate, one run", "not measured")]
    exact = np.array(found["float64"]["learning_time"], float)
    rows = []
    for dtype, one in found.items():
        apart = np.nanmax(np.abs(np.array(one["learning_time"], float) / exact - 1))
        what = f"ssm.simulate, one run, {dtype}, {one['steps']} steps, {one['status']}"
        row = Row(
            what if dtype == "float64" else f"{what}, learning times apart by {apart:.1e}",
            milliseconds(one["seconds"]),
        )
        rows.append(row)
    return rows


def _fewer_rows(found: dict[str, Any] | None) -> list[Row]:
    """What a batch costs beside its arithmetic."""
    if found is None:
        return [Row("n = 50: batches of fewer runs", "not measured")]
    names = {
        "of_1": "a batch of one run",
        "of_256": "a batch of 256 runs",
        "without_saves": "the whole batch with two saved times",
    }
    rows = []
    for name, what in names.items():
        seconds, steps = found[name], found[f"steps_{name}"]
        a_step = f"{1e6 * seconds / steps:.0f} us a step"
        rows.append(Row(f"n = 50: {what}, {steps} steps", f"{seconds:.3g} s, {a_step}"))
    return rows
