"""The architectures that a recogniser may have, and the loss that each is trained by.

Both standardise each picture first: blur and P3 leave little contrast, and that must stop no attacker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddm_core.networks import RecognitionNetwork, pad_to_multiple, pool, standardise

ARCFACE_MARGIN = 0.5  # radians, as in the paper
# How sure the network may become. The paper's 64 is for many thousand people; for tens it overfits.
ARCFACE_SCALE = 16.0
LABEL_SMOOTHING = 0.1


class ArcFaceNetwork(nn.Module):
    """A small ResNet whose scores are cosines between a face and a direction per person, times a scale.

    Deng, Guo, Xue and Zafeiriou 2019. `width` channels at half size, doubled at each of two halvings. 24
    costs about what RecognitionNetwork does and suits tens of people; 64 suits thousands.
    """

    def __init__(self, channels: int, identities: int, width: int = 24, embedding: int = 128) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(4 * channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            DownBlock(width, width), DownBlock(width, 2 * width), DownBlock(2 * width, 4 * width)
        )
        self.embedding = nn.Sequential(
            nn.Linear(64 * width, embedding, bias=False), nn.BatchNorm1d(embedding)
        )
        self.directions = nn.Parameter(nn.init.xavier_normal_(torch.empty(identities, embedding)))

    def forward(self, images: Tensor) -> Tensor:
        """Return ARCFACE_SCALE times the cosines, fp32 [batch, identities]."""
        faces = F.normalize(self.embed(images).float())
        return ARCFACE_SCALE * F.linear(faces, F.normalize(self.directions))

    def embed(self, images: Tensor) -> Tensor:
        """Return the face's vector [batch, embedding], of any length."""
        half = F.pixel_unshuffle(pad_to_multiple(standardise(images), 2), 2)
        vectors: Tensor = self.embedding(pool(self.blocks(self.enter(half)), 4).flatten(1))
        return vectors


class DownBlock(nn.Module):
    """A residual block that halves the picture: two 3x3 convolutions beside a 1x1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return [batch, outputs, h/2, w/2], rounded up."""
        return F.relu(self.change(features) + self.skip(features))


def smoothed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy; a tenth of each label is spread over all people."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)


def arcface_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of scale * cos(angle + margin), the margin for the true person only.

    `scores` are ARCFACE_SCALE times cosines. Beyond an angle of pi - margin, where the cosine would rise
    again, it goes on falling in a straight line.
    """
    margin, cosines = ARCFACE_MARGIN, scores / ARCFACE_SCALE
    true = cosines.gather(1, labels[:, None])
    sine = (1.0 - true.square()).clamp(min=1e-6).sqrt()
    pushed = torch.where(
        true > -math.cos(margin),
        true * math.cos(margin) - sine * math.sin(margin),
        true - margin * math.sin(margin),
    )
    return F.cross_entropy(ARCFACE_SCALE * cosines.scatter(1, labels[:, None], pushed), labels)


RecogniserNetwork = RecognitionNetwork | ArcFaceNetwork


@dataclass(frozen=True)
class Architecture:
    """How a recogniser is built, from channels, people and width, and the loss of its scores."""

    build: Callable[[int, int, int], RecogniserNetwork]
    loss: Callable[[Tensor, Tensor], Tensor]


ARCHITECTURE = {
    "cnn": Architecture(RecognitionNetwork, smoothed_cross_entropy),
    "resnet_arcface": Architecture(ArcFaceNetwork, arcface_loss),
}
