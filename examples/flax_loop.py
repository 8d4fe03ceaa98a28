"""A Flax network on imbalanced digits: class weights that come in with time, the network followed and stopped in time."""

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import ssm

rng, (X, y) = np.random.default_rng(0), load_digits(return_X_y=True)
order = rng.permutation(len(y))
taken = np.concatenate([order[y[order] == c][: 100 if c < 5 else 10] for c in range(10)])
held, counts, X = np.setdiff1d(order, taken), np.bincount(y[taken]), np.float32(X / 16)
body = nnx.Sequential(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), nnx.relu)
network = nnx.Sequential(body, nnx.Linear(64, 10, rngs=nnx.Rngs(1)))
optimizer = nnx.Optimizer(network, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
ramp = ssm.schedules.Ramp(ssm.schedules.LinearRamp(50, 50), ssm.schedules.PrevalencePower(1.0))
monitor = ssm.practice.TrainingMonitor(y[held], counts, patience=60)


@nnx.jit
def train(network, optimizer, inputs, labels, weights):
    """One step by the weighted losses of a mini-batch over their number."""
    losses = optax.softmax_cross_entropy_with_integer_labels
    gradient = nnx.grad(lambda network: (weights * losses(network(inputs), labels)).mean())
    optimizer.update(network, gradient(network))


with ssm.Tracker(y[taken], "digits.zarr", held_out_labels=y[held]) as tracker:
    for step in range(0, 600, 10):
        weights, _ = ssm.schedules.step_weights(ramp, (), ssm.schedules.Statistics(counts), step)
        features, outside, classifier = body(X[taken]), network(X[held]), network.layers[1].kernel.T
        tracker.add(step, network(X[taken]), features, classifier, None, weights, outside)
        if (decision := monitor.observe(step, outside, weights)).stop:
            break
        if decision.is_best:
            best = nnx.clone(network)  # nnx.state alone would change with the network
        for rows in rng.choice(taken, (10, 64)):
            train(network, optimizer, X[rows], y[rows], weights[y[rows]])
print(f"stopped at {step}, went back to {decision.best_step}")
