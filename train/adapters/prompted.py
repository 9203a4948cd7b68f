"""A frozen model with a learnt prompt, trained on packed rows (arXiv 2104.08691).

peft puts one prompt before a row. A packed row holds several documents, and each must be read behind a prompt of its
own, as it is when the model is asked. So the prompt stands in the rows as ids of its own, the negative ones of
`residency.model.virtual_prompt`, and is embedded where they stand; what is saved is a peft adapter like any other.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModelForCausalLM

from residency.prompted import embed

PROMPT = "prompt_encoder.default.embedding.weight"


class PromptedModel(PeftModelForCausalLM):
    """peft's prompt tuning for rows that say where the prompt stands."""

    _gathered: torch.Tensor | None = None

    def forward(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        """`input_ids` `[rows, length]`, negative where a virtual token stands; the rest as the model takes it."""
        prompt = self.prompt_encoder["default"].embedding
        return self.base_model(inputs_embeds=embed(input_ids, self.word_embeddings, prompt), **inputs)

    def save_pretrained(
        self, directory: str, *, state_dict: dict[str, Any] | None = None, **how: Any
    ) -> None:
        """As peft, but from `state_dict`, where ZeRO-3 has gathered what no rank holds alone."""
        self._gathered = (state_dict or {}).get(PROMPT)
        super().save_pretrained(directory, state_dict=state_dict, **how)

    def get_prompt_embedding_to_save(self, adapter_name: str) -> torch.Tensor:
        """`[tokens, width]`."""
        if self._gathered is not None:
            return self._gathered.detach().cpu()
        learnt: torch.Tensor = super().get_prompt_embedding_to_save(adapter_name)
        return learnt
