"""Names that people type: speakers, splits, corpora and utterances.

One name can be typed in several ways that look the same: with blanks around it, or with an accented letter as
one character or as two. Every name is normalised where it enters the program (manifests, command line,
galleries, HTTP requests), so that one name is one string from there on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Characters without width: zero-width spaces and joiners, marks of writing direction, the byte order mark.
_INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_OUTER_BLANKS = re.compile(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$")
# A file name has at most 255 bytes; the name of the recording comes before this part.
MAX_PART_BYTES = 100
_ALL_BLANKS = re.compile(rf"[\s{_INVISIBLE}]+")


def normalise_name(name: str) -> str:
    r"""Return a name without blanks at its ends, in Unicode form NFC (an accented letter is one character).

    Blanks are spaces, tabs, line ends and characters without width. A name of blanks becomes empty.

    >>> normalise_name(" Ann Lee\t")
    'Ann Lee'
    >>> normalise_name("Zoe\u0301") == "Zo\u00e9"
    True
    """
    if name.isascii() and name == name.strip():
        return name
    return unicodedata.normalize("NFC", _OUTER_BLANKS.sub("", name))


def name_at_speed(name: str, speed: float) -> str:
    """Name of a speaker or an utterance at a playback speed. At another speed it is another voice.

    >>> name_at_speed("ann", 1.0), name_at_speed("ann", 0.9)
    ('ann', 'ann@0.9')
    """
    return name if speed == 1.0 else f"{name}@{speed:g}"


def twin_key(name: str) -> str:
    """Return a string that is equal for names that look the same but for capital letters and blanks.

    >>> twin_key("Ann Lee") == twin_key("ann  lee") == twin_key("AnnLee")
    True
    >>> twin_key("ann") == twin_key("anne")
    False
    """
    if name.isascii():
        return "".join(name.split()).lower()
    return unicodedata.normalize("NFKC", _ALL_BLANKS.sub("", unicodedata.normalize("NFKC", name)).casefold())


def near_twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different names that have the same :func:`twin_key`, sorted.

    Such names are probably one name typed in two ways, so a person should look at them.

    >>> near_twins(["bob", "Ann", "ann", "cy", "ann"])
    [('Ann', 'ann')]
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(twin_key(name), set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def file_part(name: str) -> str:
    """Return a form of a name that every file system takes as a part of a file name.

    Letters of all alphabets, digits, hyphens and underscores stay. Everything else, such as blanks, slashes
    and dots, becomes an underscore. The result is cut at 100 bytes of UTF-8.

    >>> file_part("Zoë / Ann  Lee"), file_part("../b.c"), file_part("speaker1")
    ('Zoë_Ann_Lee', 'b_c', 'speaker1')
    >>> file_part("..."), len(file_part("ä" * 1000))
    ('speaker', 50)
    """
    kept = "".join(
        character if unicodedata.category(character)[0] in "LMN" or character in "-_" else " "
        for character in unicodedata.normalize("NFC", name)
    )
    cut = "_".join(kept.split()).encode()[:MAX_PART_BYTES].decode(errors="ignore")
    return cut.strip("_") or "speaker"
