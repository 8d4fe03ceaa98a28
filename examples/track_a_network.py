"""The logits of a network of your own through the spectral lens: log them while it trains, then track them."""

import numpy as np

import ssm

# Two layers in plain numpy stand for your network, Gaussian classes of 200 and 20 samples for your data.
rng = np.random.default_rng(0)
labels = np.repeat(np.arange(4), [200, 200, 20, 20])
inputs = 2 * rng.standard_normal((4, 30))[labels] + rng.standard_normal((len(labels), 30))
one_hot = np.eye(4)[labels]
first, second = 0.02 * rng.standard_normal((30, 64)), 0.02 * rng.standard_normal((64, 4))

logged, steps = [], []
for step in range(301):
    hidden = inputs @ first
    logits = hidden @ second
    if step % 5 == 0:  # all training samples, the same each time
        logged.append(logits)
        steps.append(step)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = (odds / odds.sum(axis=1, keepdims=True) - one_hot) / len(labels)
    into_hidden = errors @ second.T
    second -= 0.01 * hidden.T @ errors
    first -= 0.01 * inputs.T @ into_hidden

tracked = ssm.track(np.stack(logged), labels, np.array(steps))
print(tracked.block_learning_time.to_series().round(1).to_dict())
print(tracked.class_learning_time.values.round(1))
ssm.plotting.save_figure(ssm.plotting.figure(tracked, "blocks"), "network.png")
np.savez("log.npz", logits=np.stack(logged), labels=labels, times=steps)
