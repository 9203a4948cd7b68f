"""A local model as a writer: prompts in, replies out, greedy or sampled, on CPU or accelerator."""

from __future__ import annotations

from pathlib import Path

from residency.data.synthesis_settings import GenerateSettings
from residency.model import load, virtual_prompt


class Writer:
    """Answers prompts in batches; the same seed and batches give the same replies.

    A prompt that leaves no room for a reply is cut at its start.
    """

    def __init__(self, directory: Path, settings: GenerateSettings, seed: int) -> None:
        import torch

        self.settings = settings
        self.model, self.tokenizer = load(directory)
        self.model.eval()
        self.tokenizer.padding_side = self.tokenizer.truncation_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        longest = getattr(self.model.config, "max_position_embeddings", 2048)
        self.room = max(1, longest - settings.max_tokens - len(virtual_prompt(self.model)))
        torch.manual_seed(seed)

    def __call__(self, prompts: list[str]) -> list[str]:
        """One reply for each prompt."""
        import torch

        if self.tokenizer.chat_template:
            prompts = [
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
                )
                for prompt in prompts
            ]
        inputs = self.tokenizer(
            prompts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self.room,
            add_special_tokens=not self.tokenizer.chat_template,
        ).to(self.model.device)
        prompt = torch.tensor(
            [virtual_prompt(self.model)], dtype=torch.int64
        )  # before the padding, which is not read
        before = prompt.expand(len(prompts), -1).to(self.model.device)
        ids = torch.cat([before, inputs["input_ids"]], dim=1)
        read = torch.cat([torch.ones_like(before), inputs["attention_mask"]], dim=1)
        sample = self.settings.temperature > 0
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=read,
                max_new_tokens=self.settings.max_tokens,
                do_sample=sample,
                temperature=self.settings.temperature if sample else None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        replies = self.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
        return [str(reply).strip() for reply in replies]
