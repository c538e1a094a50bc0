"""What the bytes of an audio file hold beyond what libsndfile reads of them.

libsndfile reads as much audio as a header states, even if the file holds more. Programs that cannot seek, or
were killed, leave such headers. If a file holds several streams one after another (a chained Ogg file, MP3
files joined with ``cat``), libsndfile reads the first.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

# A size from here on is a placeholder if the file is shorter: 0xFFFFFFFF, 0x7FFFFFFF, SoX's 0x7FFFF000.
UNSTATED = 0x7FFF0000
UNSTATED_64 = 1 << 62
# Bytes from which something after the audio is worth a word: the size of a chunk header.
SMALLEST_REST = 8
# Flag of the header type byte of an Ogg page (RFC 3533, section 6), and the largest size of a page in bytes.
OGG_LAST_PAGE = 0x04
OGG_LARGEST_PAGE = 65307
# Largest number of streams in one file.
MAX_LINKS = 1000
# An Ogg file up to this size is searched for further streams; in a larger one they must have another serial
# number than the first, as the format requires.
OGG_SEARCH_BYTES = 16 << 20
# The first page of an Ogg stream: its flags, position 0, any serial number, page number 0.
OGG_START = re.compile(rb"OggS\x00[\x02\x03\x06\x07]\x00{8}.{4}\x00{4}", re.DOTALL)
# The Xing header of an MP3 file, with its flags: 1 the number of frames, 2 the number of bytes follow.
XING = re.compile(rb"(?:Xing|Info)\0\0\0.", re.DOTALL)
FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


@dataclass(frozen=True, slots=True)
class Contents:
    """How to read a file as a whole.

    Attributes:
        patches: (position, bytes) of header fields to read instead of those of the file.
        links: (start, end) in bytes of each stream, if there are several.
        complete: False if the file ends before the audio that its header states.
        remark: what is wrong with the file although it can be read; empty if nothing is.

    >>> Contents().links
    ()
    """

    patches: tuple[tuple[int, bytes], ...] = ()
    links: tuple[tuple[int, int], ...] = ()
    complete: bool = True
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Chunks:
    """How one container format stores its chunks.

    Attributes:
        order: byte order of sizes.
        first: position of the first chunk.
        size: length in bytes of the size that follows the four letters of a chunk's name.
        data: name of the chunk with the samples.
        fields: bytes at the start of that chunk that are not samples.
        align: chunks start at multiples of this.

    >>> FORMATS[b"RIFF"].data
    b'data'
    """

    order: Any
    first: int
    size: int
    data: bytes
    fields: int = 0
    align: int = 2


# WAV, its large variant, AIFF and CAF. libsndfile reads W64 files to their end, whatever the header states.
FORMATS = {
    b"RIFF": Chunks("little", 12, 4, b"data"),
    b"RIFX": Chunks("big", 12, 4, b"data"),
    b"RF64": Chunks("little", 12, 4, b"data"),
    b"FORM": Chunks("big", 12, 4, b"SSND", fields=8),
    b"caff": Chunks("big", 8, 8, b"data", fields=4, align=1),
}


def inspect(file: BinaryIO, size: int) -> Contents:
    """Return what a file of ``size`` bytes holds; the file is open for reading and is not an empty one.

    >>> from pathlib import Path
    >>> path = Path("ann.wav")
    >>> with path.open("rb") as file:
    ...     inspect(file, path.stat().st_size)
    Contents(patches=(), links=(), complete=True, remark='')
    """
    head = _read(file, 0, 12)
    if head[:4] in FORMATS:
        return _chunked(file, size, FORMATS[head[:4]])
    if head[:4] == b".snd":
        return _au(file, size)
    if head[:4] == b"OggS":
        return Contents(links=_ogg_links(file, size), complete=_ogg_is_complete(file, size))
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        return _mp3(file, size)
    return Contents()


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _chunked(file: BinaryIO, size: int, chunks: Chunks) -> Contents:
    """Compare the size of the chunk with the samples with that of the file."""
    header = 4 + chunks.size
    at, where, width, stated_64 = chunks.first, 0, chunks.size, 0
    for _ in range(1000):
        raw = _read(file, at, header)
        if len(raw) < header:
            return Contents()
        start, stated = at + header, int.from_bytes(raw[4:], chunks.order)
        if raw[:4] == chunks.data:
            break
        if raw[:4] == b"ds64":
            where, stated_64 = start + 8, int.from_bytes(_read(file, start + 8, 8), "little")
        at = start + stated + -stated % chunks.align
    else:
        return Contents()
    if where and stated == 0xFFFFFFFF:  # RF64: the size is in the chunk ds64.
        stated, width = stated_64, 8
    else:
        where = at + 4
    end, unstated = start + stated, stated >= (UNSTATED if width == 4 else UNSTATED_64)
    found = size - start - chunks.fields
    if end >= size:
        if unstated and width == 8 and found > 0:  # libsndfile refuses these.
            return Contents(patches=((where, (size - start).to_bytes(8, chunks.order)),))
        return Contents(complete=unstated or end <= size + 1)
    if size - end < SMALLEST_REST or _is_chunk(file, size, end + -stated % chunks.align, chunks):
        return Contents()
    if stated <= chunks.fields or unstated:
        value = min(size - start, 2 ** (8 * width) - 2).to_bytes(width, chunks.order)
        return Contents(patches=((where, value),), remark=_no_size(found, stated))
    return Contents(remark=_early(stated - chunks.fields, size - end))


def _is_chunk(file: BinaryIO, size: int, at: int, chunks: Chunks) -> bool:
    """Return True if another chunk that is complete, or tags of other programs, are at this position."""
    raw = _read(file, at, 4 + chunks.size)
    if raw.startswith((b"TAG", b"ID3", b"APETAG")):
        return True
    if len(raw) < 4 + chunks.size or not all(32 <= byte < 127 for byte in raw[:4]):
        return False
    # Some programs omit the padding byte of the last chunk.
    return at + len(raw) + int.from_bytes(raw[4:], chunks.order) <= size + 1


def _au(file: BinaryIO, size: int) -> Contents:
    header = _read(file, 0, 12)
    start, stated = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big")
    rest = size - start - stated
    if stated >= UNSTATED or rest < SMALLEST_REST or not 24 <= start < size:
        return Contents()
    if stated == 0:
        return Contents(patches=((8, b"\xff" * 4),), remark=_no_size(size - start, 0))
    return Contents(remark=_early(stated, rest))


def _no_size(found: int, stated: int) -> str:
    header = "0" if stated < UNSTATED else "a placeholder"
    return f"its header states {header} as the size of the audio; all {found} bytes after it are read"


def _early(stated: int, rest: int) -> str:
    return (
        f"its header states {stated} bytes of audio, but {rest} more bytes follow, which are not read; "
        "if the recorder was stopped early, recover them with: sox --ignore-length IN.wav OUT.wav"
    )


def _ogg_is_complete(file: BinaryIO, size: int) -> bool:
    """Return True if the file ends with a whole page that is marked as the last one of its stream."""
    tail = _read(file, max(0, size - OGG_LARGEST_PAGE), OGG_LARGEST_PAGE)
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail) or not tail[page + 5] & OGG_LAST_PAGE:
        return False
    segments = tail[page + 26]
    lengths = tail[page + 27 : page + 27 + segments]
    return len(lengths) == segments and len(tail) >= page + 27 + segments + sum(lengths)


def _ogg_links(file: BinaryIO, size: int) -> tuple[tuple[int, int], ...]:
    """Return the range of each stream of a chained Ogg file; nothing if there is one stream."""
    first = _read(file, 0, 18)
    if size > OGG_SEARCH_BYTES:
        tail = _read(file, max(0, size - OGG_LARGEST_PAGE), OGG_LARGEST_PAGE)
        page = tail.rfind(b"OggS\x00")
        if page < 0 or tail[page + 14 : page + 18] in (first[14:18], b""):
            return ()
    starts, previous_end = [], -1
    for at in _find(file, OGG_START):
        # Streams that run in parallel (sound and video) start together, one first page after another.
        if at != previous_end:
            starts.append(at)
        header = _read(file, at, 27 + 255)
        segments = header[26]
        previous_end = at + 27 + segments + sum(header[27 : 27 + segments])
    return _ranges(starts, size)


def _mp3(file: BinaryIO, size: int) -> Contents:
    """Find MP3 files that were joined to one, of which each states its own size in a Xing header."""
    starts: list[int] = []
    at = 0
    while len(starts) <= MAX_LINKS:
        head = _read(file, at, 10)
        if head[:3] == b"TAG":  # 128 bytes of tags at the end of a file.
            at, head = at + 128, _read(file, at + 128, 10)
        start = at
        if head[:3] == b"ID3" and len(head) == 10:
            shifts = (21, 14, 7, 0)
            at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], shifts, strict=True))
        frame = _read(file, at, 200)
        if len(frame) < 200 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
            break  # Tags, padding or damage at the end.
        starts.append(start)
        # The header follows the side information of the frame, which is 9 to 32 bytes long.
        found = XING.search(frame, 4, 48)
        if found is None or not frame[found.end() - 1] & 2:
            break
        position = found.end() + 4 * (frame[found.end() - 1] & 1)
        length = int.from_bytes(frame[position : position + 4], "big")
        if length < len(frame):
            break
        at += length
    return Contents(links=_ranges(starts, size))


def count_flac_streams(file: BinaryIO) -> int:
    """Return the number of FLAC streams, one after another, in an open file; this reads the whole file.

    >>> from pathlib import Path
    >>> from separative import audio
    >>> audio.write("ann.flac", *audio.read("ann.wav"))
    >>> with Path("ann.flac").open("rb") as file:
    ...     count_flac_streams(file)
    1
    """
    return sum(1 for _ in _find(file, FLAC_START))


def _find(
    file: BinaryIO, pattern: re.Pattern[bytes], size: int = 1 << 20, overlap: int = 64
) -> Iterator[int]:
    """Yield the positions of a pattern of less than ``overlap`` bytes in a file, in ascending order."""
    at, next_at = 0, 0
    while block := _read(file, at, size + overlap):
        for found in pattern.finditer(block):
            if at + found.start() >= next_at and found.start() < size:
                next_at = at + found.end()
                yield at + found.start()
        at += size


def _ranges(starts: list[int], size: int) -> tuple[tuple[int, int], ...]:
    if len(starts) < 2:
        return ()
    return tuple(zip(starts, [*starts[1:], size], strict=True))


class Part(io.RawIOBase):
    """Bytes ``[start, end)`` of a file, with some of them replaced; read-only.

    Args:
        file: an open file; the part closes it.
        patches: (position in the part, bytes).

    >>> part = Part(io.BytesIO(b"0123456789"), 2, 8, ((1, b"ab"),))
    >>> part.read()
    b'2ab567'
    """

    def __init__(
        self, file: BinaryIO, start: int, end: int, patches: tuple[tuple[int, bytes], ...] = ()
    ) -> None:
        self._file, self._start, self._end, self._patches = file, start, end, patches
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end - self._start}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        count = min(len(buffer), self._end - self._start - self._at)
        if count <= 0:
            return 0
        data = bytearray(_read(self._file, self._start + self._at, count))
        for position, value in self._patches:
            for index, byte in enumerate(value, position - self._at):
                if 0 <= index < len(data):
                    data[index] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
