"""Keras's own loop on imbalanced digits: its callback follows the network, ends training in time and goes back to the best."""

import keras  # on any of its backends: KERAS_BACKEND=jax needs no other framework
import numpy as np
from sklearn.datasets import load_digits

import ssm
from ssm import schedules

keras.utils.set_random_seed(0)
X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
taken = np.concatenate([order[y[order] == c][: 100 if c < 5 else 10] for c in range(10)])
held, counts = np.setdiff1d(order, taken), np.bincount(y[taken])
chain = schedules.Chain(schedules.EffectiveNumber(0.99), schedules.UnitMean())
weights, _ = schedules.step_weights(chain, chain.init(counts), schedules.Statistics(counts), 0)
hidden, head = keras.layers.Dense(64, "relu"), keras.layers.Dense(10)
network = keras.Sequential([keras.Input((64,)), keras.layers.Rescaling(1 / 16), hidden, head])
network.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True))
watched = keras.Model(network.inputs[0], [head.output, hidden.output])
monitor = ssm.practice.TrainingMonitor(y[held], counts, patience=6)


class Follow(keras.callbacks.Callback):
    """Adds the network to the log before the first epoch and after each, and asks whether to go on."""

    def on_epoch_begin(self, epoch, logs=None):
        logits, features = watched.predict_on_batch(X)
        seen = logits[taken], features[taken], head.get_weights()[0].T, None, weights, logits[held]
        tracker.add(epoch, *seen)
        self.decision = monitor.observe(epoch, logits[held], weights)
        self.best = network.get_weights() if self.decision.is_best else self.best
        network.stop_training = self.decision.stop


follow, by_class = Follow(), dict(enumerate(weights))
with ssm.Tracker(y[taken], "digits.zarr", held_out_labels=y[held]) as tracker:
    network.fit(X[taken], y[taken], 32, 60, 0, [follow], class_weight=by_class)
network.set_weights(follow.best)
print(f"stopped at {follow.decision.step}, went back to {follow.decision.best_step}")
