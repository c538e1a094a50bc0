"""Files of turns: each is read back by a strict reader of its format, with names that need escaping."""

import csv
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from separative.errors import SeparativeError
from separative.inference.formats import FORMATS, TurnTable, clock, parse_formats, vtt_text, write_turns
from separative.rttm import Turn, read_rttm

NAMES = ["ann", 'Bob "B" O\'Neil', "R&D <i>", "a --> b", "tab\tand\nline", "Zoë 李", "c,d;e"]


def draw_table(seed: int) -> TurnTable:
    """Turns of some of the names: no overlap within a speaker, any overlap between speakers."""
    rng = np.random.default_rng(seed)
    turns = []
    for name in NAMES[: 1 + seed % len(NAMES)]:
        edges = np.unique(rng.integers(0, 60_000, 2 * int(rng.integers(1, 6)))) / 1000
        pairs = edges[: len(edges) // 2 * 2].reshape(-1, 2).tolist()
        turns += [Turn(name, start, end) for start, end in pairs]
    turns.sort(key=lambda turn: (turn.start, turn.speaker))
    exclusive, last = [], 0.0
    for turn in turns:
        if turn.end > max(turn.start, last):
            exclusive.append(turn._replace(start=max(turn.start, last)))
            last = turn.end
    return TurnTable("my talk", 61.0, tuple(turns), tuple(exclusive), Path("a b/talk & more.wav"))


def plain(name: str) -> str:
    return " ".join(name.split())


def expected(turns: tuple[Turn, ...]) -> list[tuple[str, float, float]]:
    return sorted((plain(turn.speaker), turn.start, turn.end) for turn in turns)


def seconds(text: str) -> float:
    hours, minutes, rest = text.replace(",", ".").split(":")
    return round(3600 * int(hours) + 60 * int(minutes) + float(rest), 3)


def read_srt(text: str) -> list[tuple[str, float, float]]:
    cues = []
    stamp = r"(\d\d:\d\d:\d\d,\d{3})"
    for number, block in enumerate(text.rstrip("\n").split("\n\n") if text else [], 1):
        index, times, *lines = block.split("\n")
        found = re.fullmatch(f"{stamp} --> {stamp}", times)
        assert int(index) == number and found and len(lines) == 1 and "-->" not in lines[0]
        cues.append((lines[0], seconds(found[1]), seconds(found[2])))
    return cues


def read_vtt(text: str) -> list[tuple[str, float, float]]:
    assert text.startswith("WEBVTT\n\n") or text == "WEBVTT\n"
    cues = []
    for block in text.removeprefix("WEBVTT\n").strip("\n").split("\n\n"):
        if not block:
            continue
        times, line = block.split("\n")
        start, end = times.split(" --> ")
        found = re.fullmatch(r"<v ([^<>\n]+)>([^<>]*)", line)
        assert found and found[1] == found[2] and "-->" not in line
        assert not re.search(r"&(?!amp;|lt;|gt;)", line)
        text = found[2].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        cues.append((text, seconds(start), seconds(end)))
    return cues


def read_textgrid(text: str) -> tuple[float, dict[str, list[tuple[float, float, str]]]]:
    """Read the long text format as Praat does: numbers and quoted texts in a fixed order."""
    values = iter(re.findall(r'"(?:[^"]|"")*"|<exists>|(?<== )-?\d+(?:\.\d+)?', text))

    def word() -> str:
        return next(values)[1:-1].replace('""', '"')

    assert (word(), word()) == ("ooTextFile", "TextGrid")
    start, end = float(next(values)), float(next(values))
    assert start == 0 and next(values) == "<exists>"
    tiers = {}
    for _ in range(int(next(values))):
        assert word() == "IntervalTier"
        name = word()
        assert (float(next(values)), float(next(values))) == (0, end)
        intervals = [(float(next(values)), float(next(values)), word()) for _ in range(int(next(values)))]
        # Praat refuses gaps, overlaps and empty intervals.
        assert intervals[0][0] == 0 and intervals[-1][1] == end
        assert all(one[1] == other[0] for one, other in pairwise(intervals))
        assert all(first < last for first, last, _ in intervals)
        tiers[name] = intervals
    assert next(values, None) is None
    return end, tiers


def read_eaf(path: Path) -> list[tuple[str, float, float]]:
    """Read an ELAN file, with the rules of EAFv3.0.xsd on order, attributes and references."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ANNOTATION_DOCUMENT" and {"AUTHOR", "DATE", "VERSION"} <= root.attrib.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", root.get("DATE"))
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE"]
    places = [order.index(child.tag) for child in root]
    assert places == sorted(places) and places.count(0) == places.count(1) == places.count(3) == 1
    header, times, *tiers, kind = root
    assert header.get("TIME_UNITS") == "milliseconds"
    for media in header:
        assert media.tag == "MEDIA_DESCRIPTOR" and {"MEDIA_URL", "MIME_TYPE"} <= media.attrib.keys()
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in times}
    assert len(slots) == len(times)
    found, numbers = [], set()
    for tier in tiers:
        assert tier.get("LINGUISTIC_TYPE_REF") == kind.get("LINGUISTIC_TYPE_ID")
        last = 0
        for annotation in tier:
            [aligned] = annotation
            assert aligned.tag == "ALIGNABLE_ANNOTATION"
            numbers.add(aligned.get("ANNOTATION_ID"))
            start, end = slots[aligned.get("TIME_SLOT_REF1")], slots[aligned.get("TIME_SLOT_REF2")]
            assert last <= start < end
            last = end
            assert aligned.findtext("ANNOTATION_VALUE") == tier.get("TIER_ID")
            found.append((tier.get("TIER_ID"), start / 1000, end / 1000))
    assert len(numbers) == len(found) and kind.get("TIME_ALIGNABLE") == "true"
    return sorted(found)


@pytest.mark.parametrize("seed", range(14))
def test_every_format_is_read_back(tmp_path: Path, seed: int) -> None:
    table = draw_table(seed)
    paths = dict(zip(FORMATS, write_turns(table, tmp_path, "talk", FORMATS), strict=True))
    turns, exclusive = expected(table.turns), expected(table.exclusive)
    arrows = [(name.replace("-->", "→"), start, end) for name, start, end in exclusive]
    assert sorted(read_srt(paths["srt"].read_text(encoding="utf-8"))) == sorted(arrows)
    assert sorted(read_vtt(paths["vtt"].read_text(encoding="utf-8"))) == exclusive
    assert read_eaf(paths["eaf"]) == turns
    lines = [line.split("\t") for line in paths["audacity"].read_text(encoding="utf-8").splitlines()]
    assert sorted((name, float(start), float(end)) for start, end, name in lines) == turns
    end, tiers = read_textgrid(paths["textgrid"].read_text(encoding="utf-8"))
    assert end == table.seconds
    spoken = [(text, start, end) for own in tiers.values() for start, end, text in own if text]
    assert sorted(spoken) == turns and all(text in ("", name) for name in tiers for *_, text in tiers[name])
    with paths["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for kind, wanted in (("0", turns), ("1", exclusive)):
        found = [(r["speaker"], float(r["start"]), float(r["end"])) for r in rows if r["exclusive"] == kind]
        assert sorted(found) == wanted
    stored = [
        (t.speaker.replace("_", " "), t.start, round(t.end, 3)) for t in read_rttm(paths["rttm"])["my_talk"]
    ]
    assert sorted(stored) == turns


def test_a_recording_without_speech_gives_valid_files(tmp_path: Path) -> None:
    table = TurnTable("none", 2.5, ())
    paths = dict(zip(FORMATS, write_turns(table, tmp_path, "none", FORMATS), strict=True))
    assert read_srt(paths["srt"].read_text()) == read_vtt(paths["vtt"].read_text()) == []
    assert read_eaf(paths["eaf"]) == []
    assert read_textgrid(paths["textgrid"].read_text()) == (2.5, {"no speech": [(0.0, 2.5, "")]})
    assert read_rttm(paths["rttm"]) == {} and paths["audacity"].read_text() == ""


def test_rttm_and_csv_have_the_channel_of_each_speaker(tmp_path: Path) -> None:
    turns = (Turn("1-speaker1", 0.0, 1.0), Turn("2-speaker1", 0.5, 2.0))
    table = TurnTable("call", 2.0, turns, turns[:1], None, {"1-speaker1": 1, "2-speaker1": 2})
    rttm, rows = write_turns(table, tmp_path, "call", ["rttm", "csv"])
    assert [line.split()[2] for line in rttm.read_text().splitlines()] == ["1", "2"]
    assert [line.split(",")[1] for line in rows.read_text().splitlines()] == ["channel", "1", "2", "1"]


def test_times_of_hours_and_rounding() -> None:
    assert parse_formats("json") == ()
    assert clock(36_000.9996) == "10:00:01.000" and clock(-0.2, ",") == "00:00:00,000"
    assert vtt_text("a --> b") == "a --&gt; b"


def test_unknown_and_no_formats_are_refused() -> None:
    with pytest.raises(SeparativeError, match="did you mean 'textgrid'"):
        parse_formats("rttm,textgrit")
    with pytest.raises(SeparativeError, match="no format named"):
        parse_formats(" , ")
