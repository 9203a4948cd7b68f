"""What `residency data show` looks at: a source as a recipe names it, a described corpus, or a corpus of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from residency.data.reading import hub, sources
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError
from residency.recipes import corpora
from residency.recipes.reading import Raw, find, read_file
from residency.recipes.schema import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def corpus_of(source: str, file: str | None) -> CorpusSettings:
    """Settings of a source (`FILE`, `owner/name`, `world:NAME`), of a described corpus (`shipped:FILE/NAME`,
    `FILE.yaml:NAME`), or of a recipe's corpus (`RECIPE:NAME`). `file` replaces the one these name.

    Raises:
        ResidencyError: no such recipe or corpus.
    """
    recipe, colon, name = source.rpartition(":")
    described = source.startswith(corpora.SHIPPED)
    if not colon or source.startswith(sources.WORLD) or Path(source).exists():
        return _validated(source, {"source": source, "licence": "unknown", "file": file})
    own: dict[str, Any] = {"file": file} if file else {}
    if described or "corpora" not in read_file(find(Path(recipe))).values:
        raw = Raw({"corpora": {name: {"source": source} | own}})
        corpora.resolve(raw, Path.cwd())
        return _validated(source, raw.values["corpora"][name])
    loaded = load(Path(recipe))
    if name not in loaded.corpora:
        raise ResidencyError(
            f"{recipe} has no corpus {name!r}", cure=f"It has {', '.join(loaded.corpora) or 'none'}"
        )
    corpus = loaded.corpora[name]
    return corpus.model_copy(update={"seed": loaded.seed if corpus.seed is None else corpus.seed} | own)


def tokenizer_of(model: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a directory or a hub id.

    Raises:
        ResidencyError: there is none.
    """
    from residency.data.tokenization.tokenizer import load_tokenizer

    return load_tokenizer(hub.tokenizer_directory(model))


def _validated(source: str, values: dict[str, Any]) -> CorpusSettings:
    try:
        return CorpusSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key, said = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        raise ResidencyError(f"{source}: {key} = {fault['input']!r}: {said}") from error
