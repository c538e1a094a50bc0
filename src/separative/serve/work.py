"""What the jobs do: the verbs of the command line, with links to uploads for files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative import audio, inference
from separative.files import write_json
from separative.gallery import Gallery, Identification
from separative.inference.output import describe
from separative.inference.recording import Blocks
from separative.rttm import write_rttm
from separative.serve import schemas
from separative.serve.jobs import Job

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder
    from separative.serve.jobs import Service

# Of an outline: so many a second, within bounds.
PEAKS_A_SECOND, PEAKS = 20, (1600, 8000)
CANDIDATES = 3

MIXTURE, RTTM, RECORD = "mixture.wav", "meeting.rttm", "meeting.json"


def diarize(job: Job, service: Service, asked: schemas.Diarize) -> schemas.DiarizeOut:
    """Who spoke when, whom the gallery knows of them, the mixture and every voice as files."""
    gallery, source = service.gallery, job.sources[0]
    model = gallery.model
    meeting = inference.diarize(
        model,
        source,
        speakers=asked.speakers,
        channels=asked.channels,
        progress=job.report("listening", 0.0, 0.5),
    )
    # The mixture and every voice, of 16 bits.
    service.recordings.room(round(2 * meeting.seconds * meeting.rate) * (1 + len(meeting.speakers)))
    voices = inference.write_voices(
        model,
        meeting,
        job.folder,
        "voice",
        active_only=asked.active_only,
        progress=job.report("separating", 0.5, 0.95),
    )
    job.report("drawing")
    write_mixture(job, meeting, job.folder / MIXTURE)
    meeting = replace(meeting, name=job.labels[0])
    who = [
        gallery.identify_speaker(speaker, count=CANDIDATES, prior=asked.prior) for speaker in meeting.speakers
    ]
    record = inference.describe_diarization(meeting)
    for speaker, found in zip(record["speakers"], who, strict=True):
        speaker["identity"] = asdict(found)
    write_json(job.folder / RECORD, record)
    write_rttm(job.folder / RTTM, Path(meeting.name).stem, meeting.turns)
    job.meeting = meeting
    return schemas.DiarizeOut(
        recording=meeting.name,
        seconds=meeting.seconds,
        rate=meeting.rate,
        channels=meeting.channels,
        damage=job.plain(meeting.damage),
        peaks=outline(job, job.folder / MIXTURE),
        speakers=[
            schemas.SpeakerOut(
                name=speaker.name,
                speech_seconds=speaker.speech_seconds,
                turns=[(turn.start, turn.end) for turn in speaker.turns],
                identity=identity(found),
                peaks=outline(job, voice),
            )
            for speaker, found, voice in zip(meeting.speakers, who, voices, strict=True)
        ],
    )


def separate(job: Job, model: SeparativeEncoder, asked: schemas.One) -> schemas.StreamsOut:
    """Every audible stream, and its waveform as a file."""
    job.report("separating")
    recording = inference.separate(model, job.sources[0], channels=asked.channels)
    inference.write_waveforms(recording, job.folder, "voice")
    return schemas.StreamsOut(**describe(replace(recording, name=job.labels[0])))


def embed(job: Job, model: SeparativeEncoder, asked: schemas.One) -> schemas.StreamsOut:
    """Every audible stream with its embedding."""
    job.report("listening")
    recording = inference.embed(model, job.sources[0], channels=asked.channels)
    return schemas.StreamsOut(**describe(replace(recording, name=job.labels[0]), embeddings=True))


def verify(job: Job, model: SeparativeEncoder, asked: schemas.Verify) -> schemas.VerifyOut:
    """Is a speaker heard on both sides?"""
    job.report("comparing")
    left, right = job.sources[: len(asked.left)], job.sources[len(asked.left) :]
    found = inference.verify(model, left, right, prior=asked.prior, channels=asked.channels)
    return schemas.VerifyOut(**asdict(found))


def add(job: Job, gallery: Gallery, asked: schemas.Add) -> schemas.AddOut:
    """Enrol a speaker with recordings of theirs alone."""
    gates, views = [], []
    for number, (source, label) in enumerate(zip(job.sources, job.labels, strict=True)):
        share = 1 / len(job.sources)
        gate, heard = gallery.hear(
            source,
            keep_sound=asked.keep_sound,
            force=asked.force,
            label=label,
            progress=job.report("listening", number * share, (number + 1) * share),
        )
        gates.append(schemas.GateOut(**asdict(gate)))
        views.append(heard)
    # With all of them or none: whoever is refused one may try again.
    job.check()
    gallery.enrol(asked.name, views, asked.metadata)
    return schemas.AddOut(name=asked.name, recordings=gates)


def find(job: Job, gallery: Gallery, asked: schemas.Find) -> schemas.FindOut:
    """Whose voices are in a recording."""
    meeting = inference.diarize(gallery.model, job.sources[0], progress=job.report("listening"))
    found = [
        schemas.FoundOut(
            speaker=speaker.name,
            speech_seconds=speaker.speech_seconds,
            identity=identity(gallery.identify_speaker(speaker, count=asked.count, prior=asked.prior)),
        )
        for speaker in meeting.speakers
    ]
    return schemas.FindOut(recording=job.labels[0], speakers=found)


def identity(found: Identification) -> schemas.IdentityOut:
    return schemas.IdentityOut(**asdict(found))


def write_mixture(job: Job, meeting: inference.Diarization, path: Path) -> None:
    """What was listened to, as far as it can be decoded: as long as the voices, and in step with them."""
    blocks = Blocks(meeting.source, meeting.rate, meeting.channel_policy)
    with audio.writing(path, meeting.rate) as put:
        for block_N in blocks:
            job.check()
            put(block_N)


def outline(job: Job, path: Path) -> list[float]:
    """The largest magnitudes of a sound file in stretches of equal length, fine enough to look closely."""
    header = audio.info(path)
    wanted = min(max(PEAKS[0], round(PEAKS_A_SECOND * header.seconds)), PEAKS[1])
    size = max(1, -(-header.frames // wanted))
    peaks: list[NDArray[np.float32]] = []
    for block_N in audio.stream(path, seconds=size * 64 / header.rate):
        job.check()
        peaks.append(np.abs(np.pad(block_N, (0, -len(block_N) % size))).reshape(-1, size).max(1))
    return [round(float(peak), 4) for peak in np.concatenate(peaks)]
