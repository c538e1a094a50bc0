"""Enrolment: quality checks of a recording, and what a gallery stores of it."""

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

from separative import audio
from separative.errors import AudioError, GalleryError
from separative.gallery.store import EnrolledRecording
from separative.inference import Audio, Diarization, diarize
from separative.inference.cluster import mean_embedding
from separative.inference.windows import attend_memory
from separative.rttm import Turn
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# Limits for enrolment.
MIN_ENROLMENT_SECONDS = 2.0
MAX_OTHER_SPEECH = 0.2
MAX_CLIPPED = 0.001
# Magnitude from which a sample counts as full scale.
FULL_SCALE = 0.999
# Segments of a recording that are stored for the cross-attention, spread evenly over its speech.
MEMORY_SEGMENTS = 64


@dataclass(frozen=True)
class EnrolmentQuality:
    """Quality of a recording for enrolling one speaker.

    Attributes:
        speech_seconds: speech of the speaker.
        other_speech: speech of other speakers, as a share of ``speech_seconds``.
        clipped: share of samples that are clipped.

    >>> EnrolmentQuality(speech_seconds=5.0, other_speech=0.1, clipped=0.0).reasons
    ()
    >>> EnrolmentQuality(speech_seconds=1.5, other_speech=0.1, clipped=0.0).reasons
    ('1.5 s of speech; at least 2 s are needed',)
    """

    speech_seconds: float
    other_speech: float
    clipped: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the recording is not good enough, one sentence each; empty if it is."""
        found = []
        if self.speech_seconds < MIN_ENROLMENT_SECONDS:
            found.append(
                f"{self.speech_seconds:.1f} s of speech; at least {MIN_ENROLMENT_SECONDS:g} s are needed"
            )
        if self.other_speech > MAX_OTHER_SPEECH:
            found.append(
                f"other speakers talk for {self.other_speech:.0%} of the speaker's time; at most"
                f" {MAX_OTHER_SPEECH:.0%} is allowed"
            )
        if self.clipped > MAX_CLIPPED:
            found.append(
                f"{self.clipped:.1%} of the samples are clipped; at most {MAX_CLIPPED:.1%} is allowed"
            )
        return tuple(found)


def measure_quality(diarization: Diarization, speaker: int, *, single_speaker: bool) -> EnrolmentQuality:
    """Measure how well a recording suits enrolling one of its speakers.

    Args:
        speaker: index of the speaker.
        single_speaker: True counts all speech of others, for a recording that should hold only this speaker.
            False counts only speech that overlaps with the speaker's.

    >>> from separative import load_model
    >>> from separative.inference import diarize
    >>> measure_quality(diarize(load_model(), "ann.wav"), 0, single_speaker=True).clipped
    0.0
    """
    own = diarization.speakers[speaker].turns
    seconds = sum(turn.end - turn.start for turn in own)
    others = [t for number, s in enumerate(diarization.speakers) if number != speaker for t in s.turns]
    other_seconds = sum(t.end - t.start for t in others) if single_speaker else overlap_seconds(own, others)
    share = other_seconds / max(seconds, 1e-9)
    return EnrolmentQuality(
        seconds, share if single_speaker else min(1.0, share), _clipped_share(diarization)
    )


def overlap_seconds(own: Sequence[Turn], others: Sequence[Turn]) -> float:
    """Seconds of ``own`` turns during which any of the other turns is active.

    >>> from separative.rttm import Turn
    >>> overlap_seconds([Turn("a", 0.0, 4.0)], [Turn("b", 1.0, 2.0), Turn("c", 1.5, 3.0)])
    2.0
    """
    covered = 0.0
    for turn in own:
        overlaps = sorted(
            (max(turn.start, other.start), min(turn.end, other.end))
            for other in others
            if other.start < turn.end and other.end > turn.start
        )
        reached = turn.start
        for start, end in overlaps:
            covered += max(0.0, end - max(start, reached))
            reached = max(reached, end)
    return covered


def _clipped_share(diarization: Diarization) -> float:
    """Share of samples where a processed channel stays at full scale for two samples or more."""
    blocks: Iterable[Wave]
    if isinstance(diarization.source, tuple):
        blocks = [diarization.source[0]]
    else:
        blocks = audio.stream(diarization.source, channels="each")
    clipped = total = 0
    # A damaged file is measured up to the damage, as the diarization was.
    with suppress(AudioError):
        for block in blocks:
            full_CN = np.abs(np.atleast_2d(block)) >= FULL_SCALE
            used_CN = full_CN[:1] if diarization.channel_policy == "first" else full_CN
            clipped += int((used_CN[:, 1:] & used_CN[:, :-1]).any(0).sum())
            total += used_CN.shape[1]
    return clipped / max(total, 1)


def extract_recording(
    diarization: Diarization, speaker: int, hash_: str, audio_bytes: bytes | None
) -> EnrolledRecording:
    """Collect what a gallery stores of one speaker of a diarized recording.

    Args:
        speaker: index of the speaker.
        hash_: identifies the recording among those of the speaker.
        audio_bytes: the audio file, or None to leave it out.

    >>> from separative import load_model
    >>> from separative.inference import diarize
    >>> recording = extract_recording(diarize(load_model(), "ann.wav"), 0, "3f2a", None)
    >>> recording.source, recording.memory.shape[0] <= 64
    ('ann.wav', True)
    """
    windows, own_WC = diarization.windows, diarization.window_speaker == speaker
    speech_WC = (windows.activity > 0.5).sum(-1).astype(np.float32)
    if len(diarization.speakers) > 1:
        # The memory holds segments of all speakers, so none of it is stored.
        query_E, kept = diarization.speakers[speaker].embedding, np.zeros(0, np.int64)
    else:
        query_E = mean_embedding(windows.query[own_WC], speech_WC[own_WC])
        speech = np.argsort(-windows.memory_logit, kind="stable")
        speech = speech[windows.memory_logit[speech] > 0]
        kept = np.sort(speech[np.linspace(0, len(speech) - 1, min(MEMORY_SEGMENTS, len(speech))).astype(int)])
    return EnrolledRecording(
        Path(diarization.name).name,
        hash_,
        diarization.speakers[speaker].speech_seconds,
        query_E,
        windows.memory[kept],
        windows.memory_logit[kept],
        audio_bytes,
    )


def speaker_embedding(model: SeparativeEncoder, recordings: Sequence[EnrolledRecording]) -> Floats:
    """Embedding [E] (unit norm) of a speaker from all of their recordings.

    The query of each recording attends to the memory of all recordings (method, section 3). The attended
    embeddings are averaged, weighted by the seconds of speech.

    >>> from separative import load_model
    >>> from separative.inference import diarize
    >>> model = load_model()
    >>> recording = extract_recording(diarize(model, "ann.wav"), 0, "3f2a", None)
    >>> embedding = speaker_embedding(model, [recording])
    >>> bool(abs(embedding @ embedding - 1) < 1e-5)
    True
    """
    memory_ME = np.concatenate([recording.memory for recording in recordings])
    logit_M = np.concatenate([recording.memory_logit for recording in recordings])
    query_VE = np.stack([recording.query for recording in recordings])
    attended_VE = attend_memory(model, query_VE, memory_ME, logit_M)
    return mean_embedding(attended_VE, np.array([r.speech_seconds for r in recordings], np.float32))


def reembed_recording(model: SeparativeEncoder, recording: EnrolledRecording) -> EnrolledRecording:
    """Process the stored audio of a recording with another model.

    Raises:
        GalleryError: the model finds no speech in it.

    >>> from dataclasses import replace
    >>> from separative import load_model
    >>> from separative.inference import diarize
    >>> model = load_model()
    >>> recording = extract_recording(diarize(model, "ann.wav"), 0, "3f2a", read_audio_bytes("ann.wav"))
    >>> bool((reembed_recording(model, recording).query == recording.query).all())
    True
    """
    assert recording.audio is not None
    with tempfile.TemporaryDirectory() as folder:
        # The label of the recording may not be a valid file name, so it is not used as one.
        path = Path(folder) / "audio"
        path.write_bytes(recording.audio)
        diarization = replace(diarize(model, path), name=recording.source)
    if not diarization.speakers:
        raise GalleryError(
            f"{recording.source}: the new model finds no speech in it; remove the speaker, or enrol them with"
            " another recording"
        )
    return extract_recording(diarization, 0, recording.hash, recording.audio)


def read_audio_bytes(source: Audio) -> bytes:
    """Bytes of an audio file as they are, or of a waveform encoded as FLAC.

    Raises:
        AudioError: the file cannot be read, or FLAC cannot hold the waveform (more than eight channels).

    >>> import numpy as np
    >>> read_audio_bytes((np.zeros(1600, np.float32), 16000))[:4]
    b'fLaC'
    """
    if not isinstance(source, tuple):
        return audio.file_bytes(Path(source))
    buffer, (wave, rate) = io.BytesIO(), source
    try:
        soundfile.write(buffer, np.asarray(wave).T, rate, format="FLAC")
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"cannot encode the waveform as FLAC ({error.error_string}); enrol an audio file instead"
        ) from error
    return buffer.getvalue()


def recording_to_json(recording: EnrolledRecording) -> dict[str, Any]:
    """Convert a recording to JSON values; arrays and audio become base64 text.

    >>> from separative import load_model
    >>> from separative.inference import diarize
    >>> recording = extract_recording(diarize(load_model(), "ann.wav"), 0, "3f2a", None)
    >>> recording_from_json(recording_to_json(recording)).hash
    '3f2a'
    """

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "source": recording.source,
        "hash": recording.hash,
        "seconds": recording.speech_seconds,
        "query": text(recording.query.astype(np.float32).tobytes()),
        "memory": text(recording.memory.astype(np.float16).tobytes()),
        "logit": text(recording.memory_logit.astype(np.float16).tobytes()),
        "sound": None if recording.audio is None else text(recording.audio),
    }


def recording_from_json(record: dict[str, Any]) -> EnrolledRecording:
    """Reverse of :func:`recording_to_json`.

    Raises:
        KeyError, TypeError, ValueError: the record has another form.

    >>> recording_from_json({})
    Traceback (most recent call last):
    KeyError: 'query'
    """
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
