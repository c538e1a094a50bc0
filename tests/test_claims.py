"""Figures in README and docs equal the committed results that they come from.

``TABLES`` compares whole tables, ``CLAIMS`` figures in sentences. A figure that changes on one side fails.
In the README and on the page of questions every number must be part of a claim, or in ``NOT_RESULTS``.
"""

import re
from collections.abc import Callable

import pytest

from claims_helpers import NUMBER_PATTERN, Cell, Quote, Ratio, Source, agree, read, search, tables

README, QUESTIONS, MODEL, SHIPPED = (
    "../README.md",
    "faq.md",
    "model.md",
    "../src/separative/model/shipped/base/README.md",
)
BASE, SMALL = "results/base/results.md", "results/table-small/results.md"
THREE, SEVEN, NUMBER, OVERLAP = (
    f"results/base-meetings/{name}.md"
    for name in ("three-speakers", "other-three-speakers", "by-number", "by-overlap")
)
ROBUST = "benchmarks/robustness.md"
REAL, OTHERS = "results/base-real/results.md", "results/peers-real/results.md"
SCOPE = " · within each corpus, all corpora"
OURS, ECAPA = "base", "ECAPA-TDNN, overlap"
FULL, ALONE, KNOWN = "trained", "trained, no attention over windows", "trained, number of speakers known"


def same(source: str, title: str, rows: dict[str, str] | None = None) -> Callable[[str, str], list[Source]]:
    """Source of a table with the rows and columns of a results table, except for the names in ``rows``."""
    return lambda row, column: [Cell(source, title + SCOPE, (rows or {}).get(row, row), column)]


def small_dev(row: str, column: str) -> list[Source]:
    title, model = {
        "EER, %: small": ("EER, %", "trained"),
        "the same network untrained": ("EER, %", "untrained"),
        "MFCC statistics": ("EER, %", "MFCC statistics"),
        "SI-SDR improvement, dB: small": ("SI-SDRi, dB", "trained"),
        "information on the speaker, nats, of 3.56: small": ("MI, nats", "trained"),
    }[row]
    scope = "" if title.startswith("MI") else SCOPE
    return [Cell("results/small-dev/results.md", title + scope, model, column)]


def three_speakers(row: str, column: str) -> list[Source]:
    titles = {
        "diarization error": "DER, %",
        "number of speakers": "count right, %",
        "swaps": "swaps, per recording",
        "EER of whole-recording": "EER, %",
        "EER of the embedding": "window EER, %",
        "SI-SDR improvement": "SI-SDRi, dB",
    }
    [title] = [title for start, title in titles.items() if row.startswith(start)]
    model = FULL if column == "as diarize does it" else ALONE
    return [Cell(THREE, title + SCOPE, model, "3 speakers, 20%")]


def other_conversations(row: str, column: str) -> list[Source]:
    speakers, overlap = column.replace("none", "0 %").removesuffix(" %").split(", ")
    kind = f"{speakers.removesuffix(' speakers')} speakers, {overlap}%"
    page = NUMBER if overlap == "20" else OVERLAP
    if row == "number of speakers known":
        return [Cell(page, "DER, %" + SCOPE, KNOWN, kind)]
    return [Cell(page, title + SCOPE, FULL, kind) for title in ("DER, %", "count right, %")]


def real_recordings(row: str, column: str) -> list[Source]:
    """Source of a cell of the table of real recordings, whose first column is simulated."""
    if column.startswith("simulated"):
        known = "number of speakers given" in row
        titles = {
            "diarization error": ["DER, %"],
            "missed, false alarm, confusion": ["missed, %", "false alarm, %", "confusion, %"],
            "recordings with": ["count right, %"],
            "EER of windows": ["window EER, %"],
        }
        [found] = [titles[start] for start in titles if row.startswith(start)]
        return [meeting(title, KNOWN if known else FULL) for title in found]
    metrics = {
        "missed, false alarm, confusion, points": ["missed, %", "false alarm, %", "confusion, %"],
        "error of speech against silence, %": ["DER speech, %"],
        "overlapped time found as overlap, %": ["overlap found, %"],
        "recordings with the number of speakers estimated correctly": ["count right"],
        "EER of windows of 2 s with one speaker, %": ["window EER, %"],
    }
    systems = {
        "diarization error, number of speakers given, %": "base, number of speakers known",
        "diarization error, true speech given, %": "base, true speech",
        "diarization error, true speakers given, %": "base, true speaker of every stream",
    }
    return [recordings(column, name, systems.get(row, OURS)) for name in metrics.get(row, ["DER, %"])]


# (page, name of the table, sources of the parts of a cell by row and column)
TABLES = [
    (MODEL, "EER, %", same(BASE, "EER, %")),
    (MODEL, "SI-SDR improvement, dB", same(BASE, "SI-SDRi, dB")),
    (MODEL, "diarization error, %", same(BASE, "DER, %")),
    (
        MODEL,
        "information on the speaker, nats of 3.56",
        lambda row, column: [Cell(BASE, "MI, nats", row, column)],
    ),
    (
        "table.md",
        "EER, %",
        same(SMALL, "EER, %", {"Resemblyzer (pretrained on thousands of other speakers)": "Resemblyzer"}),
    ),
    ("table.md", "One model, trained longer", small_dev),
    (MODEL, "With the high-pass", real_recordings),
    ("recordings.md", "How good it is", three_speakers),
    ("recordings.md", "Other conversations", other_conversations),
]


def eer(row: str, condition: str) -> Cell:
    return Cell(BASE, "EER, %" + SCOPE, row, condition)


def meeting(title: str, row: str = FULL, page: str = THREE, kind: str = "3 speakers, 20%") -> Cell:
    return Cell(page, title + SCOPE, row, kind)


def real(row: str, column: str) -> Cell:
    """Cell of the measurement before the high-pass; its only source is the page on the model."""
    return Cell(MODEL, "Before the high-pass", row, column)


def recordings(kind: str, metric: str, system: str = OURS) -> Cell:
    """Cell of the results on real recordings, of all of them or of one kind."""
    kinds = {"AMI meetings": "meeting"}
    page = REAL if system.startswith(OURS) else OTHERS
    return Cell(page, kinds.get(kind, kind), system, metric)


def versus(condition: str, system: str = "Resemblyzer") -> Ratio:
    return Ratio(eer(OURS, condition), eer(system, condition))


WINDOW_EER = "the same, with a high-pass, %"
EMBED_10_S = "embedding 10 s, every speaker: real-time factor"
N = r"([+-]?[\d.]+)"
CI = r"([+-]?[\d.]+ \([+-]?[\d.]+ to [+-]?[\d.]+\))"
THREE_SYSTEMS = rf"{N} % \(Resemblyzer {N} %, ECAPA-TDNN {N} %\)"

# (page, pattern with one group for each figure, their sources). A space also matches a line break.
CLAIMS: list[tuple[str, str, list[Source]]] = [
    (
        README,
        rf"EER, 2 s of one speaker \| {N} % \| within each recording {N} % \(CAM\+\+ {N} %,"
        rf" Resemblyzer {N} %\), all pairs {N} % \({N} %, {N} %\)",
        [
            meeting("window EER, %"),
            *(
                recordings("all recordings", metric, system)
                for metric in ("window EER, %", "window EER, all pairs, %")
                for system in (OURS, "Silero + CAM++", "Silero + Resemblyzer")
            ),
        ],
    ),
    (
        README,
        rf"EER, 4 s of one speaker \| {THREE_SYSTEMS}",
        [eer(system, "clean") for system in (OURS, "Resemblyzer", ECAPA)],
    ),
    (
        README,
        rf"equally loud second speaker \| {THREE_SYSTEMS}",
        [eer(system, "overlap0") for system in (OURS, "Resemblyzer", ECAPA)],
    ),
    (
        README,
        rf"diarization error \| {N} % \| AMI meetings {N} % \(senko {N} %\),"
        rf" joined clips {N} % \({N} %\), broadcast {N} % \({N} %\)",
        [
            meeting("DER, %"),
            *(
                recordings(kind, "DER, %", system)
                for kind in ("AMI meetings", "joined clips", "broadcast")
                for system in (OURS, "senko")
            ),
        ],
    ),
    (
        README,
        r"estimated correctly \| (\d+ of \d+) \| (\d+ of \d+)",
        [meeting("count right, %"), recordings("all recordings", "count right")],
    ),
    (README, rf"SI-SDR improvement per speaker \| {N} dB", [meeting("SI-SDRi, dB")]),
    (README, r"Simulated: (\d+) speakers", [Quote(BASE, r"split dev: (\d+) speakers")]),
    (README, r"trained on (\d+) speakers", [Quote(BASE, r"training data\*\*: (\d+) speakers")]),
    (
        QUESTIONS,
        rf"error is about {N} %, where simulated conversations have {N} %",
        [recordings("AMI meetings", "DER, %"), meeting("DER, %")],
    ),
    (
        QUESTIONS,
        rf"of 10 s takes {N} of the time",
        [Cell("benchmarks/embed.md", "promise", EMBED_10_S, "measured")],
    ),
    (QUESTIONS, r"no: (\d+) \|", [Quote(BASE, r"training data\*\*: (\d+) speakers")]),
    (MODEL, rf"overlap0`: 0.6 of Resemblyzer \| {N}", [versus("overlap0")]),
    (MODEL, rf"same speakers with overlap \| {N}", [versus("overlap0", ECAPA)]),
    (MODEL, rf"0.7 of Resemblyzer \| {N}, {N}", [versus("overlap+5"), versus("overlap-5")]),
    (MODEL, rf"0.8 of Resemblyzer \| {N}, {N}, {N}", [versus("noise5"), versus("room"), versus("mixed")]),
    (MODEL, rf"`clean`: 2 of Resemblyzer \| {N}", [versus("clean")]),
    (MODEL, rf"8 dB at `overlap0` \| {N}", [Cell(BASE, "SI-SDRi, dB" + SCOPE, OURS, "overlap0")]),
    (MODEL, rf"with noise \(`noisy0`\) \| {N}", [Cell(BASE, "SI-SDRi, dB" + SCOPE, OURS, "noisy0")]),
    (MODEL, rf"overlapped \(`half0`\) \| {N}", [Cell(BASE, "DER, %" + SCOPE, OURS, "half0")]),
    (MODEL, rf"diarization error {N} % at `noise5`", [Cell(BASE, "DER, %" + SCOPE, OURS, "noise5")]),
    (
        MODEL,
        rf"held chords all {N} s, of a plucked melody {N} s",
        [Cell(ROBUST, "noise", row, "-30") for row in ("music: held chords", "music: plucked melody")],
    ),
    (
        MODEL,
        rf"crying give {N} to {N} s",
        [Cell(ROBUST, "noise", row, "-30") for row in ("esc10-baby-cry", "esc10-rooster")],
    ),
    (
        MODEL,
        r"estimated correctly in (\d+ of \d+) recordings",
        [recordings("all recordings", "count right")],
    ),
    (
        SHIPPED,
        rf"clean {CI}, one equally loud speaker added {CI}, noise at 5 dB {CI}, room {CI}",
        [eer(OURS, condition) for condition in ("clean", "overlap0", "noise5", "room")],
    ),
    (
        SHIPPED,
        rf"same trials: {N}, {N}, {N}, {N}\.",
        [eer("Resemblyzer", condition) for condition in ("clean", "overlap0", "noise5", "room")],
    ),
    (SHIPPED, rf"improves by {N} dB", [Cell(BASE, "SI-SDRi, dB" + SCOPE, OURS, "overlap0")]),
    (
        SHIPPED,
        rf"diarization error is {N} % on nine half-minutes .* one speaker is {N} % \(CAM\+\+: {N} %\)",
        [
            recordings("AMI meetings", "DER, %"),
            real(WINDOW_EER, "AMI meetings"),
            real("the same, CAM++, %", "AMI meetings"),
        ],
    ),
    (
        "recordings.md",
        rf"{N} points of missed speech, {N} of false alarms and {N} of confusion",
        [meeting("missed, %"), meeting("false alarm, %"), meeting("confusion, %")],
    ),
    ("recordings.md", rf"number of speakers known it is {N} %", [meeting("DER, %", KNOWN)]),
    (
        "recordings.md",
        rf"it is {N} % \(11.6 to 15.5\), and {N} % with the number known",
        [meeting("DER, %", FULL, SEVEN), meeting("DER, %", KNOWN, SEVEN)],
    ),
    (
        "recordings.md",
        rf"correctly in (\d+ of \d+)\. .* improves by {N} dB .* embeddings is {N} %",
        [meeting(title, FULL, SEVEN) for title in ("count right, %", "SI-SDRi, dB", "EER, %")],
    ),
    *(
        (
            "recordings.md",
            rf"\| {words} \| {CI} \|",
            [meeting("DER difference, points", ALONE, page, kind)],
        )
        for words, page, kind in (
            ("none", OVERLAP, "3 speakers, 0%"),
            ("a fifth", THREE, "3 speakers, 20%"),
            ("a fifth, the ten others", SEVEN, "3 speakers, 20%"),
            ("two fifths", OVERLAP, "3 speakers, 40%"),
            ("three fifths", OVERLAP, "3 speakers, 60%"),
        )
    ),
    (
        "recordings.md",
        rf"{CI} points without overlap, {CI} at a fifth, {CI} at two fifths and {CI} at three fifths",
        [
            meeting("window EER difference, %", ALONE, page, kind)
            for page, kind in (
                (OVERLAP, "3 speakers, 0%"),
                (THREE, "3 speakers, 20%"),
                (OVERLAP, "3 speakers, 40%"),
                (OVERLAP, "3 speakers, 60%"),
            )
        ],
    ),
    (
        "recordings.md",
        rf"two minutes and {N} MiB",
        [Cell("benchmarks/recording.md", "promise", "4 hours: memory above the loaded model", "measured")],
    ),
    (
        "scale.md",
        rf"one process: {N} GiB, {N} s per step",
        [Quote("benchmarks/loss.md", rf"at most {N} GiB"), Quote("benchmarks/loss.md", rf"take {N} s")],
    ),
    (
        "scale.md",
        rf"listed in {N} s instead of {N}, .* drawn at {N} per second instead of {N}",
        [
            Cell("benchmarks/shards.md", "speech in", row, column)
            for column in ("listing", "mixtures drawn")
            for row in ("shards", "files")
        ],
    ),
]

# Numbers in the README and on the page of questions that are no results.
NOT_RESULTS = {
    README: (
        r"2 GB, a few minutes",
        r"less than 10 minutes",
        r"EER, \d s",
        r"only measured on 2 s",
        r"\d+ November(?: 2026)?",
        r"\d+ half-minutes",
        r"ICASSP 2021",
        r"arXiv 2103\.00816",
        r"Python 3\.11",
    ),
    QUESTIONS: (r"8 kHz, 44\.1 kHz", r"-60 dB", r"of 10 s", r"to 1e-4", r"November 2026"),
}


@pytest.mark.parametrize(("page", "name", "sources"), TABLES, ids=[f"{t[0]}: {t[1]}" for t in TABLES])
def test_a_table_equals_its_results(
    page: str, name: str, sources: Callable[[str, str], list[Source]]
) -> None:
    checked, wrong = 0, []
    for row, cells in tables(page)[name].items():
        for column, text in cells.items():
            if not text:
                continue
            parts = sources(row, column)
            claimed = text.split(", ") if len(parts) > 1 else [text]
            for part, source in zip(claimed, parts, strict=True):
                checked += 1
                if not agree(part, source.text()):
                    wrong.append(f"{row}, {column}: {part} is {source.text()} in {source}")
    assert checked and not wrong


@pytest.mark.parametrize(("page", "pattern", "sources"), CLAIMS, ids=[f"{c[0]}: {c[1]}" for c in CLAIMS])
def test_a_figure_in_a_sentence_equals_its_result(page: str, pattern: str, sources: list[Source]) -> None:
    for claimed, source in zip(search(page, pattern).groups(), sources, strict=True):
        slack = source.slack() if isinstance(source, Ratio) else 0.0
        assert agree(claimed, source.text(), slack), f"{claimed} is {source.text()} in {source}"


@pytest.mark.parametrize("page", NOT_RESULTS)
def test_every_number_of_the_page_has_a_source(page: str) -> None:
    text = re.sub(
        r"^```.*?^```|^    .*?$|`[^`]*`|\]\([^)]*\)", lambda m: " " * len(m[0]), read(page), flags=re.M | re.S
    )
    spans = []
    for pattern in [*NOT_RESULTS[page], *(claim[1] for claim in CLAIMS if claim[0] == page)]:
        spans += [m.span() for m in re.finditer(pattern.replace(" ", r"\s+"), read(page), re.DOTALL)]
    bare = [
        text[max(0, m.start() - 30) : m.end() + 10].replace("\n", " ")
        for m in NUMBER_PATTERN.finditer(text)
        if not any(start <= m.start() and m.end() <= end for start, end in spans)
    ]
    assert not bare


@pytest.mark.parametrize(
    ("claimed", "measured", "equal"),
    [
        ("33 %", "33.1", True),
        ("3.7", "3.7 (2.4 to 5.9)", True),
        ("3.7 (2.4 to 5.8)", "3.7 (2.4 to 5.9)", False),
        ("3.8", "3.7 (2.4 to 5.9)", False),
        ("8 of 10", "80.0 (50.0 to 100.0)", True),
        ("-0.1", "0.1", False),
        ("none", "0.1", False),
    ],
)
def test_figures_are_compared_to_the_precision_of_the_coarser_one(
    claimed: str, measured: str, equal: bool
) -> None:
    assert agree(claimed, measured) == equal
