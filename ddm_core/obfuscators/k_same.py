"""k-same-pixel de-identification (Newton, Sweeney and Malin 2005): a face becomes the average of a group.

People are put together in groups of at least k by closeness, once, from the training photos. A photo is
shown as the average face of the group that its nearest reference photo belongs to, so what is published
fits k people equally well. The reference holds photos: it stays with whoever obfuscates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ddm_core.checkpoints import load_tensors, save_tensors
from ddm_core.errors import DdmError
from ddm_core.obfuscators.pixel_bytes import from_bytes

_NAMES = {"photos": 4, "groups": 1, "averages": 4}  # the reference's tensors and their dimensions


@dataclass(frozen=True)
class Reference:
    """`photos` uint8 [n, c, h, w], the group int64 [n] of each, and `averages` uint8 [groups, c, h, w]."""

    photos: Tensor
    groups: Tensor
    averages: Tensor


@dataclass(frozen=True)
class KSame:
    """Shows every photo as the average of a group of at least `k` people."""

    k: int
    reference: Reference = field(repr=False, compare=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the average of the group of each image's nearest reference photo (Euclidean, all pixels).

        Raises:
            DdmError: images of another shape than the reference photos.
        """
        photos = from_bytes(self.reference.photos)
        if images.shape[1:] != photos.shape[1:]:
            expected, got = (list(shape[1:]) for shape in (photos.shape, images.shape))
            raise DdmError(f"k_same was prepared for images of shape {expected}, got {got}; prepare it anew")
        nearest = _distances(images.cpu(), photos).argmin(dim=1)
        return from_bytes(self.reference.averages[self.reference.groups[nearest]]).to(images.device)


def make_reference(photos: Tensor, labels: Tensor, k: int) -> Reference:
    """Group the people of `photos` uint8 [n, c, h, w] with identities `labels` int64 [n].

    As in the paper, a person is taken together with the k - 1 nearest of those that are left, until fewer
    than 2 k are left, who make up the last group. Distances are between people's mean photos, and everyone
    has the same share in the group's average.

    Raises:
        DdmError: fewer than k people.
    """
    people = torch.tensor(sorted(set(labels.tolist())))
    owner = torch.searchsorted(people, labels)
    if len(people) < k:
        raise DdmError(f"k is {k}, but the training photos show {len(people)} people; lower k")
    means = torch.stack([photos[owner == person].float().mean(dim=0) for person in range(len(people))])
    groups = group_people(means, k)
    averages = torch.stack([means[groups == group].mean(dim=0) for group in range(int(groups.max()) + 1)])
    return Reference(photos, groups[owner], averages.round().to(torch.uint8))


def group_people(means: Tensor, k: int) -> Tensor:
    """Return the group of each person, int64 [people], given their mean photos; groups have k to 2 k - 1."""
    distances = _distances(means, means)
    groups = torch.full((len(means),), -1)
    left = torch.arange(len(means))
    while len(left) > 0:
        nearest = left[distances[left[0], left].argsort(stable=True)]
        members = nearest if len(left) < 2 * k else nearest[:k]
        groups[members] = groups.max() + 1
        left = left[groups[left] < 0]
    return groups


def _distances(first: Tensor, second: Tensor) -> Tensor:
    # Matrix products would be faster and, for photos that are nearly alike, wrong.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(first.flatten(1), second.flatten(1), compute_mode=mode)


def save_reference(reference: Reference, path: Path) -> None:
    """Write the reference as safetensors, atomically."""
    save_tensors({name: getattr(reference, name) for name in _NAMES}, path)


def load_reference(path: Path) -> Reference:
    """Read what `save_reference` wrote.

    Raises:
        DdmError: missing or damaged file, or one that holds something else.
    """
    tensors = load_tensors(path)
    if {name: tensor.ndim for name, tensor in tensors.items()} != _NAMES:
        raise DdmError(f"{path}: holds no reference photos of k_same; train the model again")
    return Reference(**tensors)
