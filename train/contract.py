"""The hand-off contract: a stage checks what its parents left before any accelerator time is spent.

Each refusal names the stage that made the mismatch and the cure.
"""

from __future__ import annotations

import json

from residency.artifact import StageFile, check_files, read_manifest
from residency.data import passport
from residency.data.tokenizer import template_digest, template_of, tokenizer_digest
from residency.errors import Exit, ResidencyError
from residency.model import base_of


def check(stage: StageFile) -> None:
    """Tokenizer, vocabulary and lengths of the model agree with what the data was prepared for.

    Raises:
        ResidencyError: a mismatch, a parent's file that is missing or cut, or a tracker elsewhere that the data's
            passport forbids.
    """
    model, tokens = stage.parents["model"], stage.parents["tokens"]
    for parent in (model, tokens):
        if (parent / "manifest.json").exists() and (faults := check_files(parent)):
            raise ResidencyError(f"stage {stage.name}: {faults[0]}", cure=f"Remove {parent} and run again")
    manifest = read_manifest(tokens)
    if tokenizer_digest(model) != manifest.measured["tokenizer_digest"]:
        raise ResidencyError(
            f"stage {stage.name}: {manifest.stage} was made with another tokenizer than that of {model.name}",
            cure=f"Remove {tokens} and run again",
        )
    made_with = manifest.measured.get("template_digest")
    if stage.kind == "preference" and made_with != template_digest(template_of(model)):
        raise ResidencyError(
            f"stage {stage.name}: {manifest.stage} was rendered with another chat template than that of {model.name}",
            cure="Give the sft stage above the chat_template that its children use",
        )
    remote = [tracker for tracker in stage.execution.get("track", []) if passport.is_remote(tracker)]
    if remote and (reason := passport.forbidden(passport.of_model(stage, manifest.passport), "text-logging")):
        raise ResidencyError(
            f"stage {stage.name}: track {', '.join(remote)}: {reason}", code=Exit.GATE_REFUSED
        )
    config = json.loads((base_of(model)[0] / "config.json").read_text())
    longest = config.get("max_position_embeddings")
    if longest and stage.settings["max_length"] > longest:
        raise ResidencyError(
            f"stages.{stage.name}.max_length = {stage.settings['max_length']}: the model reads {longest} at most",
            cure=f"Set max_length to {longest} or less",
        )
    highest = manifest.measured.get("highest_token")
    if highest is not None and highest >= config["vocab_size"]:
        raise ResidencyError(
            f"stage {stage.name}: {manifest.stage} holds token {highest}, "
            f"the model's embedding has {config['vocab_size']} rows",
            cure="The tokenizer has tokens that the model does not know: use the model's own",
        )
