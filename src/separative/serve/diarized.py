"""A diarized recording on the server: its corrections, names, waveforms, transcript and files of turns."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from separative import audio, inference
from separative.files import write_json
from separative.gallery import Gallery, Identification
from separative.inference import Diarization
from separative.inference.formats import FORMATS, TurnTable, write_turns
from separative.inference.identities import name_speakers, rename_speakers
from separative.inference.timeline import MAX_PEAKS, MIN_PEAKS, PEAKS_PER_SECOND, wave_peaks
from separative.inference.transcript import TranscriptSegment, add_speakers
from separative.inference.transcript_files import describe_segment, read_transcript, write_transcript
from separative.serve.corrections import Corrections, correct, gain, sources
from separative.serve.guard import RefusedError
from separative.serve.requests import CorrectIn
from separative.serve.results import DiarizeOut, IdentityOut, PeaksOut, SegmentOut, SpeakerOut
from separative.types import Wave

# Candidates for each speaker, and the probability from which on a speaker gets the name of the best one.
CANDIDATES, SURE = 3, 0.8
# Seconds of audio that are decoded at once.
BLOCK_SECONDS = 20.0

MIXTURE_FILE, SEPARATED = "mixture.wav", "separated"
TURN_FORMATS, TRANSCRIPT_FORMATS = (*FORMATS, "json"), ("json", "srt", "txt", "vtt")


class DiarizedRecording:
    """A diarized recording in the folder of a job, with the corrections that were made to it.

    Args:
        folder: holds ``mixture.wav`` and the waveforms of the speakers.
        label: name of the recording for people.
        diarization: the speakers and turns that were found.
        prior: probability that a speaker is enrolled.

    >>> from separative import diarize, load_model
    >>> from separative.inference import write_speakers
    >>> model = load_model()
    >>> meeting = diarize(model, "meeting.wav", speakers=2)
    >>> paths = write_speakers(model, meeting, "job", SEPARATED)
    >>> audio.write("job/mixture.wav", *audio.read("meeting.wav"))
    >>> with Gallery("gallery", model) as gallery:
    ...     recording = DiarizedRecording(Path("job"), "meeting.wav", gallery, meeting, 0.5)
    ...     merge = CorrectIn(action="merge", revision=0, speaker=2, to=1)
    ...     recording.out().corrections, len(recording.edit(merge).speakers)
    (0, 1)
    """

    def __init__(
        self, folder: Path, label: str, gallery: Gallery, diarization: Diarization, prior: float
    ) -> None:
        self.folder, self.label, self.gallery, self.prior = folder, label, gallery, prior
        self.found = diarization
        self.revision = 0
        self._history = [Corrections.of(diarization)]
        self._transcript: list[TranscriptSegment] | None = None
        self._placed: list[TranscriptSegment] | None = None
        self._peaks: dict[Path, list[float]] = {}
        self._lock = Lock()
        self._update()

    @property
    def corrections(self) -> Corrections:
        """The present corrections."""
        return self._history[-1]

    def edit(self, request: CorrectIn) -> DiarizeOut:
        """Make a correction, or take back the last one.

        Raises:
            RefusedError: the result was changed in the meantime, or there is nothing to undo (status 409).
            SeparativeError: there is no such speaker or turn.
        """
        with self._lock:
            if request.revision != self.revision:
                raise RefusedError(409, "the result was changed in another window; reload the page")
            before = self._history
            if request.action != "undo":
                self._history = [*before, _corrected(self.corrections, request)]
            elif len(before) > 1:
                self._history = before[:-1]
            else:
                raise RefusedError(409, "there is no correction to undo")
            try:
                self._update()
            except BaseException:
                self._history = before
                raise
            self.revision += 1
            return self._out()

    def identify_again(self) -> DiarizeOut:
        """Identify the speakers again, after the gallery has changed."""
        with self._lock:
            before = self._names(), self._identities
            self._update()
            self.revision += (self._names(), self._identities) != before
            return self._out()

    def add_transcript(self, path: Path) -> DiarizeOut:
        """Read a transcript, to which the speakers are added.

        Raises:
            SeparativeError: the file is no transcript, or has no times.
        """
        segments = read_transcript(path)
        with self._lock:
            self._transcript = segments
            self._place_transcript()
            self.revision += 1
            return self._out()

    def out(self) -> DiarizeOut:
        """The present result."""
        with self._lock:
            return self._out()

    def place(self, number: int) -> int:
        """Index of a speaker in ``diarization.speakers``, by number.

        Raises:
            RefusedError: there is no such speaker (status 404).
        """
        if not self.corrections.speakers:
            raise RefusedError(404, "no speech was found in the recording, so it has no speaker")
        if number - 1 not in self.corrections.speakers:
            raise RefusedError(
                404, f"no speaker {number}; the recording has {len(self.corrections.speakers)} speakers"
            )
        return self.corrections.speakers.index(number - 1)

    def waveform(self, number: int) -> Path:
        """File with the waveform of a speaker, by number; 0 is the mixture."""
        if number == 0:
            return self.folder / MIXTURE_FILE
        self.place(number)
        return self._files[number - 1]

    def peaks(self, number: int, start: float, end: float, count: int) -> PeaksOut:
        """About ``count`` peaks of a waveform from ``start`` to ``end`` in seconds."""
        path = self.waveform(number)
        header = audio.info(path)
        first = min(max(0, int(start * header.rate)), header.frames - 1)
        frames = min(max(1, int(end * header.rate) - first), header.frames - first)
        size = -(-frames // count)
        # Intervals of equal length begin at multiples of it, so that neighbouring parts fit together.
        first -= first % size
        frames = min(-(-(frames + size) // size) * size, header.frames - first)
        peaks: list[Wave] = []
        step = max(1, round(BLOCK_SECONDS * header.rate) // size) * size
        for begin in range(first, first + frames, step):
            length = min(step, first + frames - begin)
            # Half a sample more, because times are rounded down to samples.
            wave_N, _ = audio.read(path, start=(begin + 0.5) / header.rate, seconds=length / header.rate)
            peaks.append(wave_peaks(wave_N, size))
        values = np.concatenate(peaks)
        return PeaksOut(
            start=first / header.rate,
            end=(first + len(values) * size) / header.rate,
            peaks=[round(float(peak), 4) for peak in values],
        )

    def turns_file(self, name: str) -> tuple[str, bytes]:
        """End of the file name, and content, of the turns in a format of TURN_FORMATS."""
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            if name == "json":
                path = Path(temporary) / "turns.json"
                write_json(path, self._record())
                return ".json", path.read_bytes()
            diarization = self.diarization
            table = TurnTable(
                Path(self.label).stem,
                diarization.seconds,
                tuple(diarization.turns),
                tuple(inference.exclusive_turns(diarization)),
            )
            (path,) = write_turns(table, temporary, "turns", [name])
            return path.name.removeprefix("turns"), path.read_bytes()

    def transcript_file(self, name: str) -> bytes:
        """The transcript with speakers, in a format of TRANSCRIPT_FORMATS.

        Raises:
            RefusedError: there is no transcript (status 404).
        """
        segments = self._placed
        if segments is None:
            raise RefusedError(404, "no transcript was added to the recording; add one first")
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            return write_transcript(segments, Path(temporary) / f"transcript.{name}").read_bytes()

    def _update(self) -> None:
        """Compute everything that follows from the corrections."""
        corrections = self.corrections
        corrected = correct(self.gallery.model, self.found, corrections)
        files = {number: self._waveform_file(number) for number in corrections.speakers}
        alone = [
            self.gallery.identify_speaker(speaker, count=CANDIDATES, prior=self.prior)
            for speaker in corrected.speakers
        ]
        given = [corrections.names[k] for k in corrections.speakers]
        # A person is one speaker: the one with the name that a person gave, or the most probable one.
        self._identities = name_speakers(self.gallery.model, alone, max(1, len(self.gallery)), self.prior)
        identified = [sure_name(identity, given) for identity in self._identities]
        names = [
            one or other or speaker.name
            for one, other, speaker in zip(given, identified, corrected.speakers, strict=True)
        ]
        self._named: list[Literal["given", "identified", ""]] = [
            "given" if one else "identified" if other else ""
            for one, other in zip(given, identified, strict=True)
        ]
        self.diarization = replace(rename_speakers(corrected, names), name=self.label)
        self._files = files
        self._place_transcript()
        for path in self.folder.glob("corrected-*.wav"):
            if path not in files.values():
                path.unlink(missing_ok=True)
                self._peaks.pop(path, None)

    def _names(self) -> list[str]:
        return [speaker.name for speaker in self.diarization.speakers]

    def _waveform_file(self, speaker: int) -> Path:
        """File with the waveform of a speaker, from 0; it is written if it does not exist."""
        parts = {
            found: gain(self.corrections, found, speaker) for found in sources(self.corrections, speaker)
        }
        whole = {found for found, (_, value) in parts.items() if value.min() == 1}
        if whole == set(parts) == {speaker}:
            return self.folder / f"{SEPARATED}-speaker{speaker + 1}.wav"
        key = hashlib.sha256()
        for found, (times, values) in parts.items():
            key.update(np.array([found, *times, *values]).tobytes())
        path = self.folder / f"corrected-{key.hexdigest()[:16]}.wav"
        if not path.is_file():
            files = [self.folder / f"{SEPARATED}-speaker{found + 1}.wav" for found in parts]
            streams = [audio.stream(file, seconds=BLOCK_SECONDS) for file in files]
            with audio.writer(path, self.found.rate) as write:
                start = 0
                for blocks in zip(*streams, strict=True):
                    time_N = (start + np.arange(len(blocks[0]))) / self.found.rate
                    gained = [
                        block_N * np.interp(time_N, *part).astype(np.float32)
                        for block_N, part in zip(blocks, parts.values(), strict=True)
                    ]
                    write(np.clip(np.sum(gained, axis=0), -1, 1))
                    start += len(blocks[0])
        return path

    def _out(self) -> DiarizeOut:
        diarization, segments = self.diarization, self._placed
        return DiarizeOut(
            recording=self.label,
            seconds=diarization.seconds,
            rate=diarization.rate,
            channels=diarization.channels,
            damage=diarization.damage.replace(str(self.found.source), self.label),
            asked=diarization.asked_speakers,
            unlike_training=list(diarization.unlike_training),
            peaks=self._file_peaks(self.folder / MIXTURE_FILE),
            speakers=[
                SpeakerOut(
                    number=number + 1,
                    name=speaker.name,
                    named=named,
                    speech_seconds=speaker.speech_seconds,
                    turns=[(turn.start, turn.end) for turn in speaker.turns],
                    confidence=[turn.confidence for turn in speaker.turns],
                    identity=IdentityOut(**asdict(identity)),
                    audio=path.stem,
                    peaks=self._file_peaks(path),
                )
                for number, speaker, named, identity, path in zip(
                    self.corrections.speakers,
                    diarization.speakers,
                    self._named,
                    self._identities,
                    self._files.values(),
                    strict=True,
                )
            ],
            revision=self.revision,
            corrections=len(self._history) - 1,
            transcript=None
            if segments is None
            else [SegmentOut(start=s.start, end=s.end, text=s.text, speaker=s.speaker) for s in segments],
        )

    def _place_transcript(self) -> None:
        """Give the words of the transcript to the present speakers."""
        if self._transcript is None:
            return
        diarization = self.diarization
        self._placed = add_speakers(
            self._transcript,
            diarization.turns,
            exclusive=inference.exclusive_turns(diarization),
            seconds=diarization.seconds,
        )

    def _record(self) -> dict[str, Any]:
        record = inference.describe_diarization(self.diarization)
        numbers, identities = self.corrections.speakers, self._identities
        for speaker, number, identity in zip(record["speakers"], numbers, identities, strict=True):
            speaker["number"] = number + 1
            speaker["identity"] = asdict(identity)
        record["corrections"] = len(self._history) - 1
        if self._placed is not None:
            record["transcript"] = [describe_segment(segment) for segment in self._placed]
        return record

    def _file_peaks(self, path: Path) -> list[float]:
        if path not in self._peaks:
            self._peaks[path] = waveform_peaks(path)
        return self._peaks[path]


def sure_name(identity: Identification, taken: Collection[str]) -> str:
    """Name of a speaker that was identified with a probability of SURE; empty otherwise.

    Args:
        taken: names that a person gave to speakers.

    >>> from separative.inference.verify import Candidate
    >>> ann = [Identification("ann", 1 - p, (Candidate("ann", 0.8, 3.0, p),)) for p in (0.9, 0.6)]
    >>> sure_name(ann[0], ()), sure_name(ann[0], ("ann",)), sure_name(ann[1], ())
    ('ann', '', '')
    """
    probability = identity.probability
    if identity.name is None or identity.name in taken or probability is None:
        return ""
    return identity.name if probability >= SURE else ""


def waveform_peaks(path: Path) -> list[float]:
    """Peak magnitudes of an audio file in intervals of equal length, enough of them to zoom in.

    >>> len(waveform_peaks(Path("ann.wav"))) <= MIN_PEAKS
    True
    """
    header = audio.info(path)
    count = min(max(MIN_PEAKS, round(PEAKS_PER_SECOND * header.seconds)), MAX_PEAKS)
    size = max(1, -(-header.frames // count))
    peaks: list[Wave] = []
    for block_N in audio.stream(path, seconds=size * 64 / header.rate):
        peaks.append(wave_peaks(block_N, size))
    return [round(float(peak), 4) for peak in np.concatenate(peaks)]


def _corrected(corrections: Corrections, request: CorrectIn) -> Corrections:
    """The corrections with one more. Numbers count from 1 in requests."""
    assert request.speaker is not None
    speaker, to = request.speaker - 1, None if request.to is None else request.to - 1
    if request.action == "rename":
        return corrections.rename(speaker, request.name or "")
    if request.action == "merge":
        assert to is not None
        return corrections.merge(speaker, to)
    assert request.turn is not None
    if request.action == "assign":
        return corrections.assign(speaker, request.turn - 1, to)
    assert request.at is not None
    return corrections.split(speaker, request.turn - 1, request.at)
