"""A small record of a study with planted differences, for the tests of what shows one."""

import json

import numpy as np
import xarray as xr

CLASSES, COUNTS = ["<script>alert(1)</script>", "b & $c$", "rare"], [40, 20, 8]
STRATEGIES = ["erm", "inverse", "drw"]
METRICS = ["accuracy", "balanced_accuracy", "worst_class_recall", "macro_f1", "macro_auc"]
METRICS += ["macro_average_precision", "log_loss", "calibration_error", "class_calibration_error"]
OF_CLASSES = ["precision", "recall", "f1", "auc", "average_precision", "calibration_error_of_class"]
CORRECTIONS, SHIFTS = (
    ["none", "training", "uniform", "temperature"],
    ["training", "uniform", "reversed"],
)
SEEDS, FOLDS, STEPS = 2, 3, 4


def make_record(*, seeds=SEEDS, folds=FOLDS, counts=COUNTS, extras=True, margin=0.05, minimum=None):
    """`inverse` raises worst-class recall by 0.2 and calibration error by 0.1, each in all folds
    alike up to 0.001; its accuracy differs by noise of 0.05. `drw` is the same as `erm`."""
    rng = np.random.default_rng(5)
    ablations, sensitivity = [], []
    variants = [*STRATEGIES, *(["inverse x 4", "erm, 50% of the samples"] if extras else [])]
    if extras:
        pairs = [("weights", "inverse", "none", "erm"), ("post-hoc", "erm", "uniform", "erm")]
        ablations = [
            {"factor": factor, "setting": setting, "on": [on, how], "off": [off, "none"]}
            for setting in ("alone", "combined")
            for factor, on, how, off in pairs
        ]
        sensitivity = [
            {
                "kind": "weight scale",
                "variant": "inverse x 4",
                "value": 4.0,
                "reference": "inverse",
            },
            {"kind": "sample size", "variant": variants[4], "value": 0.5, "reference": "erm"},
        ]
    v, k, n = len(variants), len(CLASSES), sum(counts)
    base = rng.uniform(0.4, 0.6, (seeds, folds))
    arrays = {}
    for name in METRICS:
        scores = np.repeat(base[None, :, :, None], v, 0).repeat(len(CORRECTIONS), 3)
        arrays[name] = (("variant", "seed", "fold", "correction"), scores)
    for name, gain, noise in (
        ("worst_class_recall", 0.2, 0.001),
        ("calibration_error", 0.1, 0.001),
        ("accuracy", 0.0, 0.05),
    ):
        arrays[name][1][1] += gain + noise * rng.standard_normal((seeds, folds, 1))
    shape = (v, seeds, folds, len(CORRECTIONS), k)
    for name in OF_CLASSES:
        arrays[name] = (("variant", "seed", "fold", "correction", "class"), rng.random(shape))
    arrays["shifted_accuracy"] = (
        ("variant", "seed", "fold", "correction", "shift"),
        rng.random((*shape[:4], len(SHIFTS))),
    )
    runs, cells = ("variant", "seed", "fold"), (v, seeds, folds)
    steps = np.broadcast_to(50.0 * np.arange(STEPS), (*cells, STEPS)).copy()
    history = ("class_recall", "gradient_share", "class_weight")
    histories = {name: rng.random((*cells, STEPS, k)) for name in history}
    histories["class_weight"][:] = 1.0
    histories["class_weight"][2, :, :, 2:, 2] = 5.0
    for values in (steps, *histories.values()):
        values[1, 0, 0, 2:] = np.nan  # a run that stopped early
    arrays["history_step"] = ((*runs, "evaluation"), steps)
    arrays["history_epoch"] = ((*runs, "evaluation"), steps / 10)
    for name, values in histories.items():
        arrays[f"history_{name}"] = ((*runs, "evaluation", "class"), values)
    labels = np.repeat(np.arange(k), counts)
    logits = rng.standard_normal((v, seeds, n, k)) + 2 * np.eye(k)[labels]
    stop_step = np.nanmax(steps, axis=-1)
    arrays |= {
        "best_step": (runs, np.minimum(100, stop_step)),
        "stop_step": (runs, stop_step),
        "temperature": (runs, rng.uniform(0.5, 2, cells)),
        "status": (runs, np.full(cells, "finished")),
        "logits": (("variant", "seed", "sample", "class"), logits),
        "corrected_logits": (("variant", "seed", "sample", "class"), logits + np.log([1, 2, 3])),
        "fold_of": (("seed", "sample"), rng.integers(folds, size=(seeds, n))),
        "label": (("sample",), labels),
    }
    study = {
        "data": "data.csv",
        "folds": folds,
        "seeds": seeds,
        "imbalance_ratio": None,
        "profile": "step",
        "num_steps": 150,
        "hidden_layer_sizes": [64, 32],
        "early_stopping": "balanced_accuracy",
        "alarm_action": "warn",
        "margin": margin,
        "minimum_score": minimum,
        "ablations": extras,
        "name": "<b>data</b>",
        "num_samples": n,
        "num_features": 2,
        "class_counts": list(counts),
    }
    attributes = {
        "study": json.dumps(study),
        "strategies": json.dumps(STRATEGIES),
        "weighted": json.dumps(["drw"]),
        "descriptions": json.dumps({name: f"about {name}" for name in variants}),
        "ablations": json.dumps(ablations),
        "sensitivity": json.dumps(sensitivity),
        "versions": "ssm==0",
        "git_commit": "unknown",
        "created": "2025-01-01T00:00:00+00:00",
    }
    coords = {
        "variant": variants,
        "seed": np.arange(seeds),
        "fold": np.arange(folds),
        "correction": CORRECTIONS,
        "shift": SHIFTS,
        "class": CLASSES,
    }
    return xr.Dataset(arrays, coords, attributes)
