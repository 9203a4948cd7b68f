"""The hand-off contract: a stage checks what its parents left before any accelerator time is spent.

Each refusal says which stage made what, and the cure. `files` looks at weights and adapters, `words` at tokenizers,
templates and special tokens, `lineage` at where things come from, `alike` at models that are merged. No torch here, and
no weights are read: a check takes well under a second.
"""

from residency.train.contract.alike import check_alike, tied_names
from residency.train.contract.checks import check, check_models
from residency.train.contract.words import stop_ids

__all__ = ["check", "check_alike", "check_models", "stop_ids", "tied_names"]
