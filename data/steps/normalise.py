"""Text as it was meant: mojibake repaired by ftfy, and one way of writing line ends, spaces and characters. The words
stay as they are.

* ftfy decodes what was decoded wrongly (`naÃ¯ve`) and HTML entities (`p &lt; 0.05`, also beside a bare `<`). Curly
  quotes, ligatures and full-width forms are good writing, and Chinese needs its own comma: they stay (NFKC, which a
  recipe may ask for, folds the last two).
* Of Unicode's invisible characters, those that spell words stay: the joiners of Persian and Indic scripts, and the
  zero-width spaces of the scripts without spaces. So do the three marks that authors type in right-to-left text. The
  controls that embed, override or isolate a direction go: they come in pairs that cutting tears apart, say nothing
  that the letters' order does not, and can hide what a text says. Soft hyphens, byte order marks and tags go as
  well.
* What stands for a line or page end becomes one; other control characters go, halves of surrogate pairs too."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

from residency.data.curation.batch import Batch, pieces
from residency.data.steps.settings import NormaliseSettings

_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f"  # controls; not the tab and the line end
    "\u00ad\u202a-\u202e\u2060\u2066-\u206f\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)
_BREAKABLE = "[\u0e00-\u109f\u1780-\u17ff]"  # Thai to Burmese, Khmer: a zero-width space ends a word
_ZERO_WIDTH_SPACE = re.compile(f"(?<!{_BREAKABLE})\u200b(?!{_BREAKABLE})")
_BLANK_LINES = re.compile(r"\n{4,}")


class Normalise:
    """The step; see the module."""

    def __init__(self, settings: NormaliseSettings) -> None:
        self.settings = settings

    def __call__(self, batch: Batch) -> list[str | None]:
        """Rewrite the texts; a row that loses all of a text, a message or an option is dropped as `empty`."""
        before = [_filled(row) for row in batch.rows]
        batch.rewrite(self.clean)
        after = [_filled(row) for row in batch.rows]
        return [
            None if left and left == there else "empty" for there, left in zip(before, after, strict=True)
        ]

    def clean(self, text: str) -> str:
        """One text, normalised."""
        if _SURROGATES.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
        text = _repaired(text)
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        if not text.isascii():
            text = unicodedata.normalize(self.settings.form, _ZERO_WIDTH_SPACE.sub("", text))
        text = "\n".join(line.rstrip() for line in text.split("\n"))
        return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def _filled(row: dict[str, Any]) -> int:
    """How many of a row's pieces hold more than white space."""
    return sum(bool(piece.strip()) for piece in pieces(row))


def _repaired(text: str) -> str:
    if text.isascii() and "&" not in text and "\x1b" not in text:
        return text  # all that ftfy repairs is written with other characters
    import ftfy

    return str(ftfy.fix_text(text, _repairs()))


@cache
def _repairs() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=True,
        remove_terminal_escapes=True,
        fix_encoding=True,
        restore_byte_a0=True,
        replace_lossy_sequences=True,
        decode_inconsistent_utf8=True,
        fix_c1_controls=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
