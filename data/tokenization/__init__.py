"""From rows to token ids: tokenizers, which tokens carry loss, conversations in the model's template."""
