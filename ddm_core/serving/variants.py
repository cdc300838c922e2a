"""The trained networks as ONNX and torch.export files, for programs that do not have this package.

The key stays outside: the caller makes the rotation from key and nonce (`keys.haar_rotations`). The batch
and the rows and columns of cells are free; a cell is `patch` pixels a side in the photo and `carrier` pixels
a side in the hidden picture (pad a photo to whole cells by repeating its edge, and cut the restored one).
ONNX files say in their metadata how many octonions the rotation has: drawn with another number it would not
hide the photo. Neither format holds a pickle or the paths of the machine that wrote it.

hide.*: photo [batch, channels, patch rows, patch columns] in [0, 1] and, if keyed, rotation [batch, n, 4,
    rows, columns] -> hidden [batch, channels, carrier rows, carrier columns], in [0, 1], NOT rounded: an
    8-bit file rounds it, as `encrypt` does
restore.*: hidden and, if keyed, the same rotation -> photo in [0, 1]
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddm_core.files import write_bytes
from ddm_core.obfuscators.ddm import DdmNetworks
from ddm_core.obfuscators.keyed_networks import KeyedNetworks

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

HIDE, RESTORE = "hide", "restore"
OCTONIONS = "octonions"  # in the metadata of ONNX files
KEYLESS_CELL = 4  # pixels a side that plain DDM works on whole
_TRACED_CELLS = (4, 6)  # rows and columns of the example that export follows; unlike, so that none is fixed


class _KeyedHide(nn.Module):
    def __init__(self, networks: KeyedNetworks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, photo: Tensor, rotation: Tensor) -> Tensor:
        # `networks.hide` without its rounding: a value at the edge of two grey levels may fall to either side
        # in another runtime, and that would be a whole level.
        drawn = self.networks.drawn(self.networks.rotated(photo, rotation))
        return drawn.clamp(0.0, 1.0).expand(-1, self.networks.channels, -1, -1)


class _KeyedRestore(nn.Module):
    def __init__(self, networks: KeyedNetworks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        return self.networks.reveal(hidden, rotation).clamp(0.0, 1.0)


class _Hide(nn.Module):
    def __init__(self, networks: DdmNetworks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, photo: Tensor) -> Tensor:
        return torch.sigmoid(self.networks.encryption(photo).float())


class _Restore(nn.Module):
    def __init__(self, networks: DdmNetworks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, hidden: Tensor) -> Tensor:
        return self.networks.reveal(hidden).clamp(0.0, 1.0)


def directions(networks: KeyedNetworks | DdmNetworks) -> dict[str, nn.Module]:
    """Return the two functions that are exported: HIDE and RESTORE."""
    if isinstance(networks, KeyedNetworks):
        return {HIDE: _KeyedHide(networks), RESTORE: _KeyedRestore(networks)}
    return {HIDE: _Hide(networks), RESTORE: _Restore(networks)}


def cell_sides(networks: nn.Module) -> dict[str, int]:
    """Return how many pixels a side a cell has in the image that HIDE takes, and in the one RESTORE takes."""
    if isinstance(networks, KeyedNetworks):
        return {HIDE: networks.patch, RESTORE: networks.carrier}
    return {HIDE: KEYLESS_CELL, RESTORE: KEYLESS_CELL}


def write_variants(networks: KeyedNetworks | DdmNetworks, channels: int, folder: Path) -> None:
    """Write hide and restore as .onnx and .pt2 into `folder`; `networks` are in evaluation mode."""
    folder.mkdir(parents=True, exist_ok=True)
    quaternion_count = networks.params.quaternions if isinstance(networks, KeyedNetworks) else None
    sides = cell_sides(networks)
    for name, module in directions(networks).items():
        image, output = ("photo", "hidden") if name == HIDE else ("hidden", "photo")
        names = [image] if quaternion_count is None else [image, "rotation"]
        example = _example(channels, sides[name], quaternion_count)
        program = _export(module, example, sides[name])
        torch.export.save(program, folder / f"{name}.pt2")
        model = _to_onnx(program, example, names, output)
        if isinstance(networks, KeyedNetworks):
            model.metadata_props.add(key=OCTONIONS, value=str(networks.layout.octonions))
        write_bytes(folder / f"{name}.onnx", model.SerializeToString(deterministic=True))


def _example(channels: int, side: int, quaternion_count: int | None) -> tuple[Tensor, ...]:
    rows, columns = _TRACED_CELLS
    image = torch.full((2, channels, side * rows, side * columns), 0.5)
    if quaternion_count is None:
        return (image,)
    rotation = torch.zeros(2, quaternion_count, 4, rows, columns)
    rotation[:, :, 0] = 1.0
    return image, rotation


def _export(module: nn.Module, example: tuple[Tensor, ...], side: int) -> ExportedProgram:
    batch, rows, columns = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    image = {0: batch, 2: side * rows, 3: side * columns}
    shapes = (image, {0: batch, 3: rows, 4: columns})[: len(example)]
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    program.example_inputs = None  # they would be saved as a pickle
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _to_onnx(
    program: ExportedProgram, example: tuple[Tensor, ...], inputs: list[str], output: str
) -> onnx.ModelProto:
    import onnx

    with _quiet("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter about torch itself
        exported = torch.onnx.export(
            program, example, dynamo=True, input_names=inputs, output_names=[output], verbose=False
        )
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    for part in (*model.graph.node, *model.graph.initializer):
        del part.metadata_props[:]  # where in the source a value was computed
    del model.graph.value_info[:]  # shapes in between, which every runtime derives itself
    _name_free_sizes(model.graph)
    onnx.checker.check_model(model)
    return model


def _name_free_sizes(graph: onnx.GraphProto) -> None:
    """Call the free sizes batch, rows and columns (of cells) where torch wrote symbols of its own."""
    values = [value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)]
    free = [values[0][axis].dim_param.rpartition("*")[2] for axis in (0, 2, 3)]
    names = dict(zip(free, ("batch", "rows", "columns"), strict=True))
    for size in (size for sizes in values for size in sizes if size.dim_param):
        size.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), size.dim_param)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger from warning of packages that are not needed here."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
