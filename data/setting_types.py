"""What all settings are made of: the strict model, and counts such as `600k`. No torch here."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


class Settings(BaseModel):
    """Strict and frozen: an unknown key or a wrong type is an error, a default stands once."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def parse_count(value: Any) -> Any:
    """`600k`, `1.5M`, `2B` or a plain number as an integer."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMB]?)", value) if isinstance(value, str) else None
    return round(float(match[1]) * UNITS[match[2]]) if match else value


Count = Annotated[
    int,
    BeforeValidator(parse_count, json_schema_input_type=int | str),
    Field(gt=0),
]
