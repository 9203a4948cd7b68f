"""The names of `residency.train.adapters` that stages use."""

from residency.train.adapters.merging import MERGED, finish, whole_weights
from residency.train.adapters.prepare import prepare
from residency.train.adapters.rules import check_adapter

__all__ = ["MERGED", "check_adapter", "finish", "prepare", "whole_weights"]
