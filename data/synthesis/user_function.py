"""A function of the user's, named `module:function` in a recipe. No torch here."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from functools import cached_property
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
    except Exception as error:  # a module may raise anything while it is imported
        told = (
            f"{error}"
            if isinstance(error, ImportError | AttributeError)
            else f"{type(error).__name__}: {error}"
        )
        raise ResidencyError(
            f"call = {call}: {told}", cure="Give module:function, importable from the current directory"
        ) from error
    if not callable(found):
        raise ResidencyError(f"call = {call}: not a function")
    return found  # type: ignore[no-any-return]


class OnText:
    """A user's function that is asked about one document at a time; loaded where it is first asked: it may travel."""

    def __init__(self, call: str) -> None:
        self.call = call

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return load(self.call)

    def __call__(self, id: str, text: str) -> Any:
        """What it says of a document.

        Raises:
            ResidencyError: it raised an error; its place is told, not its message, which may hold the document's text.
        """
        function = self._function
        try:
            return function(text)
        except Exception as error:  # the user's code may raise anything
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise ResidencyError(
                f"{self.call}: {type(error).__name__} at row {id}, {Path(frame.filename).name} line {frame.lineno}",
                cure="Call it with that row's text to see more",
            ) from None

    def __getstate__(self) -> dict[str, str]:
        return {"call": self.call}
