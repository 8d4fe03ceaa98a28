"""What tests of networks share: one small architecture and how often it is looked at, so that they share
what is compiled, three classes to learn, and options of training."""

import numpy as np

from ssm.practice.network import training
from ssm.practice.network.networks import Architecture
from ssm.practice.network.tasks import Samples

DENSE = Architecture((8,))
EVALUATE_EVERY = 10
COUNTS = (60, 30, 10)


def gaussians(rng, counts, distance, num_features=8):
    """Classes of unit variance, the mean of each so far along an axis of its own: rows and labels."""
    labels = np.repeat(np.arange(3), counts)
    X = rng.normal(size=(len(labels), num_features))
    X[:, :3] += distance * np.eye(3)[labels]
    return X, labels


def equal_samples(X, labels):
    """All of them of weight 1."""
    return Samples(X, labels, np.ones(len(labels)))


def training_options(**given):
    """Options of training that most tests leave as they are, with those that are given."""
    common = {
        "evaluate_every": EVALUATE_EVERY,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "reduction": "mean",
        "schedule": None,
        "score": "balanced_accuracy",
        "patience": None,
        "action": "warn",
        "max_rollbacks": 3,
        "seed": 0,
    }
    return training.TrainingOptions(**(common | given))
