"""A network followed while it trains: its spectrum, its collapse and its coupling, in a log that a kill leaves whole."""

import numpy as np

import ssm

# Two layers in plain numpy stand for your network, Gaussian classes of 200 and 20 samples for your data.
rng = np.random.default_rng(0)
labels = np.repeat(["cat", "dog", "lynx", "wolf"], [200, 200, 20, 20])
classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
inputs = 2 * rng.standard_normal((4, 30))[numbers] + rng.standard_normal((len(labels), 30))
first, second = 0.02 * rng.standard_normal((30, 64)), 0.02 * rng.standard_normal((64, 4))

watched = ssm.probe_set(labels, 80)  # 20 of each class, the same in every run
with ssm.Tracker(labels[watched], "log.zarr", class_counts=counts, on_alarm=print) as tracker:
    for step in range(301):
        hidden = inputs @ first
        logits = hidden @ second
        if step % 5 == 0:
            tracker.add(step, logits[watched], hidden[watched], classifier=second.T)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        errors = (odds / odds.sum(axis=1, keepdims=True) - np.eye(4)[numbers]) / len(labels)
        into_hidden = errors @ second.T
        second -= 0.01 * hidden.T @ errors
        first -= 0.01 * inputs.T @ into_hidden
    print(
        {name: round(value, 3) for name, value in tracker.scalars().items() if "accuracy" in name}
    )

log = ssm.load("log.zarr")
print(log.block_learning_time.to_series().round(1).to_dict())
print(
    "coupling",
    log.coupling.values[[0, -1]].round(2),
    "g*",
    log.balancing_exponent.values[[0, -1]].round(2),
)
ssm.plotting.save_figure(ssm.plotting.figure(log, "network"), "network.png")
