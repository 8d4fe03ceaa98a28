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


class Convolutional:
    """The network of the experiment `digits` from given parameters, trained by a loop as torch's
    tutorials have it."""

    RATE, MOMENTUM = 0.05, 0.9

    def __init__(self, params: Sequence[Any], side: int, cores: int):
        """The parameters are this project's, layer by layer: kernels (3, 3, in, out) of images whose
        channels are last, and a linear kernel (in, out)."""
        import torch

        torch.set_num_threads(cores)
        *self.kernels, linear = [torch.from_numpy(np.array(layer.kernel)) for layer in params]
        biases = [torch.from_numpy(np.array(layer.bias)) for layer in params]
        self.side, self.last = -(-side // 4), self.kernels[-1].shape[-1]
        self.image_shape = side, side
        network, layers = [], []
        for kernel, bias in zip(self.kernels, biases, strict=False):
            layer = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, stride=2)
            layer.weight.data, layer.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), bias
            # an even side has its zeros at the end
            network += [torch.nn.ZeroPad2d((0, 1, 0, 1)), layer, torch.nn.ReLU()]
            layers.append(layer)
        flat = self.last * self.side**2
        layer = torch.nn.Linear(flat, linear.shape[1])
        by_place = linear.reshape(self.side, self.side, self.last, -1).permute(3, 2, 0, 1)
        layer.weight.data, layer.bias.data = by_place.reshape(-1, flat).contiguous(), biases[-1]
        self.layers = [*layers, layer]
        self.network = torch.nn.Sequential(*network, torch.nn.Flatten(), layer)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=self.RATE, momentum=self.MOMENTUM
        )

    def train(self, images: np.ndarray, labels: np.ndarray, batch: int, num_steps: int) -> None:
        """So many steps on mini-batches, in a new order for each pass."""
        import torch

        X = torch.from_numpy(images).reshape(-1, 1, *self.image_shape)
        y = torch.from_numpy(labels)
        order, place = torch.randperm(len(X)), 0
        for _ in range(num_steps):
            if place >= len(X):
                order, place = torch.randperm(len(X)), 0
            chosen = order[place : place + batch]
            place += batch
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.network(X[chosen]), y[chosen]).backward()
            self.optimizer.step()

    def params(self) -> list[np.ndarray]:
        """Kernels and biases in this project's order of axes."""
        found = []
        for layer in self.layers:
            weight = layer.weight.detach()
            if weight.ndim == 4:
                kernel = weight.permute(2, 3, 1, 0)
            else:
                by_place = weight.reshape(-1, self.last, self.side, self.side)
                kernel = by_place.permute(2, 3, 1, 0).reshape(weight.shape[1], -1)
            found += [kernel.numpy(), layer.bias.detach().numpy()]
        return found


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
