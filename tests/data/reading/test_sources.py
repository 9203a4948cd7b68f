from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from residency.data.reading import sources
from residency.data.reading.faults import Fault
from residency.data.settings import CorpusSettings
from residency.errors import ResidencyError


def read(source: Path | str, **settings: Any) -> list[dict[str, Any]]:
    return list(sources.read(CorpusSettings(source=str(source), licence="CC0-1.0", **settings), seed=0))


def identity(source: Path | str, **settings: Any) -> str:
    return sources.identity(CorpusSettings(source=str(source), licence="CC0-1.0", **settings))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RESIDENCY_MIRROR", raising=False)


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [{"text": "größer"}, {"text": 'a "quoted", line\nand a second one'}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('text\ngrößer\n"a ""quoted"", line\nand a second one"\n')
    wanted = [{**row, "id": f"a:{number}"} for number, row in enumerate(rows, 1)]
    for suffix in (".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv"):
        assert read(tmp_path / f"a{suffix}") == wanted, suffix


def test_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("first\nsecond\n")
    assert read(tmp_path / "notes.txt") == [{"id": "notes:1", "text": "first\nsecond\n"}]


def test_directory_is_read_whole_without_its_licence(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b" / "a.txt").write_text("two")
    (tmp_path / "LICENSE.txt").write_text("CC-BY")
    assert [row["id"] for row in read(tmp_path)] == ["a:1", "b:a:1"]
    assert [row["text"] for row in read(tmp_path, file="b/*.txt")] == ["two"]


def test_own_ids_are_kept_and_blank_lines_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"id": "x"}\n\n{"n": 1}\n')
    assert read(tmp_path / "a.jsonl") == [{"id": "x"}, {"n": 1, "id": "a:3"}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"text": "a"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        (b'{"text": "a"}\n[1]\n', r"a\.jsonl:2: list where an object is expected"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', r"a\.jsonl:2: byte 11 is not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ResidencyError, match=complaint):
        read(tmp_path / "a.jsonl")


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,b\none\n")
    with pytest.raises(ResidencyError, match=r"a\.csv, row 1: 1 columns, but the first line names 2"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ResidencyError, match=r"a\.parquet: not a Parquet file"):
        read(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-9])
    with pytest.raises(ResidencyError, match="not a whole gzip file"):
        read(tmp_path / "a.jsonl.gz")


def test_missing_sources_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResidencyError, match=r"no file or directory .*gone\.jsonl"):
        identity(tmp_path / "gone.jsonl")
    with pytest.raises(ResidencyError, match=r"no file or directory data/gone\.jsonl"):
        identity("data/gone.jsonl")
    with pytest.raises(
        ResidencyError, match=r"world:medicine/dialogs.*Did you mean world:medicine/dialogues\?"
    ):
        identity("world:medicine/dialogs")
    with pytest.raises(ResidencyError, match=r"world:general: form 'odd'"):
        identity("world:general", form="odd")
    with pytest.raises(ResidencyError, match=r"owner/name: neither a local path nor in a mirror .*offline"):
        identity("owner/name")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ResidencyError, match=r"empty\.jsonl is empty"):
        identity(tmp_path / "empty.jsonl")


def test_mirror_stands_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "owner" / "name"
    (directory / "text").mkdir(parents=True)
    (directory / "LICENSE.txt").write_text("MIT")
    (directory / "text" / "train.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.setenv("RESIDENCY_MIRROR", str(tmp_path))
    assert (
        read("owner/name") == read("owner/name", file="text/train.jsonl") == [{"id": "train:1", "text": "a"}]
    )
    (directory / "text" / "test.jsonl").write_text('{"text": "b"}\n')
    with pytest.raises(ResidencyError, match=r"holds 2 files\. Set file to one of text/test\.jsonl"):
        read("owner/name")
    with pytest.raises(ResidencyError, match=r"no file text/tain\.jsonl.*It holds text/train\.jsonl"):
        read("owner/name", file="text/tain.jsonl")
    with pytest.raises(ResidencyError, match=r"other/name: neither .* the mirror"):
        identity("other/name")


def test_hub_cache_is_used_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "datasets--owner--name"
    (repository / "snapshots" / "abc123").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots" / "abc123" / "train.jsonl").write_text('{"text": "a"}\n')
    assert identity("owner/name") == "owner/name@abc123"
    assert read("owner/name", file="train.jsonl") == [{"id": "train:1", "text": "a"}]


def test_identity_follows_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    first = identity(path)
    (tmp_path / "b.jsonl").write_bytes(path.read_bytes())
    assert identity(tmp_path / "b.jsonl") == first
    path.write_text('{"text": "bb"}\n')
    assert identity(path) != first
    assert identity("world:medicine") == identity("world:medicine", seed=3)


def test_world_rows_follow_the_seed() -> None:
    settings = CorpusSettings(source="world:medicine", size=8)
    assert (
        list(sources.read(settings, 1)) == list(sources.read(settings, 1)) != list(sources.read(settings, 2))
    )


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(ResidencyError, match=r"a\.docx: not a data file"):
        identity(tmp_path / "a.docx")


def test_one_file_is_read_as_in_its_source(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.jsonl", "b/a.jsonl.gz", "b/c.csv", "b/c.tsv"):
        text = '{"text": "a"}\n' if "jsonl" in name else "text\na\n"
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    files = sources.named(sources.locate(CorpusSettings(source=str(tmp_path), licence="CC0-1.0")) or [])
    assert [name for _, name in files] == ["a", "b:a", "b:c.csv", "b:c.tsv"]
    assert [row for path, name in files for row in sources.read_file(path, name)] == read(tmp_path)


def test_damaged_rows_come_as_faults_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n{"text": "b"}\n')
    settings = CorpusSettings(source=str(path), licence="CC0-1.0")
    good, fault, last = sources.read(settings, 0, strict=False)
    assert (good, last) == ({"text": "a", "id": "a:1"}, {"text": "b", "id": "a:3"})
    assert fault == Fault("a:2", "not_json", f"{path}:2: not JSON (Expecting value, column 10)")
    assert list(sources.read_file(path, "a", strict=False)) == [good, fault, last]
    with pytest.raises(ResidencyError, match="Mend or remove the row"):
        list(sources.read_file(path, "a"))


def test_a_file_that_is_not_what_its_name_says_stops_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(ResidencyError, match="not a Parquet file"):
        identity(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(ResidencyError, match="is packed by gzip"):
        identity(tmp_path / "a.jsonl")


def test_hidden_files_and_notices_are_no_data(tmp_path: Path) -> None:
    for name in (
        ".cache/a.jsonl",
        ".git/b.txt",
        "README.md",
        "CHANGELOG.md",
        "dataset_infos.json",
        "a.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "a"}\n')
    assert [row["id"] for row in read(tmp_path)] == ["a:1"]
