"""The one door of randomness: every random draw comes from a seed and a name.

Naming the draw (`"train/keyed_ddm/batches"`) keeps streams independent: adding a draw in one place
never shifts the numbers another place sees.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch


def derive_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed that depends on `seed` and `name` (SHA-256 of both)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU torch generator for the named draw."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, name))


def numpy_generator(seed: int, name: str) -> numpy.random.Generator:
    """Return a numpy generator for the named draw."""
    import numpy

    return numpy.random.default_rng(derive_seed(seed, name))


def derive_bytes(seed: int, name: str, length: int) -> bytes:
    """Return `length` reproducible bytes (SHAKE-256). For evaluation keys and nonces, never for real ones."""
    return hashlib.shake_256(f"{seed}/{name}".encode()).digest(length)


def make_deterministic(seed: int, name: str, threads: int | None = None) -> None:
    """Seed torch's global generator (weight initialisation) and demand deterministic kernels.

    `threads` fixes the number of CPU threads: reductions split differently over another number, so a
    machine with more cores would otherwise give other bits.
    """
    import torch

    torch.manual_seed(derive_seed(seed, name))
    # The same as use_deterministic_algorithms(True), without its import of the compiler (0.9 s).
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads uninitialised memory; filling it costs 4 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Without it deterministic mode refuses every matrix product on a GPU; read when the GPU is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False  # which would try kernels out, and take now one, now another
    # fp32 is fp32: TF32 keeps 10 bits of the mantissa.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if threads is not None:
        torch.set_num_threads(threads)
