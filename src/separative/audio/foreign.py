"""Files that are often passed for a recording but that are not read here: their names, and what to do."""

from __future__ import annotations

import shlex
from pathlib import Path

HEAD_BYTES = 512
# First bytes of media files, most of them from phones and browsers.
MEDIA = (
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
    (b"#!AMR", "an AMR file"),
    (b"\x30\x26\xb2\x75", "a WMA file"),
    (b"FLV\x01", "a Flash video"),
    (b"MAC ", "a Monkey's Audio file"),
    (b"wvpk", "a WavPack file"),
    (b"ADIF", "an AAC file"),
)
# First bytes of files that hold no audio themselves.
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the recording; fetch it with: git lfs pull"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"%PDF", "a PDF document, not a recording"),
)


def describe_foreign(head: bytes, name: str) -> str:
    """Say which format a file has that is not read here, and what to do; empty if the bytes do not show it.

    Args:
        head: first HEAD_BYTES of the file, or all of it.
        name: name of the file, for the command.

    >>> describe_foreign(b"\\0\\0\\0\\x1cftypM4A ", "memo.m4a")
    'is an M4A or MP4 file, which is not read here; convert it first: ffmpeg -i memo.m4a memo.wav'
    >>> describe_foreign(b"<!DOCTYPE html><html>", "talk.wav")
    'is a web page, not a recording; download the recording itself'
    """
    media = next((words for magic, words in MEDIA if head.startswith(magic)), "")
    if head[4:8] in (b"ftyp", b"moov"):
        media = "a 3GP file" if head[8:10] == b"3g" else "an M4A or MP4 file"
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        media = "an AVI file"
    elif head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        media = "an AAC file"
    if media:
        plain = name.rpartition("/")[2] or "recording"
        # The result must not replace the file itself.
        stem = Path(plain).stem if Path(plain).suffix.lower() != ".wav" else f"{Path(plain).stem}-converted"
        command = f"ffmpeg -i {shlex.quote(plain)} {shlex.quote(f'{stem}.wav')}"
        return f"is {media}, which is not read here; convert it first: {command}"
    for magic, words in OTHERS:
        if head.startswith(magic):
            return f"is {words}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "is a web page, not a recording; download the recording itself"
    return ""


def foreign_file(path: Path, name: str) -> str:
    """Apply :func:`describe_foreign` to a file; empty if it cannot be read.

    >>> foreign_file(Path("ann.wav"), "ann.wav")
    ''
    """
    try:
        with path.open("rb") as file:
            return describe_foreign(file.read(HEAD_BYTES), name)
    except OSError:
        return ""
