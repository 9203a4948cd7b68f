"""A local model as a writer: prompts in, replies out, greedy or sampled, on CPU or accelerator."""

from __future__ import annotations

from pathlib import Path

from residency.data.synthesis.settings import GenerateSettings
from residency.generation.writer import Writer


class ModelWriter:
    """Answers prompts; the same seed and prompt give the same reply.

    A prompt that leaves no room for a reply is cut at its start.
    """

    def __init__(self, directory: Path, settings: GenerateSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.writer = Writer.load(directory, 2**31)
        self.room = max(1, self.writer.max_length - settings.max_tokens)

    def __call__(self, prompts: list[str]) -> list[str]:
        """One reply for each prompt."""
        replies = self.writer.write(
            [self._ids(prompt)[-self.room :] for prompt in prompts],
            max_new_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            seed=self.seed,
        )
        return [reply.text.strip() for [reply] in replies]

    def _ids(self, prompt: str) -> list[int]:
        tokenizer = self.writer.tokenizer
        if not tokenizer.chat_template:
            return list(tokenizer(prompt)["input_ids"])
        asked = [{"role": "user", "content": prompt}]
        return list(
            tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
        )
