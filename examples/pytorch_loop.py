"""A PyTorch network on imbalanced digits: weights, spectra and collapse followed, stopped in time."""

import numpy as np
import torch
from sklearn.datasets import load_digits

import ssm

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(y))
taken = np.concatenate([order[y[order] == c][: 100 if c < 5 else 10] for c in range(10)])
held = np.setdiff1d(order, taken)
images, labels = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
counts = np.bincount(y[taken])
body, head = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()), torch.nn.Linear(64, 10)
network = torch.nn.Sequential(body, head)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
weights = ssm.weights.power_law(counts, 0.5)  # n_c^(-1/2), which balances what grows alone
loss = torch.nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32))
monitor = ssm.practice.TrainingMonitor(y[held], counts, patience=60)
with ssm.Tracker(y[taken], "digits.zarr", held_out_labels=y[held], batch_size=64) as tracker:
    for step in range(600):
        if step % 10 == 0:
            with torch.no_grad():
                features, outside = body(images[taken]), network(images[held])
            tracker.add(step, head(features), features, head.weight, None, weights, outside)
            decision = monitor.observe(step, outside.numpy(), weights)
            if decision.is_best:
                torch.save(network.state_dict(), "best.pt")
            if decision.stop:
                break
        optimizer.zero_grad()
        batch = rng.choice(taken, 64)
        loss(network(images[batch]), labels[batch]).backward()
        optimizer.step()
network.load_state_dict(torch.load("best.pt"))
print(f"stopped at {step}, went back to {decision.best_step}")
print("effective weights", tracker.dataset().effective_weight.values[-1].round(2))
