"""Publishes an exported model to the Hugging Face hub (always private at first) or into a mirror directory.

Only files of the export's manifest leave this machine, after their sha256 was compared with it, and what arrived is
compared again. What the export was made of decides whether it may leave, and under which licence (exit code 3).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from residency.artifact import Manifest, check_files, read_manifest, sha256
from residency.data.passport import contradiction, forbidden
from residency.data.reading.sources import hub_errors
from residency.errors import Exit, ResidencyError
from residency.recipes.plan import Plan


def publish(plan: Plan, repository: str, stage: str | None = None) -> str:
    """Publish the plan's export; returns where it went.

    Args:
        repository: `owner/name`; with a mirror set the model goes to `MIRROR/owner/name`, else to the hub.
        stage: name of the export stage, where the recipe has several.

    Raises:
        ResidencyError: nothing to publish, changed files, a corpus that forbids it, or a hub that refuses.
    """
    export = _export(plan, stage)
    manifest = read_manifest(export)
    if faults := check_files(export, rehash=True):
        raise ResidencyError(faults[0], cure=f"Remove {export} and run again")
    reason = forbidden(manifest.passport, "publish") or contradiction(
        manifest.passport, manifest.settings.get("licence")
    )
    if reason:
        raise ResidencyError(f"{export.name}: {reason}", code=Exit.GATE_REFUSED)
    mirror = os.environ.get("RESIDENCY_MIRROR")
    return _to_mirror(export, Path(mirror), repository) if mirror else _to_hub(export, manifest, repository)


def _export(plan: Plan, stage: str | None) -> Path:
    exports = {name: planned for name, planned in plan.stages.items() if planned.kind == "export"}
    name = stage or next(iter(exports), None)
    if name not in exports or (stage is None and len(exports) > 1):
        raise ResidencyError(
            f"no export stage {name or ''}".rstrip(),
            cure=f"Name one with --stage: {', '.join(exports)}" if exports else "Add a stage of kind export",
        )
    if not exports[name].finished:
        raise ResidencyError(f"stage {name} is not finished", cure="Run the recipe first")
    return exports[name].artifact


def _to_mirror(export: Path, mirror: Path, repository: str) -> str:
    target = mirror / repository
    if target.exists():
        raise ResidencyError(
            f"{target} exists", cure="Choose another name; a published model is never overwritten"
        )
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(export, beside)
    beside.rename(target)
    if faults := check_files(target, rehash=True):
        raise ResidencyError(faults[0], code=Exit.ENVIRONMENT)
    return str(target)


def _to_hub(export: Path, manifest: Manifest, repository: str) -> str:
    from huggingface_hub import HfApi

    refused, unreachable = hub_errors()
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=export,
            allow_patterns=[*manifest.files, "manifest.json"],
            commit_message=f"Residency {manifest.identity[:8]}",
        )
        arrived = api.get_paths_info(repository, list(manifest.files), revision=commit.oid)
    except (*refused, *unreachable) as error:
        raise ResidencyError(
            f"{repository}: {str(error).splitlines()[0]}",
            cure="Log in with `hf auth login` on a machine with internet, or publish into a mirror with --mirror",
            code=Exit.ENVIRONMENT,
        ) from error
    for file in arrived:
        large = getattr(file, "lfs", None)
        if large and large.sha256 != sha256(export / file.path):
            raise ResidencyError(f"{repository}: {file.path} arrived changed", cure="Publish again")
    return f"https://huggingface.co/{repository}/tree/{commit.oid}"
