"""Every format gives the same rows; every kind of damage gives its exact message, and no more memory than stated."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from residency.data.reading import formats
from residency.data.reading.faults import Fault
from residency.errors import ResidencyError

ROWS = [
    {"text": "größer, 'quoted' \"twice\""},
    {"text": "two\nlines and a blank one\n\nend"},
    {"text": "الكبد يصنع الصفراء ‏(القنوات)‏"},
    {"text": "כבד עם נִקּוּד"},
    {"text": "e\u0301 is not é; ก็ ที่; 👩🏽‍⚕️ and 𝔘"},
    {"text": "肝臓は胆汁を作る\u2028still the same row"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
WANTED = [{**row, "id": f"a:{number}"} for number, row in enumerate(ROWS, 1)]
GOOD = b'{"text": "a"}\n'


def table(delimiter: str) -> bytes:
    cells = [row["text"].replace('"', '""') for row in ROWS]
    return f"text{delimiter}n\n".encode() + b"".join(f'"{cell}"{delimiter}1\n'.encode() for cell in cells)


def read(path: Path) -> list[Any]:
    return list(formats.rows(path, "a"))


def packed(content: bytes, packing: str) -> bytes:
    if packing == ".gz":
        return gzip.compress(content, mtime=0)
    return bytes(zstandard.ZstdCompressor().compress(content)) if packing else content


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (".jsonl", LINES),
        (".jsonl", json.dumps(ROWS[0]).encode() + b"\r\n" + b"\r\n".join(LINES.splitlines()[1:])),
        (".json", json.dumps(ROWS).encode()),
        (".json", json.dumps(ROWS, ensure_ascii=False, indent=2).encode("utf-8-sig")),
        (".json", LINES),
        (".csv", table(",")),
        (".tsv", table("\t")),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str, content: bytes, packing: str) -> None:
    path = tmp_path / f"a{kind}{packing}"
    path.write_bytes(packed(content, packing))
    assert [{"text": row["text"], "id": row["id"]} for row in read(path)] == WANTED


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=2)
    assert read(tmp_path / "a.parquet") == WANTED


@pytest.mark.parametrize(
    ("name", "packing"),
    [("a.txt", ""), ("a.md", ""), ("a.TXT", ""), ("a.txt.gz", ".gz"), ("a.md.zst", ".zst")],
)
def test_text_file_is_one_document(tmp_path: Path, name: str, packing: str) -> None:
    (tmp_path / name).write_bytes(packed("\ufeffeins\nכבד\n".encode(), packing))
    assert read(tmp_path / name) == [{"id": "a:1", "text": "eins\nכבד\n"}]


def test_packed_files_may_have_several_members(tmp_path: Path) -> None:
    for packing in (".gz", ".zst"):
        path = tmp_path / f"a.jsonl{packing}"
        path.write_bytes(packed(GOOD, packing) * 3)
        assert len(read(path)) == 3


def test_rows_may_cross_the_chunks_of_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.data.reading.json_rows.BUFFER", 3)
    (tmp_path / "a.json").write_text(json.dumps(ROWS, ensure_ascii=False))
    assert read(tmp_path / "a.json") == WANTED


LONG = b'{"text": "' + b"x" * (33 * 2**20) + b'"}\n'


@pytest.mark.parametrize(
    ("name", "content", "reason", "detail"),
    [
        ("a.jsonl", b'{"text": "\xff"}', "not_utf8", "a.jsonl:2: byte 11 is not UTF-8"),
        ("a.jsonl", b'{"text": ', "not_json", "a.jsonl:2: not JSON (Expecting value, column 10)"),
        ("a.jsonl", b'{"text": "a\0b"}', "not_json", "a.jsonl:2: not JSON (Invalid control character at, column 12)"),
        ("a.jsonl", b"[" * 100_000, "not_json", "a.jsonl:2: not JSON (nested too deeply)"),
        (
            "a.jsonl",
            b'{"n": ' + b"1" * 5000 + b"}",
            "not_json",
            "a.jsonl:2: not JSON (Exceeds the limit (4300 digits) for integer string conversion: "
            "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit)",
        ),
        ("a.jsonl", b"[1]", "not_an_object", "a.jsonl:2: list where an object is expected"),
        ("a.jsonl", b'{"a": 1, "a": 2}', "duplicate_keys", "a.jsonl:2: the key 'a' stands twice in an object"),
        ("a.jsonl", b'{"m": [{"a": 1, "a": 2}]}', "duplicate_keys", "a.jsonl:2: the key 'a' stands twice in an object"),
        ("a.jsonl", LONG, "too_long", "a.jsonl:2: longer than 32 MiB"),
        ("a.json", b'{"text": "\xff"}', "not_utf8", "a.json, row 2: not UTF-8"),
        ("a.json", LONG, "too_long", "a.json, row 2: longer than 32 MiB"),
        ("a.json", b"7", "not_an_object", "a.json, row 2: int where an object is expected"),
        ("a.json", b'{"a": 1, "a": 2}', "duplicate_keys", "a.json, row 2: the key 'a' stands twice in an object"),
        ("a.csv", b"b,c", "wrong_columns", "a.csv, row 2: 2 columns, but the first line names 1"),
        ("a.csv", b'"b"c', "not_csv", "a.csv, row 2: not CSV (',' expected after '\"')"),
        ("a.csv", b"\xff", "not_utf8", "a.csv, row 2: not UTF-8"),
        ("a.tsv", b"b\tc", "wrong_columns", "a.tsv, row 2: 2 columns, but the first line names 1"),
    ],
)  # fmt: skip
def test_damaged_rows_are_faults_between_good_ones(
    tmp_path: Path, name: str, content: bytes, reason: str, detail: str
) -> None:
    around = {
        ".jsonl": (GOOD, b"\n" + GOOD),
        ".json": (b'[{"text": "a"}, ', b', {"text": "a"}]'),
    }.get(Path(name).suffix, (b"text\na\n", b"\na\n"))
    (tmp_path / name).write_bytes(around[0] + content.removesuffix(b"\n") + around[1])
    first, fault, last = read(tmp_path / name)
    assert (first["text"], last["text"]) == ("a", "a")
    assert fault == Fault("a:2", reason, f"{tmp_path}/{detail}")  # type: ignore[arg-type]


def test_damaged_text_files_are_faults(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    assert read(tmp_path / "a.txt") == [
        Fault("a:1", "not_utf8", f"{tmp_path}/a.txt, row 1: byte 4 is not UTF-8")
    ]
    (tmp_path / "a.txt").write_bytes(LONG)
    (fault,) = read(tmp_path / "a.txt")
    assert fault.detail.endswith("a.txt, row 1: longer than 32 MiB, and a text file is one document")


def test_damaged_parquet_values_are_faults(tmp_path: Path) -> None:
    broken = pyarrow.array([b"a", b"\xff", b"b"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    first, fault, last = read(tmp_path / "a.parquet")
    assert fault == Fault("a:2", "not_utf8", f"{tmp_path}/a.parquet, row 2: not UTF-8")
    assert (first["text"], last["text"], last["id"]) == ("a", "b", "a:3")


def parquet(**columns: Any) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return bytes(sink.getvalue())


def twice() -> bytes:
    sink = pyarrow.BufferOutputStream()
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "text"]), sink)
    return bytes(sink.getvalue())


WHOLE = GOOD * 5000
AGAIN = "Mend or fetch it again; one object a line (.jsonl) lets a reader pass over damage"
QUOTES = "Look for a quotation mark that is not closed, or not doubled inside a field"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl.gz", gzip.compress(WHOLE, mtime=0)[:-9],
         "not a whole gzip file: Compressed file ended before the end-of-stream marker was reached, "
         "{} bytes unpacked before. Fetch or pack it again"),
        ("a.jsonl.gz", gzip.compress(WHOLE, mtime=0)[:-12] + b"\0" * 12, "not a whole gzip file: "),
        ("a.jsonl.gz", GOOD, "not a whole gzip file: Not a gzipped file (b'{\"'), 0 bytes unpacked before. "
         "Fetch or pack it again"),
        ("a.jsonl.zst", packed(WHOLE, ".zst")[:-9], "not a whole zstd file: Truncated compressed stream, "
         "{} bytes unpacked before. Fetch or pack it again"),
        ("a.jsonl.zst", GOOD, "not a whole zstd file: ZSTD decompress failed: Unknown frame descriptor, "
         "0 bytes unpacked before. Fetch or pack it again"),
        ("a.jsonl", gzip.compress(GOOD, mtime=0), "is packed by gzip. Let its name end in .gz"),
        ("a.csv", packed(GOOD, ".zst"), "is packed by zstd. Let its name end in .zst"),
        ("a.txt", "a".encode("utf-16"), "is UTF-16. Convert it to UTF-8"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n",
         "is a Git LFS pointer, not the data. Fetch it with git lfs pull"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n",
         "is a Git LFS pointer, not the data. Fetch it with git lfs pull"),
        ("a.jsonl", b"PK\x03\x04", "is a zip archive. Unpack it"),
        ("a.parquet", b"no parquet at all", "not a Parquet file (Parquet magic bytes not found in footer. Either the "
         "file is corrupted or this is not a parquet file.). Fetch it again"),
        ("a.parquet", parquet(text=["a"] * 1000)[:-20], "not a Parquet file (Parquet magic bytes not found in footer"),
        ("a.parquet", twice(), "two columns are named 'text'. Rename one"),
        ("a.csv", b"text,text\na,b\n", "two columns are named 'text'. Rename one"),
        ("a.csv", b'text\na\n"b\nc\n', f"the row from line 3 on has no end (unexpected end of data). {QUOTES}"),
        ("a.csv", b"text\n" + LONG, "line 2 is longer than 32 MiB"),
        ("a.json", b'[{"text": "a"}, {"text": "b"}', f"cut short behind row 2. {AGAIN}"),
        ("a.json", b'[{"text": "a"}, {"text": "b', f"row 2 is not JSON (Unterminated string starting at). {AGAIN}"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', f"row 1 ends without a comma or a bracket. {AGAIN}"),
        ("a.json", b'[{"text": "a"}] []', f"goes on behind the array's end. {AGAIN}"),
    ],
)  # fmt: skip
def test_damaged_files_say_what_and_where(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ResidencyError) as error:
        read(tmp_path / name)
    said = str(error.value).removeprefix(f"{tmp_path}/{name}").lstrip(": ")
    start, _, end = complaint.partition("{}")
    assert said.startswith(start) and end in said


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_empty_files_have_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert read(tmp_path / name) == []


def test_an_empty_text_file_is_an_empty_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert read(tmp_path / "a.txt") == [{"id": "a:1", "text": ""}]


def test_a_wrong_file_is_seen_before_it_is_read(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.jsonl.gz", "a.json.zst"):
        (tmp_path / name).write_bytes(GOOD)
        with pytest.raises(ResidencyError, match=r"not a (Parquet|whole gzip|whole zstd) file"):
            formats.probe(tmp_path / name)


# Not ru_maxrss, which keeps the peak of the process that was forked.
PEAK = """
import re, sys
from pathlib import Path
from residency.data.reading import formats
from residency.errors import ResidencyError
try:
    found = list(formats.rows(Path(sys.argv[1]), "a"))
    print([row.get("text") if isinstance(row, dict) else row.reason for row in found])
except ResidencyError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def write_json_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(GOOD + b'{"text": "')
        for _ in range(200):
            file.write(b"x" * 10**6)
        file.write(b'"}\n' + GOOD)


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'[{"text": "')
        for _ in range(200):
            file.write(b"x" * 10**6)
        file.write(b'"}]')


def write_open_quote(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'text\na\n"')
        for _ in range(200):
            file.write(b"x" * 999_999 + b"\n")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.jsonl", write_json_line, "['a', 'too_long', 'a']"),
        ("a.json", write_array, "row 1 is not JSON or longer than 32 MiB (Unterminated string starting at)"),
        ("a.csv", write_open_quote, "the row from line 3 on has no end (field larger than field limit (33554432))"),
    ],
)  # fmt: skip
def test_200_mb_without_an_end_take_less_than_700_mib(
    tmp_path: Path, name: str, write: Callable[[Path], None], said: str
) -> None:
    write(tmp_path / name)
    command = [sys.executable, "-c", PEAK, str(tmp_path / name)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answer, peak = output.rstrip().rsplit("\n", 1)
    assert said in answer
    assert int(peak) < 700
    (tmp_path / name).unlink()


def test_a_parquet_file_of_one_row_group_is_not_held(tmp_path: Path) -> None:
    path, code = tmp_path / "a.parquet", PEAK.replace("list(formats.rows", "map(short, formats.rows")
    texts = [random.Random(number).randbytes(10_000).hex() for number in range(10_000)]
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False, row_group_size=10_000)
    assert path.stat().st_size > 200e6
    command = [sys.executable, "-c", "def short(row): return {'text': len(row['text'])}\n" + code, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answer, peak = output.rstrip().rsplit("\n", 1)
    assert answer == str([20_000] * 10_000)
    assert int(peak) < 220  # held whole, it takes 290
