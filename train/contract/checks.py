"""All checks of a stage, in the order in which a fault explains most."""

from __future__ import annotations

from pathlib import Path

from residency.artifact import StageFile, read_manifest
from residency.data import passport
from residency.errors import Exit, ResidencyError
from residency.model import base_of
from residency.train.adapters.rules import check_adapter, check_quantised, check_window
from residency.train.contract import files, lineage, words
from residency.train.replies.room import WRITTEN, check_room, window_of


def check(stage: StageFile, *, here: bool = True) -> None:
    """What the parents of a stage with ranks left fits together, and fits what it will do.

    Args:
        here: the stage will run on this machine.

    Raises:
        ResidencyError: whatever does not, or a tracker elsewhere that the data's passport forbids.
    """
    model, tokens = stage.parents["model"], stage.parents["tokens"]
    for parent in stage.parents.values():
        files.check_whole(stage.name, parent)
    if "adapter" in stage.settings:
        check_adapter(stage, base_of(model)[1])
        check_quantised(f"stages.{stage.name}", stage.settings, stage.execution["engine"]["zero"], here=here)
    files.check_weights(stage.name, model)
    words.check_tokenizer(stage)
    words.check_special(f"stage {stage.name}", model)
    words.check_template(stage)
    _check_room(stage, tokens)
    for role in stage.parents:
        if role.startswith("reward:"):
            files.check_weights(stage.name, stage.parents[role], scores=True)
            words.check_reward(stage, role)
    if stage.kind in WRITTEN:
        _check_replies(stage, tokens)
    lineage.check_passport(stage.name, model)
    _check_trackers(stage, tokens)


def check_models(stage: StageFile) -> None:
    """The models that a stage without ranks starts from are whole language models, their adapters on their own bases.

    Raises:
        ResidencyError: something is not so.
    """
    for role, parent in stage.parents.items():
        files.check_whole(stage.name, parent)
        if role == "model" or role.startswith("model:"):
            files.check_weights(stage.name, parent)
            words.check_special(f"stage {stage.name}", parent)
            lineage.check_passport(stage.name, parent)


def _check_room(stage: StageFile, tokens: Path) -> None:
    """Rows fit the model's window, their ids its embedding."""
    model, manifest = stage.parents["model"], read_manifest(tokens)
    config = files.config_of(model)
    check_window(f"stages.{stage.name}", stage.kind, stage.settings, config.get("max_position_embeddings"))
    highest, rows = manifest.measured.get("highest_token"), files.rows_of(model)
    if highest is not None and highest >= rows:
        raise ResidencyError(
            f"stage {stage.name}: {manifest.stage} holds token {highest}, "
            f"the model's embedding has {rows} rows",
            cure="The tokenizer has tokens that the model does not know: use the model's own",
        )


def _check_replies(stage: StageFile, tokens: Path) -> None:
    """The longest prompt and a reply to it fit the model that writes and those that score."""
    longest = ("the longest prompt", read_manifest(tokens).measured["longest"])
    for role, model in stage.parents.items():
        if role == "model" or role.startswith("reward:"):
            of = "the model" if role == "model" else f"the reward model of {lineage.name_of(model)}"
            check_room(stage.name, stage.kind, stage.settings, longest, window_of(model), of)


def _check_trackers(stage: StageFile, tokens: Path) -> None:
    remote = [tracker for tracker in stage.execution.get("track", []) if passport.is_remote(tracker)]
    made_of = passport.of_model(stage, read_manifest(tokens).passport)
    if remote and (reason := passport.forbidden(made_of, "text-logging")):
        raise ResidencyError(
            f"stage {stage.name}: track {', '.join(remote)}: {reason}", code=Exit.GATE_REFUSED
        )
