"""Residency: takes a general language model through its medical training and says what came of it."""

__version__ = "0.1.0"
