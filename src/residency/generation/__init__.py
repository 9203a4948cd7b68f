"""Replies of a causal language model, for evaluation, sampling and search: transformers, or vLLM on a GPU."""
