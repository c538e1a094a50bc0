"""What a file is that libsndfile does not read: a media file for FFmpeg, or no recording at all."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class MediaKind:
    """A kind of media file.

    Attributes:
        words: what the file is, with its article.
        demuxer: FFmpeg's name of the container format.
        stamped: its packets have time stamps that can be trusted; otherwise packets follow each other.
        indexed: FFmpeg finds any time in it exactly.
        headerless: the rate may change with any packet, so that only decoding gives the length.

    >>> media_kind(b"#!AMR\\n").demuxer
    'amr'
    """

    words: str
    demuxer: str
    stamped: bool = False
    indexed: bool = False
    headerless: bool = False

    @property
    def name(self) -> str:
        """The words without the article."""
        return self.words.partition(" ")[2]


MP4 = MediaKind("an M4A or MP4 file", "mov", stamped=True, indexed=True)
MOV = MediaKind("a MOV file", "mov", stamped=True, indexed=True)
GP3 = MediaKind("a 3GP file", "mov", stamped=True, indexed=True)
AVI = MediaKind("an AVI file", "avi")
AAC = MediaKind("an AAC file", "aac", headerless=True)
TRANSPORT = MediaKind("an MPEG transport stream", "mpegts", stamped=True)
# First bytes of media files, most of them from phones and browsers. The format is chosen here and not by
# FFmpeg: it also knows playlists and scripts, which make it open other files and addresses.
MEDIA = (
    (b"\x1a\x45\xdf\xa3", MediaKind("a WebM or Matroska file", "matroska", stamped=True, indexed=True)),
    (b"#!AMR", MediaKind("an AMR file", "amr", headerless=True)),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", MediaKind("a WMA file", "asf", stamped=True)),
    (b"FLV\x01", MediaKind("a Flash video", "flv", stamped=True)),
    (b"MAC ", MediaKind("a Monkey's Audio file", "ape")),
    (b"wvpk", MediaKind("a WavPack file", "wv")),
    (b"ADIF", AAC),
    (b"\x00\x00\x01\xba", MediaKind("an MPEG video", "mpeg", stamped=True)),
    (b"\x0b\x77", MediaKind("an AC-3 file", "ac3", headerless=True)),
    (b"\x7f\xfe\x80\x01", MediaKind("a DTS file", "dts", headerless=True)),
    (b"TTA1", MediaKind("a True Audio file", "tta")),
    (b"tBaK", MediaKind("a TAK file", "tak")),
    (b"MP+", MediaKind("a Musepack file", "mpc")),
    (b"MPCK", MediaKind("a Musepack file", "mpc8")),
    (b".RMF", MediaKind("a RealMedia file", "rm")),
    (b"DSD ", MediaKind("a DSF file", "dsf")),
)
# Containers that libsndfile reads, but not with every codec.
SHARED = {
    b"RIFF": MediaKind("a WAV file", "wav"),
    b"FORM": MediaKind("an AIFF file", "aiff"),
    b"caff": MediaKind("a CAF file", "caf"),
    b"OggS": MediaKind("an Ogg file", "ogg"),
}
# Names of media files that are read with the extra `media`.
MEDIA_SUFFIXES = {
    *(
        ".m4a",
        ".m4b",
        ".mp4",
        ".m4v",
        ".mov",
        ".aac",
        ".adts",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".wmv",
    ),
    *(".asf", ".webm", ".weba", ".mkv", ".mka", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".ac3", ".dts", ".ape", ".wv", ".tta", ".tak", ".mpc", ".rm", ".ra", ".dsf", ".spx", ".ogv"),
}
# First bytes of files that hold no audio themselves.
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the recording; fetch it with: git lfs pull"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"%PDF", "a PDF document, not a recording"),
    (b"#EXTM3U", "a playlist, not a recording; download the recording itself"),
)


@lru_cache(1)
def media_installed() -> bool:
    """Return True if the extra ``media`` is installed, so that FFmpeg's formats can be read.

    >>> isinstance(media_installed(), bool)
    True
    """
    return find_spec("av") is not None


def media_kind(head: bytes) -> MediaKind | None:
    """Return the kind of a media file that libsndfile does not read; None for any other file.

    Args:
        head: first HEAD_BYTES of the file, or all of it.

    >>> media_kind(b"\\0\\0\\0\\x1cftypM4A ").words
    'an M4A or MP4 file'
    >>> media_kind(b"RIFF") is None
    True
    """
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
        return GP3 if head[8:10] == b"3g" else MOV if head[8:10] == b"qt" or head[4:8] != b"ftyp" else MP4
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    if head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        return AAC
    # Packets of 188 bytes; files of cameras have a time stamp of four bytes before each.
    if any(head[at::size][:2] == b"GG" for at, size in ((0, 188), (4, 192))):
        return TRANSPORT
    return next((kind for magic, kind in MEDIA if head.startswith(magic)), None)


def shared_kind(head: bytes) -> MediaKind | None:
    """Return the kind of a file in a container that both libsndfile and FFmpeg read; None for any other.

    >>> shared_kind(b"RIFF").demuxer
    'wav'
    """
    return SHARED.get(head[:4])


def conversion(name: str) -> str:
    """Return the command that converts a file to WAV; the result does not replace the file itself.

    >>> conversion("talks/my memo.m4a")
    "ffmpeg -i 'my memo.m4a' 'my memo.wav'"
    """
    plain = name.rpartition("/")[2] or "recording"
    stem = Path(plain).stem if Path(plain).suffix.lower() != ".wav" else f"{Path(plain).stem}-converted"
    return f"ffmpeg -i {shlex.quote(plain)} {shlex.quote(f'{stem}.wav')}"


def without_extra(kind: MediaKind, name: str) -> str:
    """Say how to read a media file where the extra is missing.

    >>> without_extra(AAC, "a.aac")
    "is an AAC file; to read it, pip install 'separative[media]', or convert it first: ffmpeg -i a.aac a.wav"
    """
    remedy = "to read it, pip install 'separative[media]', or convert it first"
    return f"is {kind.words}; {remedy}: {conversion(name)}"


def describe_foreign(head: bytes, name: str) -> str:
    """Say what a file is that cannot be read, and what to do; empty if the bytes do not show it.

    Args:
        head: first HEAD_BYTES of the file, or all of it.
        name: name of the file, for the command.

    >>> describe_foreign(b"<!DOCTYPE html><html>", "talk.wav")
    'is a web page, not a recording; download the recording itself'
    """
    kind = media_kind(head)
    if kind is not None:
        return "" if media_installed() else without_extra(kind, name)
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
