"""Files from elsewhere are read within bounds, and whatever is wrong with them is one typed error."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from separative.errors import CorpusError, SeparativeError
from separative.files import MAX_JSON_BYTES, iterate_lines, parse_json, read_json, read_lines

WRONG = {
    "not UTF-8": (b'{"name": "\xff"}', "not UTF-8 text"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
    "not JSON": (b"{'a': 1}", "not JSON"),
    "empty": (b"", "not JSON"),
    "cut short": (b'{"a": [1, 2', "not JSON"),
    "deep lists": (b"[" * 1_000_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 200_000, "nested too deeply"),
    "a number of 5,000 digits": (b"[" + b"9" * 5000 + b"]", "a number with too many digits"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_damaged_json_is_a_typed_error_that_names_the_file(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    for error in (SeparativeError, CorpusError):
        with pytest.raises(error, match=rf"card\.json: .*{message}") as caught:
            read_json(path, error)
        assert type(caught.value) is error
        assert len(str(caught.value)) < 300


def test_a_json_file_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.json", tmp_path / "a\0b"):
        with pytest.raises(SeparativeError, match="cannot be read"):
            read_json(path)
    (tmp_path / "large.json").write_bytes(b"[" + b" " * MAX_JSON_BYTES + b"]")
    with pytest.raises(SeparativeError, match=r"large\.json: larger than 16 MiB"):
        read_json(tmp_path / "large.json")
    with pytest.raises(SeparativeError, match="larger than"):
        read_json(Path("/dev/zero"))


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert parse_json("[1]", "line 3") == [1]
    (tmp_path / "a.txt").write_text("\ufeffann\n\ufeffbob\n", encoding="utf-8")
    assert read_lines(tmp_path / "a.txt") == ["ann", "\ufeffbob"]


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a\u2028b\x0b\x85c\r\n\nd\re\n\nf".encode())
    assert read_lines(tmp_path / "a.txt") == ["a\u2028b\x0b\x85c", "", "d", "e", "", "f"]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    assert read_lines(tmp_path / "a.txt.gz") == read_lines(tmp_path / "a.txt")


LINES = {
    "not UTF-8": ("a.txt", b"ann\nb\xffb\n", "a.txt, line 2: not UTF-8"),
    "a long line": ("a.txt", b"ann\n" + b"x" * (5 << 20), "a.txt, line 2: longer than 4 MiB"),
    "not compressed": ("a.gz", b"ann\n", "a.gz, line 1: cannot be read"),
    "compressed and cut": (
        "a.gz",
        gzip.compress(b"".join(b"%d\n" % n for n in range(9999)))[:5000],
        "cannot be",
    ),
    "compressed and damaged": ("a.gz", gzip.compress(b"ann\n")[:-8] + bytes(8), "cannot be read"),
    "a line that never ends": ("a.gz", gzip.compress(bytes(32 << 20)), "a.gz, line 1: longer than 4 MiB"),
    "empty lines": ("a.gz", gzip.compress(b"\r\n" * 1_100_000), "over a million empty lines"),
    "lines without end": (
        "a.gz",
        gzip.compress((b"x" * 999 + b"\n") * 20_000),
        "decompresses to over 200 times its size",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), LINES.values(), ids=LINES)
def test_damaged_text_is_a_typed_error_that_names_the_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        for _ in iterate_lines(tmp_path / name, CorpusError):
            pass
    with pytest.raises(SeparativeError, match=r"gone\.txt: cannot be read \(no such file or directory\)"):
        read_lines(tmp_path / "gone.txt")


def test_a_compressed_file_that_grows_without_limit_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(500):
            file.write(b" " * (1 << 20))
    assert path.stat().st_size < 1 << 20
    code = (
        "import resource, sys\nfrom separative.corpora import load_corpus\n"
        "from separative.errors import CorpusError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    load_corpus(sys.argv[1])\nexcept CorpusError as error:\n    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    message, megabytes = done.stdout.splitlines()
    assert "cuts.jsonl.gz, line 1: longer than 4 MiB" in message
    assert int(megabytes) < 64
