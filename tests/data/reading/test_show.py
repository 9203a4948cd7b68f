"""What `residency data show` prints, against a golden file, and what it is given to look at."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from residency.data.reading.show import show
from residency.data.settings import CorpusSettings
from residency.data.tokenization.mask import Masker
from residency.data.tokenization.tokenizer import load_tokenizer
from residency.errors import ResidencyError
from residency.recipes.looking import corpus_of, tokenizer_of

GOLDEN = Path(__file__).parent / "golden" / "show.txt"
DIALOGUE = [
    {"from": "system", "value": "Antworte kurz."},
    {"from": "human", "value": "Was macht die Leber? 😀"},
    {"from": "gpt", "value": "Bile.\nالكبد"},
    {"from": "human", "value": "[bold]And[/x] \x1b[31m?"},
    {"from": "gpt", "value": "It helps to digest fat. " * 15},
]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of dialogues in which every third row is damaged."""
    monkeypatch.chdir(tmp_path)
    lines = [
        json.dumps({"conversations": DIALOGUE}),
        json.dumps({"conversations": [*DIALOGUE[:2], {"from": "gpt", "value": " "}]}),
        '{"conversations": ',
        json.dumps({"text": "a"}),
        json.dumps({"conversations": [{"from": "human", "value": "a\0"}, DIALOGUE[2]]}),
        json.dumps({"conversations": [{"from": "bing", "value": "a"}]}),
        json.dumps({"id": "last", "conversations": [DIALOGUE[1], {"from": "gpt", "value": "Bile."}]}),
    ]
    Path("rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return "rows.jsonl"


def shown(source: str, colours: bool = False, **options: Any) -> str:
    file = StringIO()
    console = Console(file=file, width=140, soft_wrap=True, highlight=False, force_terminal=colours)
    show(console, CorpusSettings(source=source, licence="unknown"), **{"rows": 3, **options})
    return file.getvalue()


def test_print_equals_the_golden_file(source: str, base: Path) -> None:
    printed = shown(source, tokenizer=load_tokenizer(base), mask=True)
    golden = GOLDEN.read_text(encoding="utf-8")
    diff = difflib.unified_diff(
        golden.splitlines(), printed.splitlines(), str(GOLDEN), "printed", lineterm=""
    )
    assert printed == golden, "\n".join(diff)


def test_colours_stand_for_brackets(source: str, base: Path) -> None:
    printed = shown(source, colours=True, tokenizer=load_tokenizer(base), mask=True)
    assert "\x1b[32mcarries loss\x1b[0m" in printed and "«" not in printed
    assert "\x1b[31m" not in printed  # what the row says is not done


def test_pieces_put_together_are_the_text(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    said = "Größe, كبد, e\u0301, 👩🏽‍⚕️ and 肝臓.\nEnd"
    row = {"id": "x", "text": said}
    masker = Masker("text", tokenizer, "base", None, [row])
    ((ids, mask),) = masker([row])
    pieces = masker.pieces(ids, mask)
    assert "".join(piece.text for piece in pieces) == f"<|begin|>{said}<|endoftext|>"
    assert sum(piece.tokens for piece in pieces) == len(ids)
    assert [piece.loss for piece in pieces] == [False] + [True] * (len(pieces) - 1)


def test_a_template_without_the_stop_token_in_its_mark_is_told(source: str, base: Path) -> None:
    template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] }}{% endgeneration %}<|end|>"
        "{% else %}{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    printed = shown(source, tokenizer=load_tokenizer(base), template=template, mask=True, rows=1)
    assert "stop token <|end|> is learnt: no (0 of 2 stretches with loss end with it)" in printed
    with pytest.raises(
        ResidencyError, match="the chat template refuses one of the dialogues rows:1 to last: no"
    ):
        shown(
            source,
            tokenizer=load_tokenizer(base),
            template="{% generation %}{% endgeneration %}{{ raise_exception('no') }}",
        )


def test_other_kinds_are_shown_without_a_mask(tmp_path: Path, base: Path) -> None:
    rows: dict[str, dict[str, Any]] = {
        "choice": {"question": "Q?", "options": ["a", "b"], "answer": 1},
        "ranked": {"prompt": "Q?", "responses": ["a", "b"], "ranks": [2, 1]},
        "preference": {"prompt": "Q?", "chosen": "b", "rejected": "a"},
        "labelled": {"prompt": "Q?", "completion": "b", "label": False},
    }
    for kind, row in rows.items():
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps(row))
        printed = shown(str(path), tokenizer=load_tokenizer(base))
        assert f"schema  {kind} (" in printed and "tokens " in printed
        with pytest.raises(ResidencyError, match=f"rows of kind {kind} have no loss mask of their own"):
            shown(str(path), tokenizer=load_tokenizer(base), mask=True)


def test_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "a"}\nno\n')
    with pytest.raises(
        ResidencyError, match=r"none of the first 2 rows can be used; the first: row a:1: its fields"
    ):
        shown(str(tmp_path / "a.jsonl"))


def test_corpora_of_recipes_and_described_ones(tmp_path: Path) -> None:
    assert corpus_of("quickstart:dialogues", None).source == "world:medicine/dialogues"
    assert corpus_of("quickstart:dialogues", None).seed is not None
    described = corpus_of("shipped:questions/medquad", "train.jsonl")
    assert (described.source, described.file) == ("lavita/MedQuAD", "train.jsonl")
    assert corpus_of("world:medicine", None).source == "world:medicine"
    (tmp_path / "mine.yaml").write_text(
        "notes: {source: notes.txt, licence: CC0-1.0}\nbad: {source: a, licence: 3}\n"
    )
    assert corpus_of(f"{tmp_path}/mine.yaml:notes", None).source == "notes.txt"
    with pytest.raises(ResidencyError, match=r"quickstart has no corpus 'dialogs'\. It has"):
        corpus_of("quickstart:dialogs", None)
    with pytest.raises(ResidencyError, match="bad: licence = 3: "):
        corpus_of(f"{tmp_path}/mine.yaml:bad", None)


def test_a_tokenizer_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RESIDENCY_MIRROR", raising=False)
    for model in ("owner/name", "not an id"):
        with pytest.raises(ResidencyError, match=f"tokenizer {model}: no directory, and neither in a mirror"):
            tokenizer_of(model)


def test_the_command_needs_no_torch(source: str) -> None:
    code = (
        "import sys; sys.argv = ['residency', 'data', 'show', 'rows.jsonl', '--rows', '1']\n"
        "from residency.cli import main; main()\n"
        "sys.exit(9 if {'torch', 'transformers'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "source  rows.jsonl\nschema  messages (ShareGPT, by its field conversations)\n"
    )
    command = [sys.executable, "-m", "residency", "data", "show", source, "--mask"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (
        2,
        "residency: --mask needs a tokenizer. Give --tokenizer DIRECTORY_OR_ID\n",
    )
