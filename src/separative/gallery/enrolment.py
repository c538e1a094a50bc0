"""Enrolment: quality checks of a recording, and what a gallery stores of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from separative import audio
from separative.errors import AudioError, NotEnrolledError
from separative.gallery.records import EnrolledRecording
from separative.inference import Audio, Diarization
from separative.inference.cluster import mean_embedding
from separative.inference.output import recording_digest
from separative.inference.recording import MIN_SPEECH_SECONDS
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
        warnings: what to check after the enrolment, one sentence each. They do not refuse the recording.

    >>> EnrolmentQuality(speech_seconds=5.0, other_speech=0.1, clipped=0.0).reasons
    ()
    >>> EnrolmentQuality(speech_seconds=1.5, other_speech=0.1, clipped=0.0).reasons
    ('1.5 s of speech; at least 2 s are needed',)
    """

    speech_seconds: float
    other_speech: float
    clipped: float
    warnings: tuple[str, ...] = ()

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


def check_quality(quality: EnrolmentQuality, source: str, force: bool) -> None:
    """Check that a recording is good enough.

    Args:
        source: name of the recording.
        force: accept low quality.

    Raises:
        NotEnrolledError: the quality is low.
        AudioError: there is too little speech for an embedding, also with ``force``.

    >>> check_quality(EnrolmentQuality(speech_seconds=5.0, other_speech=0.1, clipped=0.0), "ann.wav", False)
    >>> check_quality(EnrolmentQuality(speech_seconds=1.5, other_speech=0.1, clipped=0.0), "ann.wav", False)
    Traceback (most recent call last):
    separative.errors.NotEnrolledError: ann.wav: not enrolled: 1.5 s of speech; at least 2 s are needed
    """
    if quality.reasons and not force:
        raise NotEnrolledError(source, quality.reasons)
    if quality.speech_seconds < MIN_SPEECH_SECONDS:
        raise AudioError(
            f"{source}: {quality.speech_seconds:.2f} s of speech found; an embedding needs"
            f" {MIN_SPEECH_SECONDS} s"
        )


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
    clipped, total, policy = 0, 0, diarization.channel_policy
    # A damaged file is measured up to the damage, as the diarization was.
    with suppress(AudioError):
        for block in blocks:
            full_CN = np.abs(np.atleast_2d(block)) >= FULL_SCALE
            used_CN = full_CN if policy == "mean" else full_CN[[0 if policy == "first" else policy]]
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


def digest_audio(source: Audio, keep: bool) -> tuple[str, bytes | None]:
    """SHA-256 of the bytes of a recording, and these bytes if they are kept.

    Raises:
        AudioError: as for :func:`read_audio_bytes`.

    >>> digest_audio("ann.wav", keep=True)[0] == digest_audio("ann.wav", keep=False)[0]
    True
    """
    if not keep and not isinstance(source, tuple):
        return recording_digest(Path(source)), None
    content = read_audio_bytes(source)
    return hashlib.sha256(content).hexdigest(), content if keep else None


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
