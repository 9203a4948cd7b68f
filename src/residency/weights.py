"""What weights a directory holds, read from the headers of its safetensors files. No torch here."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.errors import ResidencyError

INDEX, ADAPTER = "model.safetensors.index.json", "adapter_model.safetensors"
END_BYTES = 4096  # of each end of a tensor that goes into its fingerprint


@dataclass(frozen=True)
class Tensor:
    """Where a tensor stands."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: `F32`, `BF16`."""
    file: Path
    start: int
    """First byte in the file."""
    stop: int


def tensors(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model, or of an adapter where the directory holds one, by their names.

    Raises:
        ResidencyError: no safetensors weights, a file that is cut short, or an index that names what is not there.
    """
    if (directory / "adapter_config.json").exists():
        return _read(directory / ADAPTER)
    if (directory / INDEX).exists():
        return _indexed(directory)
    single = directory / "model.safetensors"
    files = [single] if single.exists() else sorted(directory.glob("*.safetensors"))
    if not files:
        raise ResidencyError(
            f"{directory} holds no safetensors weights", cure="Convert it: pickled weights are never loaded"
        )
    return {name: tensor for file in files for name, tensor in _read(file).items()}


def fingerprint(directory: Path) -> str:
    """Hex sha256 over names, shapes, types and both ends of every tensor: enough to tell trained weights apart, and of
    any size in a moment. It does not depend on how the weights are cut into files."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors(directory).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        with tensor.file.open("rb") as file:
            for at in (tensor.start, max(tensor.start, tensor.stop - END_BYTES)):
                file.seek(at)
                digest.update(file.read(min(END_BYTES, tensor.stop - at)))
    return digest.hexdigest()


def _indexed(directory: Path) -> dict[str, Tensor]:
    places: dict[str, str] = json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"]
    files = {file: _read(directory / file) for file in dict.fromkeys(places.values())}
    found: dict[str, Tensor] = {}
    for name, file in places.items():
        if name not in files[file]:
            raise ResidencyError(f"{directory / INDEX}: {name} is not in {file}", cure="Save the model again")
        found[name] = files[file][name]
    return found


def _read(file: Path) -> dict[str, Tensor]:
    """https://huggingface.co/docs/safetensors: 8 bytes of length, a JSON header of that length, then the tensors."""
    if not file.exists():
        raise ResidencyError(f"{file} is missing", cure="Save the model again, with all of its files")
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ResidencyError(f"{file} is no safetensors file", cure="Save the model again")
        header: dict[str, Any] = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    begin = 8 + length
    found = {
        name: Tensor(
            tuple(entry["shape"]),
            entry["dtype"],
            file,
            *(begin + offset for offset in entry["data_offsets"]),
        )
        for name, entry in header.items()
    }
    if any(tensor.stop > size for tensor in found.values()):
        raise ResidencyError(f"{file} is cut short", cure="Save the model again")
    return found
