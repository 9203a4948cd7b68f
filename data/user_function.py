"""A function of the user's, named `module:function` in a recipe. No torch here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from residency.errors import ResidencyError


def load(call: str) -> Callable[..., Any]:
    """The function of `module:function`; modules in the current directory are found.

    Raises:
        ResidencyError: no such module or function.
    """
    module, _, name = call.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, SyntaxError, NameError) as error:
        raise ResidencyError(
            f"call = {call}: {error}", cure="Give module:function, importable from the current directory"
        ) from error
    if not callable(found):
        raise ResidencyError(f"call = {call}: not a function")
    return found  # type: ignore[no-any-return]
