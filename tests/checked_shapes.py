"""JAX as tests have it, and `ssm` imported with the shapes of its arrays checked: float64, implicit rank promotion an error, and what
is compiled kept on disk."""

import os

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Rooms and modules whose arrays have their shapes checked.
ARRAYS = [
    "dynamics",
    "measures",
    "practice.decisions.calibrators",
    "practice.decisions.rounds",
    "practice.network.batches",
    "practice.network.checkpoints",
    "practice.network.decisions",
    "practice.network.monitors",
    "practice.network.networks",
    "practice.network.objective",
    "practice.network.observing",
    "practice.network.runs",
    "practice.network.tasks",
    "practice.network.training",
    "practice.statistics.comparisons",
    "practice.statistics.resampled",
    "practice.study.strategies",
    "problem.inputs",
    "problem.losses",
    "problem.own_data",
    "problem.posthoc",
    "problem.problem",
    "problem.schedules",
    "problem.weights",
    "simulation",
    "theory",
    "tracking.batches",
    "tracking.features",
    "tracking.logs",
    "tracking.observing",
]
with install_import_hook([f"ssm.{name}" for name in ARRAYS], "beartype.beartype"):
    import ssm
    import ssm.advice
    import ssm.cli
    import ssm.plots.runs
    import ssm.practice.decisions.reweighted
    import ssm.practice.network.checkpoints
    import ssm.practice.network.tasks
    import ssm.practice.statistics.comparisons
    import ssm.practice.study.strategies
    import ssm.simulation
    import ssm.sweeps.sweep
    import ssm.theory
    import ssm.tracking.tracker  # noqa: F401 (imported to have its shapes checked)
