"""`residency chat`: a conversation with a stage's model, rendered with the template that it was trained with."""

from __future__ import annotations

from pathlib import Path

from residency.errors import ResidencyError
from residency.model import load, virtual_prompt

LONGEST_REPLY_TOKENS = 256


def chat(directory: Path) -> None:
    """Read questions from standard input until its end (Ctrl-D); print the greedy reply to each.

    Raises:
        ResidencyError: there is no model, or one that has no chat template (it was not fine-tuned on dialogues).
    """
    if not any((directory / name).exists() for name in ("config.json", "adapter_config.json")):
        raise ResidencyError(
            f"{directory} holds no model",
            cure="Give the directory of a finished stage: runs/NAME/sft-1a2b3c4d",
        )
    import torch
    from transformers import TextStreamer

    model, tokenizer = load(directory)
    if not tokenizer.chat_template:
        raise ResidencyError(f"{directory} has no chat template", cure="Chat with a model after sft")
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    messages: list[dict[str, str]] = []
    while question := _ask():
        messages.append({"role": "user", "content": question})
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        asked = torch.cat(
            [torch.tensor([virtual_prompt(model)], dtype=torch.int64), inputs["input_ids"]], dim=1
        )
        output = model.generate(
            input_ids=asked.to(model.device),
            attention_mask=torch.ones_like(asked).to(model.device),
            max_new_tokens=LONGEST_REPLY_TOKENS,
            do_sample=False,
            streamer=streamer,
        )
        reply = tokenizer.decode(output[0, asked.shape[1] :], skip_special_tokens=True)
        messages.append({"role": "assistant", "content": reply.strip()})


def _ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
