"""Is a recording good enough to enrol a speaker with? If not, why not."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError, GalleryError
from separative.gallery.store import EnrolledRecording
from separative.inference import Audio, Diarization, diarize
from separative.inference.cluster import mean_embedding
from separative.inference.windows import gather
from separative.rttm import Turn
from separative.types import Floats

if TYPE_CHECKING:
    from separative.inference import Diarization
    from separative.model import SeparativeEncoder


LEAST_SECONDS = 2.0
MOST_OTHERS = 0.2
MOST_CLIPPED = 0.001
FULL_SCALE = 0.999


@dataclass(frozen=True)
class Gate:
    """What was measured of an enrolment: ``seconds`` of the speaker's speech, share of it in which ``others``
    speak too, share of samples at full scale; and the ``reasons`` why it is not good enough, if any."""

    seconds: float
    others: float
    clipped: float

    @property
    def reasons(self) -> tuple[str, ...]:
        found = []
        if self.seconds < LEAST_SECONDS:
            found.append(f"{self.seconds:.1f} s of speech, {LEAST_SECONDS:g} are needed")
        if self.others > MOST_OTHERS:
            found.append(f"others speak as long as {self.others:.0%} of it, {MOST_OTHERS:.0%} are allowed")
        if self.clipped > MOST_CLIPPED:
            found.append(f"{self.clipped:.1%} of the samples are clipped, {MOST_CLIPPED:.1%} are allowed")
        return tuple(found)


def judge(meeting: Diarization, speaker: int, *, alone: bool) -> Gate:
    """Measure one speaker of a recording.

    ``alone``: the recording should be of this speaker only, so that any speech of others counts; otherwise
    only what overlaps.
    """
    own = meeting.speakers[speaker].turns
    seconds = sum(turn.end - turn.start for turn in own)
    others = [t for number, s in enumerate(meeting.speakers) if number != speaker for t in s.turns]
    spoken = sum(t.end - t.start for t in others) if alone else shared_seconds(own, others)
    share = spoken / max(seconds, 1e-9)
    return Gate(seconds, share if alone else min(1.0, share), _clipped(meeting))


def shared_seconds(own: tuple[Turn, ...], others: list[Turn]) -> float:
    """Seconds of ``own`` turns in which any of the others' is running."""
    covered = 0.0
    for turn in own:
        pieces = sorted(
            (max(turn.start, o.start), min(turn.end, o.end))
            for o in others
            if o.start < turn.end and o.end > turn.start
        )
        reached = turn.start
        for start, end in pieces:
            covered += max(0.0, end - max(start, reached))
            reached = max(reached, end)
    return covered


def _clipped(meeting: Diarization) -> float:
    """Share of samples at full scale in any channel that was heard, where it is held for two or more."""
    blocks: Iterable[NDArray[np.float32]]
    if isinstance(meeting.source, tuple):
        blocks = [meeting.source[0]]
    else:
        blocks = audio.stream(meeting.source, channels="each")
    clipped = total = 0
    # Of a damaged file, what can be read: it was heard no further.
    with suppress(AudioError):
        for block in blocks:
            full_CN = np.abs(np.atleast_2d(block)) >= FULL_SCALE
            heard_CN = full_CN[:1] if meeting.channel_policy == "first" else full_CN
            clipped += int((heard_CN[:, 1:] & heard_CN[:, :-1]).any(0).sum())
            total += heard_CN.shape[1]
    return clipped / max(total, 1)


# Segments of a recording that are kept for the cross-attention, evenly of those that are speech.
MEMORY = 64


def heard_of(meeting: Diarization, speaker: int, mark: str, sound: bytes | None) -> EnrolledRecording:
    """What a recording says of one of its speakers."""
    views, whose_WC = meeting.views, meeting.label_WC == speaker
    speech_WC = (views.activity_WCS > 0.5).sum(-1).astype(np.float32)
    if len(meeting.speakers) > 1:
        # The memory would be the others' too.
        query_E, some = meeting.speakers[speaker].embedding_E, np.zeros(0, np.int64)
    else:
        query_E = mean_embedding(views.query_WCE[whose_WC], speech_WC[whose_WC])
        best = np.argsort(-views.memory_activity_M, kind="stable")
        best = best[views.memory_activity_M[best] > 0]
        some = np.sort(best[np.linspace(0, len(best) - 1, min(MEMORY, len(best))).astype(int)])
    return EnrolledRecording(
        Path(meeting.name).name,
        mark,
        meeting.speakers[speaker].speech_seconds,
        query_E,
        views.memory_ME[some],
        views.memory_activity_M[some],
        sound,
    )


def embedding(model: SeparativeEncoder, views: Sequence[EnrolledRecording]) -> Floats:
    """What the queries of all recordings become when each gathers from all of them (method, section 3)."""
    memory_ME = np.concatenate([view.memory_ME for view in views])
    logit_M = np.concatenate([view.logit_M for view in views])
    attended_VE = gather(model, np.stack([view.query_E for view in views]), memory_ME, logit_M)
    return mean_embedding(attended_VE, np.array([view.seconds for view in views], np.float32))


def heard_again(model: SeparativeEncoder, heard: EnrolledRecording) -> EnrolledRecording:
    """The same recording, whose sound was kept, as another model hears it.

    Raises:
        GalleryError: it hears nobody there.
    """
    assert heard.sound is not None
    with tempfile.TemporaryDirectory() as beside:
        # A label may be no file's name.
        path = Path(beside) / "sound"
        path.write_bytes(heard.sound)
        meeting = replace(diarize(model, path), name=heard.source)
    if not meeting.speakers:
        raise GalleryError(f"{heard.source}: nobody is heard in it by the other model")
    return heard_of(meeting, 0, heard.hash, heard.sound)


def sound_of(source: Audio) -> bytes:
    """A sound file as it is, or a waveform as FLAC.

    Raises:
        AudioError: a waveform that FLAC does not hold, of over eight channels say.
    """
    if not isinstance(source, tuple):
        return audio.file_bytes(Path(source))
    buffer, (wave, rate) = io.BytesIO(), source
    try:
        soundfile.write(buffer, np.asarray(wave).T, rate, format="FLAC")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the waveform cannot be kept ({error.error_string})") from error
    return buffer.getvalue()


def packed(heard: EnrolledRecording) -> dict[str, Any]:
    """For JSON."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "source": heard.source,
        "hash": heard.hash,
        "seconds": heard.seconds,
        "query": text(heard.query_E.astype(np.float32).tobytes()),
        "memory": text(heard.memory_ME.astype(np.float16).tobytes()),
        "logit": text(heard.logit_M.astype(np.float16).tobytes()),
        "sound": None if heard.sound is None else text(heard.sound),
    }


def unpacked(record: dict[str, Any]) -> EnrolledRecording:
    """The reverse; KeyError, TypeError or ValueError for another record."""
    query_E = np.frombuffer(base64.b64decode(record["query"]), np.float32)
    memory = np.frombuffer(base64.b64decode(record["memory"]), np.float16)
    return EnrolledRecording(
        str(record["source"]),
        str(record["hash"]),
        float(record["seconds"]),
        query_E,
        memory.reshape(-1, len(query_E)).astype(np.float32),
        np.frombuffer(base64.b64decode(record["logit"]), np.float16).astype(np.float32),
        None if record["sound"] is None else base64.b64decode(record["sound"]),
    )
