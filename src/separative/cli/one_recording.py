"""Diarize one recording: find and name its speakers, and write all files of its results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from separative.cli.outputs import SOURCE, read_record, remove_stale_waveforms
from separative.cli.show import Bars

if TYPE_CHECKING:
    from separative.gallery import KnownSpeakers
    from separative.inference import Diarization
    from separative.inference.cuts import CutBy
    from separative.model import SeparativeEncoder

# The key of a record for files that belong to the recording, but were written by earlier calls, or not yet.
EARLIER = "earlier_files"
Item = TypeVar("Item")
UNKNOWN = re.compile(r"([0-9]+-)?speaker[0-9]+")
MOST_MATCHES = 10


@dataclass(frozen=True)
class DiarizeTarget:
    """A recording and where its results go: ``folder/stem.json`` and so on."""

    source: Path
    folder: Path
    stem: str


@dataclass(frozen=True)
class DiarizeJob:
    """What all recordings of a call share. ``settings`` are those that change the results, for JSON."""

    model: SeparativeEncoder
    settings: dict[str, Any]
    formats: tuple[str, ...]
    known: KnownSpeakers | None = None

    @property
    def run(self) -> dict[str, Any]:
        """Version, model and settings, as the record of a result holds them."""
        from separative import inference

        return inference.describe_run(self.model, self.settings)


@dataclass(frozen=True)
class DiarizeResult:
    """The record and the files of a recording; ``damage`` says why only its first part was processed."""

    record: dict[str, Any]
    paths: tuple[Path, ...]
    missing_speakers: int = 0
    damage: str = ""
    notes: tuple[str, ...] = ()


def process_recording(
    job: DiarizeJob, target: DiarizeTarget, claim: dict[str, str], bars: Bars, words: str = ""
) -> DiarizeResult:
    """Diarize a recording and write its results.

    Args:
        claim: from :func:`separative.cli.outputs.claim_outputs`.
        bars: where to show the progress; ``words`` come before what is done.
    """
    from separative import inference
    from separative.files import write_json
    from separative.inference.formats import TurnTable, write_turns
    from separative.inference.separated import write_waves
    from separative.inference.timeline import write_picture, write_timeline

    source, out, stem = target.source, target.folder, target.stem
    settings, each = job.settings, job.settings["channels"] == "each"
    # Windows that were processed before an interruption; removed when the recording is done.
    kept = out / f".{stem}.npz"
    options = {
        **{name: settings[name] for name in ("speakers", "min_speakers", "max_speakers")},
        "cache": kept,
        "progress": bars.minutes(f"{words}processing", job.model.rate),
    }
    found: tuple[Diarization, ...]
    if each:
        found = inference.diarize_channels(job.model, source, **options)
    else:
        found = (inference.diarize(job.model, source, channels=settings["channels"], **options),)
    identities: list[dict[str, Any]] = []
    notes: list[str] = []
    if job.known is not None:
        found, identities, notes = _name(job.known, found, stem, enrol=settings["enrol_unknown"])
    record = inference.describe_channels(found) if each else inference.describe_diarization(found[0])
    notes += [f"unlike the recordings of the training: {sentence}" for sentence in record["unlike_training"]]
    for entry, identity in zip(record["speakers"], identities, strict=job.known is not None):
        entry |= identity
    damage = found[0].damage
    record |= job.run | {SOURCE: claim} | ({"damage": damage} if damage else {})
    earlier = _earlier_files(target, claim)
    waveforms = _waveform_paths(target, record["speakers"], earlier) if settings["voices"] else []
    # The record comes first: it tells a later call that the other files are of this recording, also after an
    # interruption. The turns come before the separation, which takes longer.
    write_json(out / f"{stem}.json", record | {EARLIER: sorted(earlier | {p.name for p in waveforms})})
    table = TurnTable(
        stem,
        found[0].seconds,
        tuple(sorted((turn for meeting in found for turn in meeting.turns), key=lambda turn: turn.start)),
        tuple(inference.exclusive_turns(*found)),
        source,
        {speaker["name"]: speaker.get("channel", 1) for speaker in record["speakers"]},
    )
    paths = [*write_turns(table, out, stem, job.formats), out / f"{stem}.json"]
    paths.append(write_picture(out / f"{stem}.png", record))
    if settings["voices"]:
        for meeting, own in _by_channel(found, waveforms):
            report = bars.count(f"{words}separating")
            how = {key: settings[key] for key in ("active_only", "original_rate")}
            write_waves(job.model, meeting, own, **how, progress=report)
        for entry, path in zip(record["speakers"], waveforms, strict=True):
            entry["waveform"] = path.name
        paths += waveforms
        if not damage:
            paths.append(write_timeline(out / f"{stem}.html", record, source, waveforms))
    if settings["cut"] is not None:
        paths += _write_cuts(target, found, waveforms, settings["cut"])
    if settings["voices"] or settings["cut"] is not None:
        remove_stale_waveforms(out, stem, paths)
        # Waveforms of speakers who had another name.
        for name in earlier - {path.name for path in paths}:
            if name.endswith(".wav"):
                (out / name).unlink(missing_ok=True)
    files = [path.name for path in paths]
    left = sorted(name for name in earlier.difference(files) if (out / name).is_file())
    record |= {"files": files} | ({EARLIER: left} if left else {})
    write_json(out / f"{stem}.json", record)
    for path in (kept, *(inference.channel_cache(kept, c) for c in range(found[0].channels))):
        path.unlink(missing_ok=True)
    return DiarizeResult(
        record, tuple(paths), sum(meeting.missing_speakers for meeting in found), damage, tuple(notes)
    )


def finished_result(job: DiarizeJob, target: DiarizeTarget, claim: dict[str, str]) -> DiarizeResult | None:
    """The result of an earlier call, if the recording, the model, the settings and the names are the same."""
    import numpy as np

    record: dict[str, Any] = read_record(target.folder / f"{target.stem}.json") or {}
    try:
        paths = [target.folder / str(name) for name in record["files"]]
        same = record[SOURCE] == claim and {key: record[key] for key in job.run} == job.run
        if not same or not all(path.is_file() for path in paths):
            return None
        if job.known is not None:
            speakers = record["speakers"]
            embeddings = [np.asarray(speaker["embedding"], np.float32) for speaker in speakers]
            found = job.known.identify(embeddings, [float(one["speech_seconds"]) for one in speakers])
            if [who.name for who in found] != [speaker["identity"]["name"] for speaker in speakers]:
                return None
    except (KeyError, TypeError, ValueError):
        # The record was edited.
        return None
    return DiarizeResult(record, tuple(paths), damage=str(record.get("damage", "")))


def _name(
    known: KnownSpeakers, found: Sequence[Diarization], stem: str, *, enrol: bool
) -> tuple[tuple[Diarization, ...], list[dict[str, Any]], list[str]]:
    """Name the speakers; returns the diarizations, keys for the record of each speaker, and notes."""
    from separative.inference.identities import describe_identity, rename_speakers, speaker_labels

    identities = known.identify_in(*found)
    names: list[str | None] = []
    notes: list[str] = []
    for meeting, own in _by_channel(found, identities):
        own_names = [one.name for one in own]
        for number, (new, quality) in known.enrol_unknown(meeting, own, stem).items() if enrol else ():
            own_names[number] = new
            notes.append(f"enrolled {new} ({quality.speech_seconds:.1f} s of speech)")
            notes += quality.warnings
        names += own_names
    labels = [speaker.name for meeting in found for speaker in meeting.speakers]
    shown = speaker_labels(labels, names)
    records = []
    for label, who, name in zip(labels, identities, names, strict=True):
        record = describe_identity(label, who)
        record["identity"] |= {"name": name, "enrolled_now": name is not None and who.name is None}
        records.append(record | {"matches": record["matches"][:MOST_MATCHES]})
    renamed = tuple(rename_speakers(meeting, own) for meeting, own in _by_channel(found, shown))
    return renamed, records, notes


def _by_channel(
    found: Sequence[Diarization], items: Sequence[Item]
) -> Iterator[tuple[Diarization, list[Item]]]:
    """Each diarization with the items of its speakers, from one item for each speaker of all."""
    remaining = iter(items)
    for meeting in found:
        yield meeting, list(islice(remaining, len(meeting.speakers)))


def _write_cuts(
    target: DiarizeTarget, found: Sequence[Diarization], waveforms: Sequence[Path], by: CutBy
) -> list[Path]:
    """Write the turns of each speaker: from the separated waveforms, or from the recording without these."""
    from separative.inference.cuts import write_cuts
    from separative.inference.identities import file_parts

    speakers = [speaker for meeting in found for speaker in meeting.speakers]
    parts = [path.stem.removeprefix(f"{target.stem}-") for path in waveforms]
    return write_cuts(
        speakers,
        waveforms or [target.source] * len(speakers),
        target.folder,
        target.stem,
        by=by,
        parts=parts or file_parts([speaker.name for speaker in speakers]),
    )


def _earlier_files(target: DiarizeTarget, claim: dict[str, str]) -> set[str]:
    """Names of the files of an earlier call for the same recording."""
    record = read_record(target.folder / f"{target.stem}.json") or {}
    files = [record.get(key) for key in ("files", EARLIER)] if record.get(SOURCE) == claim else []
    return {Path(str(name)).name for names in files if isinstance(names, list) for name in names}


def _waveform_paths(target: DiarizeTarget, speakers: list[dict[str, Any]], earlier: set[str]) -> list[Path]:
    """Files for the waveforms of speakers; a name never replaces a file that is not of an earlier call."""
    from separative.inference.identities import file_parts

    # A speaker who was enrolled from this recording has its name in front already.
    names = [speaker["name"].removeprefix(f"{target.stem}-") for speaker in speakers]
    start, end = f"{target.stem}-", ".wav"
    others = {path.name for path in target.folder.glob("*.wav")} - earlier if target.folder.is_dir() else ()
    taken = [name[len(start) : -len(end)] for name in others if name.startswith(start)]
    # Files with the labels of unknown speakers belong to this recording (`claim_outputs`).
    taken = [part for part in taken if not UNKNOWN.fullmatch(part)]
    return [target.folder / f"{start}{part}{end}" for part in file_parts(names, taken)]
