"""Answers read from what a model wrote: a letter, a number, a word, a list or text; for evaluation and for rewards.

Every function takes the raw reply and says what became of it (`Extracted`): answered, invalid, refused or truncated.
Standard library only.
"""

from residency.answers.choices import choice
from residency.answers.lists import items
from residency.answers.numbers import number
from residency.answers.result import Extracted, Rate, Status, rates
from residency.answers.words import final_text, yes_no_maybe

__all__ = ["Extracted", "Rate", "Status", "choice", "final_text", "items", "number", "rates", "yes_no_maybe"]
