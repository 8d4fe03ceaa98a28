"""Fields of a Config that say what model is trained, from what start, and under what penalty."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from ssm.config.bounds import Within
from ssm.support import errors

Init = Literal["gaussian", "balanced", "spectral", "collapsed", "own"]
Bias = Literal["none", "hidden", "output", "both"]
LARGEST_STATE = 2**31  # numbers in W and H together: 16 GiB in float64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFields:
    """The layers, how the features are coupled, the start, and the decay."""

    coupling: Annotated[float, Within(0, 1)] = 0.0
    """c in [0, 1], how far training one sample moves the features of its class: 0 for free features, 1
    for shared ones (class means). Networks lie between. At 0 inverse square-root weights balance, and inverse
    frequency reverses the order, minorities first; at 1 inverse frequency balances."""
    between_coupling: Annotated[float, Within(0, 1, open_ends=")")] = 0.0
    """c_b in [0, 1), at most the coupling: how far training one sample moves the features of other
    classes. At c_b = c contrasts between classes move no more than contrasts between samples."""
    bias: Bias = "none"
    """What has a bias, which starts at 0: nothing (`none`), the features (`hidden`, a constant input that
    moves all of them alike), the logits (`output`), or `both`."""
    feature_dim: Annotated[int, Within(1, LARGEST_STATE)] = 16
    """Width d of the features. Below k - 1 the labels cannot be interpolated, which is allowed and
    reported."""
    depth: Annotated[int, Within(1, 100)] = 2
    """Number of layers L, features included: 2 is Z = W H; beyond it d x d layers stand between; at
    1 the features are the logits, Z = H, and feature_dim is num_classes."""
    init: Init = "gaussian"
    """Start: `gaussian` entries, `balanced` (the conserved matrix is zero), `spectral` (every
    component alike), or `collapsed` (Gaussian, all features of a class equal). `own` stands for a start
    that is given beside the Config, to `ssm.simulate` or `ssm.sweep`."""
    init_scale: Annotated[
        float, Within(1e-70, 1e70), Within(1e-18, 1e18, where=("dtype", "float32"))
    ] = 1e-3
    """Size of the start: standard deviation of the entries of W and H; a spectral start has product
    strength scale^depth. In [1e-70, 1e70], for float32 [1e-18, 1e18], so that its square can be
    told from 0 and infinity."""
    weight_decay: Annotated[float, Within(0, 1e50)] = 0.0
    """lam_W >= 0: the penalty (lam_W / 2) |W|^2 on the classifier and each hidden layer."""
    feature_decay: Annotated[float, Within(0, 1e50)] = 0.0
    """lam_H >= 0: the penalty (lam_H / 2) |H|^2 on the features (coupled ones: tr(H K^-1 H^T)); with
    noise_dim, or inputs of one's own, (lam_H / 2) |A|^2 on the layer that makes them, A. A bias of the logits
    does not decay."""

    @property
    def has_decay(self) -> bool:
        """Whether anything is penalised."""
        return self.weight_decay > 0 or self.feature_decay > 0

    @property
    def has_hidden_bias(self) -> bool:
        """Whether the features have a bias."""
        return self.bias in ("hidden", "both")

    @property
    def has_output_bias(self) -> bool:
        """Whether the logits have a bias."""
        return self.bias in ("output", "both")

    def check_model(self, num_classes: int) -> None:
        """Refuse, by InputError, classes that are coupled more with each other than within, and at depth 1, where the
        features are the logits, what these cannot have."""
        if self.between_coupling > self.coupling:
            allowed = f"at most the coupling within a class, {self.coupling:g}"
            raise errors.invalid("between_coupling", self.between_coupling, allowed)
        if self.depth > 1:
            return
        if self.has_output_bias:
            allowed = "none or hidden at depth=1, where the features are the logits"
            raise errors.invalid("bias", self.bias, allowed)
        if self.feature_dim != num_classes:
            allowed = f"num_classes, {num_classes}, at depth=1, where the features are the logits"
            raise errors.invalid("feature_dim", self.feature_dim, allowed)
        if self.weight_decay > 0:
            allowed = "0 at depth=1, which has no classifier to decay"
            raise errors.invalid("weight_decay", self.weight_decay, allowed)
        if self.init == "balanced":
            allowed = "another start at depth=1, which has no second layer to balance"
            raise errors.invalid("init", self.init, allowed)
