"""The user's errors, and the exit codes that every process of Residency shares.

Two families: what a user can cause is a `ResidencyError` (the key or file, the value, the cure; shown as
one line without a traceback); what only we can cause is an `assert`.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; the same number stands in an attempt's `attempt.json`, because torchrun flattens codes to 1."""

    DONE = 0
    OUR_FAULT = 1
    USER_INPUT = 2
    GATE_REFUSED = 3  # licence, PHI, contamination, verdict
    NO_CHECKPOINT = 4  # checkpoints exist, none is usable
    DIVERGED = 5  # the loss is no longer a number
    ENVIRONMENT = 6  # disk, network, a peer
    RUN_AGAIN = 75  # saved; the same command continues
    DO_NOT_REQUEUE = 93


class ResidencyError(Exception):
    """A mistake that the user can mend; `code` is the exit code of the process."""

    def __init__(self, message: str, *, cure: str = "", code: Exit = Exit.USER_INPUT) -> None:
        super().__init__(f"{message}. {cure}".strip() if cure else message)
        self.code = code
