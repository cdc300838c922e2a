"""The collaborative objective of DDM (Liu, Lin, Chen 2018): pure functions of the discriminator's logits.

L_D = -E[log D(x_r)] - E[log(1 - D(x_e))], minimised by the encryption network, the decryption network and
the discriminator TOGETHER. At the best D, -L_D = 2 JSD(p_r || p_e) - 2 ln 2, so minimising L_D maximises the
Jensen-Shannon divergence between restored and encrypted photos.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def discrepancy_loss(restored_logits: Tensor, hidden_logits: Tensor) -> Tensor:
    """Return L_D (nats, at least 0). Logits of any shape: positive says "restored", negative "hidden"."""
    return F.softplus(-restored_logits.float()).mean() + F.softplus(hidden_logits.float()).mean()


def mean_absolute_error(restored: Tensor, images: Tensor) -> Tensor:
    """Return |x_r - x|_1 a value, the paper's distance."""
    return (restored - images).abs().mean()


def root_mean_square_error(restored: Tensor, images: Tensor) -> Tensor:
    """Return the square root of the mean squared error over all images.

    What PSNR is made of; unlike L1 it weighs the most detailed photos most, which are the hardest.
    """
    return (restored - images).square().mean().add(1e-8).sqrt()


def jsd_lower_bound(loss: float) -> float:
    """Return ln 2 - L_D / 2, a lower bound of the JSD in nats (at most 0.693, vacuous below 0)."""
    return math.log(2.0) - loss / 2.0
