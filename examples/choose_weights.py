"""From the class sizes and a network's features to the numbers that go into a loss."""

import numpy as np

import ssm
from ssm.advice import advise
from ssm.practice import kernels

# The features of the last layer when training begins, a row a sample; here drawn.
rng = np.random.default_rng(0)
labels = np.repeat([0, 1, 2], [500, 50, 5])
features = rng.standard_normal((len(labels), 400)) + 0.5 * rng.standard_normal((3, 400))[labels]

coupling = kernels.measured_coupling(features, labels).coupling
print(f"coupling {coupling:.2f}")

counts = np.bincount(labels)
(case,) = advise(counts, coupling).cases
for choice in case.choices:
    delay = choice.learning_time[-1] / choice.learning_time[0]
    print(f"{choice.name}: the last class is learned {delay:.1f} times later than the first")

# By class, of unit mean over samples: for CrossEntropyLoss(weight=...) of PyTorch, or as a dict for scikit-learn.
print(ssm.weights.power_law(counts, 1.0).round(3))  # inverse frequency
print(ssm.weights.power_law(counts, 0.5).round(3))  # inverse square root
