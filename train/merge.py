"""The `merge` stage: an adapter into its base, or the weights of several checkpoints into one model.

Whole weights are merged tensor by tensor from memory-mapped files, so a merge takes the memory of one tensor of each
model and of one file that is written. Runs in the chain's process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from residency.artifact import StageFile, commit, own, read_manifest, read_stage, sha256
from residency.data.passport import Entry
from residency.errors import Exit, ResidencyError
from residency.model import base_of
from residency.train import arithmetic, contract
from residency.train.adapters import merging
from residency.train.settings import MergeSettings
from residency.weights import INDEX, tensors

FILE_BYTES = 2 * 2**30


def run(attempt: Path) -> Path:
    """Merge; returns the artifact, a model with whole weights.

    Raises:
        ResidencyError: models that do not fit each other, an adapter among whole models, none where one is to be
            merged, or weights that are no numbers.
    """
    stage, owner, payload = read_stage(attempt), own(attempt), attempt / "payload"
    shutil.rmtree(payload, ignore_errors=True)
    settings = MergeSettings.model_validate(stage.settings)
    contract.check_models(stage)
    parent = stage.parents["model"]
    models = [stage.parents[f"model:{name}"] for name in settings.models]
    if settings.method == "adapter":
        base, adapter = base_of(parent)
        if adapter is None:
            raise ResidencyError(
                f"stages.{stage.name}: {settings.parent} left no adapter to merge", cure="Remove the stage"
            )
        merging.merge(base, adapter, payload)
        merging.copy_beside(adapter, payload)
        merging.copy_beside(base, payload)
    else:
        contract.check_alike(stage, [parent, *models])
        read = [*([parent] if settings.method in ("ties", "dare") else []), *models]
        payload.mkdir()
        merging.copy_beside(models[0], payload)
        shutil.copyfile(read[0] / "config.json", payload / "config.json")
        write_weights(payload, _merged(stage, settings, read))
    measured = {
        "method": settings.method,
        "weights_sha256": {path.name: sha256(path) for path in sorted(payload.glob("*.safetensors"))},
    }
    return commit(
        attempt, payload, "model", owner=owner, measured=measured, passport=_passport(parent, models)
    )


def write_weights(
    directory: Path, weights: Iterator[tuple[str, torch.Tensor]], most: int = FILE_BYTES
) -> None:
    """Write tensors as they come, `most` bytes to a file, with an index where there are several."""
    files: list[dict[str, torch.Tensor]] = [{}]
    names: list[list[str]] = []
    size = total = 0

    def flush() -> None:
        save_file(files[-1], directory / f"part-{len(names)}", metadata={"format": "pt"})
        names.append(list(files[-1]))
        files[-1] = {}

    for name, tensor in weights:
        bytes_ = tensor.numel() * tensor.element_size()
        if files[-1] and size + bytes_ > most:
            flush()
            size = 0
        files[-1][name] = tensor.contiguous()
        size, total = size + bytes_, total + bytes_
    flush()
    called = [f"model-{at + 1:05}-of-{len(names):05}.safetensors" for at in range(len(names))]
    if len(names) == 1:
        called = ["model.safetensors"]
    for at, file in enumerate(called):
        (directory / f"part-{at}").rename(directory / file)
    if len(names) > 1:
        places = {name: file for file, held in zip(called, names, strict=True) for name in held}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (directory / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _merged(
    stage: StageFile, settings: MergeSettings, models: list[Path]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the merged model, in the type that the first of `models` holds it in; that one is the ancestor
    where the method has one."""
    skipped = contract.tied_names(models[0])
    with ExitStack() as opened:
        readers = [_Reader(stage, model, opened) for model in models]
        for name in readers[0].names:
            if name in skipped:
                continue
            read = [reader(name) for reader in readers]
            if not read[0].is_floating_point():
                yield name, read[0]
                continue
            made = _combined(settings, name, [tensor.float() for tensor in read]).to(read[0].dtype)
            _refuse_no_number(made, f"stage {stage.name}: the merged {name}", "Lower the weights of models")
            yield name, made


def _combined(settings: MergeSettings, name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    """One tensor of all models in float32, merged."""
    weights = list(settings.models.values())
    if settings.method == "linear":
        return arithmetic.linear(parts, weights)
    if settings.method == "slerp":
        return arithmetic.slerp(parts, weights)
    assert settings.seed is not None
    density = 0.5 if settings.density is None else settings.density
    return arithmetic.sparse_sum(settings.method, parts[0], parts[1:], weights, density, settings.seed, name)


def _refuse_no_number(tensor: torch.Tensor, what: str, cure: str) -> None:
    if not torch.isfinite(tensor).all():
        raise ResidencyError(f"{what} holds what is no number", cure=cure, code=Exit.DIVERGED)


class _Reader:
    """Reads single tensors of a model and refuses those that are no numbers."""

    def __init__(self, stage: StageFile, model: Path, opened: ExitStack) -> None:
        self.stage, self.model, found = stage, model, tensors(model)
        files = {tensor.file for tensor in found.values()}
        handles: dict[Path, Any] = {
            file: opened.enter_context(safe_open(file, framework="pt")) for file in files
        }
        self._handle = {name: handles[tensor.file] for name, tensor in found.items()}
        self.names = list(found)

    def __call__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._handle[name].get_tensor(name)
        what, cure = (
            f"{name} of {self.model.name}",
            "Leave this model out, or train it again with a lower learning rate",
        )
        _refuse_no_number(tensor, f"stage {self.stage.name}: {what}", cure)
        return tensor


def _passport(parent: Path, models: list[Path]) -> list[Entry]:
    """What any of them was made of, once."""
    found: list[Entry] = []
    for model in [parent, *models]:
        if (model / "manifest.json").exists():
            found += [entry for entry in read_manifest(model).passport if entry not in found]
    return found
