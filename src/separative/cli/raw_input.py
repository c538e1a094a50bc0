"""Raw samples from standard input, and whether they are a file in some format instead."""

from __future__ import annotations

import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from separative.errors import SeparativeError

if TYPE_CHECKING:
    from separative.types import Wave

HEAD_BYTES = 4608
"""Bytes to look at: enough for three frames of MP3, and 0.14 s of raw samples at 16 kHz."""

# First bytes of the formats that may be piped into the command by mistake.
MAGICS = (
    (b"fLaC", "a FLAC file"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"FORM", "an AIFF file"),
    (b"caff", "a CAF file"),
    (b"riff\x2e\x91", "a W64 file"),
    (b".snd", "an AU file"),
    (b"NIST_1A", "a SPHERE file"),
    (b"#!AMR", "an AMR file"),
    (b"wvpk", "a WavPack file"),
    (b"MAC ", "a Monkey's Audio file"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (b"\x30\x26\xb2\x75", "a WMA file"),
    (b"FLV\x01", "a Flash video"),
    (b"\x1f\x8b\x08", "a gzip file"),
    (b"PK\x03\x04", "a ZIP file"),
)
# Bit rates in kbit/s by the four bits of an MPEG audio header, for (MPEG 1?, layer).
MPEG_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# A stream may be joined inside a frame; MPEG frames are shorter than this.
SEARCH_BYTES = 1500
MIN_TEXT_BYTES = 64
TEXT = frozenset({9, 10, 13, *range(32, 127)})


def open_raw_input(rate: int) -> tuple[BinaryIO, bytes]:
    """Return standard input, and its first bytes, which were read to check that they may be raw samples.

    Raises:
        SeparativeError: standard input is closed, or it is a file in some format.
    """
    if sys.stdin is None:
        raise SeparativeError("standard input is closed; pipe raw samples into this command")
    head = read_head(sys.stdin.buffer)
    if name := name_format(head):
        raise SeparativeError(
            f"standard input is {name}, not raw samples; pipe it through"
            f" 'ffmpeg -i - -f s16le -ac 1 -ar {rate} -' first"
        )
    return sys.stdin.buffer, head


def raw_blocks(source: BinaryIO, head: bytes, rate: int, to_rate: int) -> Iterator[Wave]:
    """Yield raw samples (16 bit, one channel) in blocks of about a tenth of a second, resampled.

    Args:
        head: the first bytes, which were already read.
        rate, to_rate: of the samples and of the blocks, in hertz.
    """
    import numpy as np

    from separative.audio import Resampler

    change, odd = Resampler(rate, to_rate), b""
    while block := head or source.read1(rate // 5):  # type: ignore[attr-defined]
        head = b""
        block, odd = odd + block, b""
        if len(block) % 2:
            block, odd = block[:-1], block[-1:]
        yield change(np.frombuffer(block, "<i2").astype(np.float32) / np.float32(32768))
    yield change(np.zeros(0, np.float32), last=True)


@contextmanager
def interrupt_on_terminate() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: service managers and containers end a live stream with it."""
    # Only the main thread has signals.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_head(source: BinaryIO) -> bytes:
    """Read the first HEAD_BYTES of a stream, or all of it if it is shorter."""
    head = b""
    while len(head) < HEAD_BYTES and (block := source.read1(HEAD_BYTES - len(head))):  # type: ignore[attr-defined]
        head += block
    return head


def name_format(head: bytes) -> str:
    """Name the format of a file that begins with these bytes; an empty string if they may be raw samples.

    >>> name_format(b"fLaC\\x00\\x00\\x00\\x22"), name_format(bytes(4608))
    ('a FLAC file', '')
    """
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _wav(head)
    for magic, name in MAGICS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "an MP4 or M4A file"
    if len(head) > 2 * 188 and head[0] == head[188] == head[2 * 188] == 0x47:
        return "an MPEG transport stream"
    if _frames(head, _mpeg_length):
        return "an MP3 file"
    if _frames(head, _aac_length):
        return "an AAC file"
    if len(head) >= MIN_TEXT_BYTES and TEXT.issuperset(head):
        return "text"
    return ""


def _wav(head: bytes) -> str:
    """Describe a WAV file, with its rate and its channels if the header has them here."""
    if head[8:12] == b"AVI ":
        return "an AVI file"
    order = ">" if head[:4] == b"RIFX" else "<"
    at = 12
    while at + 16 <= len(head):
        name, size = struct.unpack_from(f"{order}4sI", head, at)
        if name == b"fmt ":
            channels, rate = struct.unpack_from(f"{order}HI", head, at + 10)
            return f"a WAV file ({rate} Hz, {channels} channel{'' if channels == 1 else 's'})"
        at += 8 + size + size % 2
    return "a WAV file"


def _frames(head: bytes, length: Callable[[bytes], int]) -> bool:
    """Return True if three headers follow each other at the distances they state, or two up to the end."""
    for start in range(min(SEARCH_BYTES, len(head) - 7)):
        if head[start] != 0xFF:
            continue
        at, found = start, 0
        while found < 3 and at + 7 <= len(head) and (size := length(head[at : at + 7])):
            at, found = at + size, found + 1
        if found == 3 or (found == 2 and at + 7 > len(head)):
            return True
    return False


def _mpeg_length(header: bytes) -> int:
    """Bytes of the MPEG audio frame that begins with this header; 0 if it is no header."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbit, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbit in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * MPEG_KBITS[version == 3, layer][kbit - 1]
    if layer == 1:
        return 4 * (12 * bits // hertz + padding)
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _aac_length(header: bytes) -> int:
    """Bytes of the AAC frame (ADTS) that begins with this header; 0 if it is no header."""
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0
