"""torchdiffeq's dopri5, and plain torch loops of gradient descent as a notebook would have them."""

# torch comes with the extra `bench` alone, and the static checks run without it
# pyright: reportMissingImports=false

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.numpy_model import NumpyModel
from ssm import Config


def dopri5_batch(configs: Sequence[Config], rtol: float) -> list[np.ndarray]:
    """Block strengths over time of runs that differ in their seed, as one system of equations that
    takes one step for all."""
    import torch
    import torchdiffeq

    made = [NumpyModel(config) for config in configs]
    one_hot = torch.from_numpy(np.eye(len(made[0].counts))[:, made[0].labels])
    risk_weights = torch.from_numpy(made[0].risk_weights)

    def field(time: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        W, H = state
        G = (one_hot - torch.softmax(W @ H, -2)) * risk_weights
        return G @ H.mT, W.mT @ G

    with torch.no_grad():
        solved: Any = torchdiffeq.odeint(
            field,
            (_stack([m.W for m in made]), _stack([m.H for m in made])),
            torch.from_numpy(made[0].times),
            rtol=rtol,
            atol=rtol * configs[0].init_scale,
            method="dopri5",
        )
    W, H = (x.numpy() for x in solved)
    return [m.observe(W[:, i], H[:, i])["block_strength"] for i, m in enumerate(made)]


def dopri5(config: Config, rtol: float) -> np.ndarray:
    """Block strengths over time of one run."""
    return dopri5_batch([config], rtol)[0]


def gradient_descent(config: Config, steps: int) -> np.ndarray:
    """Block strengths over time of gradient descent, `steps` steps from one saved time to the next,
    the gradient by autograd."""
    import torch

    made = NumpyModel(config)
    W = torch.from_numpy(made.W.copy()).requires_grad_()
    H = torch.from_numpy(made.H.copy()).requires_grad_()
    labels, risk_weights = torch.from_numpy(made.labels), torch.from_numpy(made.risk_weights)
    optimizer = torch.optim.SGD([W, H], lr=float(made.times[1] - made.times[0]) / steps)
    kept = [(made.W, made.H)]
    for _ in made.times[1:]:
        for _ in range(steps):
            optimizer.zero_grad()
            losses = torch.nn.functional.cross_entropy((W @ H).T, labels, reduction="none")
            (risk_weights @ losses).backward()
            optimizer.step()
        kept.append((W.detach().numpy().copy(), H.detach().numpy().copy()))
    classifiers, features = map(np.stack, zip(*kept, strict=True))
    return made.observe(classifiers, features)["block_strength"]


def momentum(
    config: Config, epochs: int, every: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Epoch, W and H after each `every` of `epochs` epochs of training as the field's code has it:
    full batch, mean cross-entropy, step 0.1, momentum 0.9."""
    import torch

    made = NumpyModel(config)
    W = torch.from_numpy(made.W.copy()).requires_grad_()
    H = torch.from_numpy(made.H.copy()).requires_grad_()
    labels = torch.from_numpy(made.labels)
    optimizer = torch.optim.SGD([W, H], lr=0.1, momentum=0.9)
    for epoch in range(1, epochs + 1):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy((W @ H).T, labels).backward()
        optimizer.step()
        if epoch % every == 0:
            yield epoch, W.detach().numpy().copy(), H.detach().numpy().copy()


def _stack(arrays: Sequence[np.ndarray]):
    import torch

    return torch.from_numpy(np.stack(arrays))


def descent_batch(configs: Sequence[Config], compiled: bool) -> list[np.ndarray]:
    """W at the end of gradient descent, of runs that differ in their seed, as one batch stepped in
    place, the gradient by its formula; `compiled` by torch.compile."""
    import torch

    made = [NumpyModel(config) for config in configs]
    W, H = _stack([m.W for m in made]), _stack([m.H for m in made])
    one_hot = torch.from_numpy(np.eye(len(made[0].counts))[:, made[0].labels])
    scale = torch.from_numpy(made[0].risk_weights) * (configs[0].learning_rate or 0.0)
    step = _compiled_step() if compiled else _step
    with torch.no_grad():
        for _ in range(configs[0].num_steps or 0):
            W, H = step(W, H, one_hot, scale)
    return list(W.numpy())


def _step(W: Any, H: Any, one_hot: Any, scale: Any) -> tuple[Any, Any]:
    import torch

    G = (one_hot - torch.softmax(W @ H, -2)) * scale
    return torch.baddbmm(W, G, H.mT), torch.baddbmm(H, W.mT, G)


@functools.cache
def _compiled_step() -> Any:
    import torch

    return torch.compile(_step)
