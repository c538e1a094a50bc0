"""Names that look the same are one name, and names that differ only in capitals or blanks are found."""

import pytest

from separative.names import near_twins, normalise_name, twin_key

SAME = [
    "ann",
    " ann",
    "ann ",
    "\tann\n",
    "ann\u00a0",
    "\u2003ann",
    "\ufeffann",
    "ann\u200b",
    "\u200eann\u200f ",
]


@pytest.mark.parametrize("name", SAME)
def test_blanks_at_the_ends_of_a_name_are_removed(name: str) -> None:
    assert normalise_name(name) == "ann"


def test_blanks_inside_a_name_are_kept() -> None:
    assert normalise_name(" Ann  Lee ") == "Ann  Lee"
    # A joiner inside a word belongs to its spelling.
    assert normalise_name("\u0646\u200c\u0645") == "\u0646\u200c\u0645"


def test_an_accented_letter_is_one_character() -> None:
    assert normalise_name("Zoe\u0308") == "Zo\u00eb" == normalise_name("Zo\u00eb")
    assert normalise_name("\u1112\u1161\u11ab") == "\ud55c"
    assert normalise_name(normalise_name("A\u030a ")) == "\u00c5"
    assert normalise_name(" \u200b ") == ""


def test_bytes_of_a_file_name_that_are_not_utf8_are_kept() -> None:
    assert normalise_name("\udcff ") == "\udcff"


def test_near_twins_differ_in_capitals_blanks_or_width() -> None:
    assert near_twins(
        ["bob", "Ann", "ann", "AnnLee", "ann lee", "cy", "\uff43\uff59", "stra\u00dfe", "STRASSE"]
    ) == [
        ("Ann", "ann"),
        ("AnnLee", "ann lee"),
        ("STRASSE", "stra\u00dfe"),
        ("cy", "\uff43\uff59"),
    ]
    assert near_twins(["ann", "ann", "anne", "an n e"]) == [("an n e", "anne")]
    assert near_twins([]) == []
    assert twin_key("ann") != twin_key("anm")
