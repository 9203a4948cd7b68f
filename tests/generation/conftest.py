"""The tiny Llama and the byte-level tokenizer of the evaluation's tests."""

from tests.eval.conftest import model, tokenizer

__all__ = ["model", "tokenizer"]
