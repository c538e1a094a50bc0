"""Has a sound file lost its end? Some formats decode without complaint after an interrupted copy."""

from __future__ import annotations

from pathlib import Path

OGG_LAST_PAGE = 0x04  # flag of the header type byte, RFC 3533 section 6
OGG_LARGEST_PAGE = 65307
# Writers that cannot seek back leave one of these in place of the size (piped WAV).
UNSTATED_SIZES = {0, 0xFFFFFFFF, 0x7FFFFFFF}


def is_whole(path: str | Path) -> bool:
    """False if a WAV file is shorter than its header says or an Ogg stream lacks its last page; else True.

    A FLAC or MP3 file cut short fails when it is read.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] == b"RIFF":
            stated = int.from_bytes(head[4:8], "little")
            # Chunks are padded to even length, and some writers forget the padding byte of the last one.
            return stated in UNSTATED_SIZES or size + 1 >= stated + 8
        if head[:4] == b"OggS":
            file.seek(max(0, size - OGG_LARGEST_PAGE))
            tail = file.read()
            page = tail.rfind(b"OggS")
            if page < 0 or page + 27 > len(tail) or not tail[page + 5] & OGG_LAST_PAGE:
                return False
            segments = tail[page + 26]
            lengths = tail[page + 27 : page + 27 + segments]
            return len(lengths) == segments and len(tail) >= page + 27 + segments + sum(lengths)
    return True
