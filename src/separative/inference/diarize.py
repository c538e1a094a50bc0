"""Diarize recordings of any length: who spoke when, and one embedding per speaker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError, SilentError
from separative.inference.cluster import Clustering, cluster_speakers, keep_speakers
from separative.inference.confidence import rate_turns
from separative.inference.counting import ANY_NUMBER, CountingRule, SpeakerLimits
from separative.inference.evidence import same_speaker_cosine
from separative.inference.likeness import MeasuredBlocks, unlike_training
from separative.inference.phases import run_phases, speech_evidence
from separative.inference.recording import (
    MIN_SPEECH_SECONDS,
    Audio,
    BlockReader,
    ChannelPolicy,
    SpeechRule,
    check_channel_policy,
    check_waveform,
)
from separative.inference.sources import open_source
from separative.inference.speakers import Speaker, describe_speakers
from separative.inference.views import DiarizationView
from separative.inference.windows import (
    WindowCache,
    WindowGrid,
    WindowOutputs,
    attend_recording,
)
from separative.rttm import Turn
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.inference.sources import AnyAudio
    from separative.model import SeparativeEncoder

WINDOW, HOP = 2.0, 1.0
"""Length of a window and distance from one to the next, in seconds."""


@dataclass(frozen=True, repr=False)
class Diarization(DiarizationView):
    """Who spoke when in a recording; the result of :func:`diarize`.

    Attributes:
        name: path of the audio file, or "the waveform".
        source: the audio file or waveform that was given, so that it can be read again.
        rate: sampling rate of the model in hertz.
        seconds: length of the recording, for a damaged file of its readable part.
        channels: number of channels of the input.
        channel_policy: how the channels were reduced to one.
        segment_seconds: time between two values of ``Speaker.activity``: the length of a segment, or a part
            of it for recordings of up to SHORT_SECONDS.
        speakers: the speakers, the one with the most speech first.
        windows: outputs of the model for every window, the input of :func:`assign_speakers`.
        window_speaker: index of the speaker of each stream in each window [W, C]; -1 for none.
        count_probability: calibrated probability that there are n speakers, for n = 0, 1, 2, ..., 16, from
            the recording alone. Speakers with under a second or two of speech are not counted.
        asked_speakers: number of speakers that was given, or None.
        damage: error message if only the first part of the file could be read; empty otherwise.
        unlike_training: how the recording differs from those of the training, in plain sentences.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "meeting.wav", speakers=2)
        >>> [speaker.name for speaker in diarization.speakers]
        ['speaker1', 'speaker2']
    """

    name: str
    source: Audio
    rate: int
    seconds: float
    channels: int
    channel_policy: ChannelPolicy
    segment_seconds: float
    speakers: tuple[Speaker, ...]
    windows: WindowOutputs
    window_speaker: NDArray[np.int64]
    damage: str = ""
    count_probability: Floats = field(default_factory=lambda: np.zeros(0))
    asked_speakers: int | None = None
    unlike_training: tuple[str, ...] = ()

    @property
    def missing_speakers(self) -> int:
        """How many speakers fewer were found than were asked for."""
        return max(0, (self.asked_speakers or 0) - len(self.speakers))

    @property
    def turns(self) -> list[Turn]:
        """Turns of all speakers, ordered by start."""
        return sorted((turn for s in self.speakers for turn in s.turns), key=lambda t: (t.start, t.speaker))


def diarize(
    model: SeparativeEncoder,
    source: AnyAudio,
    *,
    rate: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    attention: bool = True,
    channels: ChannelPolicy = "mean",
    window: float = WINDOW,
    hop: float = HOP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Diarization:
    """Find who spoke when in a recording of any length. Memory use hardly grows with the length.

    The model runs over overlapping windows, and the embeddings of all streams of all windows are clustered.
    So a recording may have more speakers than the model has streams. Only the number of speakers who talk at
    the same time is limited to the number of streams. The embedding of a speaker attends to the whole
    recording (method, section 3).

    Args:
        source: an audio file, an open file, an array or a tensor.
        rate, start, end: as for :func:`separative.load_audio`; times of turns count from ``start``.
        speakers: number of speakers, if known; the same as both limits.
        min_speakers: least number. It counts more, the more speech there is, and nothing in recordings with
            under 15 s of speech per speaker: fewer speakers may be found, see
            ``Diarization.missing_speakers``.
        max_speakers: greatest number. If more speakers are found, the most similar ones are joined.
        attention: False skips the cross-attention over the recording, for ablations.
        channels: how to reduce several channels to one: "mean", "first", or the number of one, counted from
            0. See :func:`diarize_channels` to diarize every channel.
        window, hop: length of a window and distance from one to the next, in seconds.
        cache: file (.npz) in which to save the outputs of finished windows. If a call is interrupted, the
            next call with the same cache continues after these windows. The file is not deleted, so a later
            call for this recording is fast. Ignored for waveforms.
        progress: called with (done, total) samples.

    Raises:
        AudioError: the recording is unreadable, too short or silent, or has NaN samples. If only the first
            part of a file can be read, no error is raised: that part is diarized, and ``damage`` holds the
            error message.
        SeparativeError: a number of speakers is less than one, or the limits contradict each other.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "meeting.wav", speakers=2)
        >>> first, *_ = diarization.turns
        >>> 0 <= first.start < first.end <= diarization.seconds
        True
    """
    limits = SpeakerLimits.of(speakers, min_speakers, max_speakers)
    check_channel_policy(channels)
    source = open_source(source, rate, start, end)
    name, seconds, channel_count = read_header(source)
    if seconds < MIN_SPEECH_SECONDS:
        raise AudioError(
            f"{name} is {seconds:.2f} s long; an embedding needs {MIN_SPEECH_SECONDS} s of speech"
        )
    grid = WindowGrid.for_model(model, window, hop)
    blocks, window_cache = BlockReader(source, model.rate, channels), None
    if cache is not None and not isinstance(source, tuple):
        window_cache = WindowCache(Path(cache), _cache_key(model, Path(source), channels, grid))
    measured = MeasuredBlocks(blocks, model.rate, seconds)
    windows = run_phases(model, measured, grid, seconds, window_cache, progress)
    # Probabilities are 0 in digital silence only, before they are adapted to the levels of the recording.
    if not any(phase.raw_activity.any() for phase in windows.phases):
        raise SilentError(f"{name} is silent throughout; an embedding needs {MIN_SPEECH_SECONDS} s of speech")
    clustering = _cluster_windows(model, windows, limits, attention)
    found_speakers, window_speaker = describe_speakers(model, windows, clustering.label, attention=attention)
    found = Diarization(
        name,
        source,
        model.rate,
        windows.samples / model.rate,
        channel_count,
        channels,
        model.segment_seconds / len(windows.phases),
        found_speakers,
        windows,
        window_speaker,
        blocks.damage,
        clustering.count_probability,
        limits.least if limits != ANY_NUMBER else None,
    )
    found = rate_turns(model, found)
    warnings = unlike_training(found.speakers, measured.snr_db, measured.treble_db)
    return replace(found, unlike_training=warnings)


def assign_speakers(
    model: SeparativeEncoder,
    windows: WindowOutputs,
    *,
    speakers: int | None = None,
    attention: bool = True,
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """Find the speakers from the outputs of all windows.

    Returns the speakers, and the index of the speaker of each stream in each window [W, C], -1 for none. The
    windows of ``windows.shifted`` are not in W. ``speakers`` and ``attention`` are as in :func:`diarize`.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "meeting.wav")
        >>> speakers, window_speaker = assign_speakers(model, diarization.windows, speakers=1)
        >>> len(speakers), set(window_speaker.flat) <= {-1, 0}
        (1, True)
    """
    label_WC = label_streams(model, windows, speakers=speakers, attention=attention)
    return describe_speakers(model, windows, label_WC, attention=attention)


def label_streams(
    model: SeparativeEncoder,
    windows: WindowOutputs,
    *,
    speakers: int | None = None,
    attention: bool = True,
) -> NDArray[np.int64]:
    """Return the speaker of each stream in the windows of all phases [W, C]; -1 for silence and noise.

    The windows of one phase follow those of the other. ``speakers`` and ``attention`` are as in
    :func:`diarize`.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> windows = separative.diarize(model, "meeting.wav").windows
        >>> len(label_streams(model, windows)) == sum(len(phase.query) for phase in windows.phases)
        True
    """
    return _cluster_windows(model, windows, SpeakerLimits.of(speakers), attention).label


def _cluster_windows(
    model: SeparativeEncoder, windows: WindowOutputs, limits: SpeakerLimits, attention: bool
) -> Clustering:
    """Cluster the streams of the windows of all phases, without those of noise."""
    phases = windows.phases
    inputs = cluster_inputs(model, windows)
    query_WCE = inputs["embedding"]
    attended_WCE = None
    if attention and model.cross is not None:
        query_QE = query_WCE.reshape(-1, query_WCE.shape[2])
        attended_WCE = attend_recording(model, query_QE, windows).reshape(query_WCE.shape)
    clustering = cluster_speakers(**inputs, limits=limits, rule=CountingRule.of(model), attended=attended_WCE)
    active_WCS = np.concatenate([phase.activity > 0.5 for phase in phases])
    rule = SpeechRule.of(model)
    raw_WCS = np.concatenate([phase.raw_activity for phase in phases])
    certain_WCS = raw_WCS > rule.certain
    label_WC = _drop_noise(clustering.label, active_WCS, active_WCS & certain_WCS, rule)
    # A recording of nothing but noise: the rule must also hold for everything the network calls active.
    # Adapted activity leaves out the least certain ones.
    if not rule.decide(np.array([(raw_WCS > 0.5).sum()]), np.array([certain_WCS.sum()])).any():
        label_WC = np.full_like(label_WC, -1)
    return replace(clustering, label=label_WC)


def cluster_inputs(model: SeparativeEncoder, windows: WindowOutputs) -> dict[str, Any]:
    """Return the arguments of :func:`cluster_speakers` that come from the windows of all phases.

    Queries are clustered to find the speakers: attended embeddings of one recording are less suitable,
    because attention to the same memory makes them more similar. Attended embeddings are then used to match
    the streams with these speakers, where they are more accurate (docs/experiments.md).

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> inputs = cluster_inputs(model, separative.diarize(model, "meeting.wav").windows)
        >>> inputs["embedding"].shape[:2] == inputs["speech_seconds"].shape
        True
    """
    phases = windows.phases
    active_WCS = np.concatenate([phase.activity > 0.5 for phase in phases])
    alone_WCS = active_WCS & (active_WCS.sum(1, keepdims=True) == 1)
    speech_WC, alone_WC = (x.sum(-1) * np.float32(model.segment_seconds) for x in (active_WCS, alone_WCS))
    evidence = [(speech_evidence(phase) * (phase.activity > 0.5)).sum(-1) for phase in phases]
    return {
        "embedding": np.concatenate([phase.query for phase in phases]),
        "speech_seconds": speech_WC,
        "alone_seconds": alone_WC,
        "same_cosine": same_speaker_cosine(model),
        "evidence": np.concatenate(evidence),
        "phases": len(phases),
        "overlap": windows.grid.window / windows.grid.hop,
    }


def _drop_noise(
    label_WC: NDArray[np.int64],
    active_WCS: NDArray[np.bool_],
    certain_WCS: NDArray[np.bool_],
    rule: SpeechRule,
) -> NDArray[np.int64]:
    """Remove the labels of speakers that are noise, and number the other speakers from 0."""
    count = int(label_WC.max(initial=-1)) + 1
    active_K, certain_K = (
        np.array([x_WCS[label_WC == k].sum() for k in range(count)], np.int64)
        for x_WCS in (active_WCS, certain_WCS)
    )
    return keep_speakers(label_WC, rule.decide(active_K, certain_K))


def read_header(source: Audio) -> tuple[str, float, int]:
    """Return name, length in seconds and number of channels of a recording.

    Raises:
        AudioError: the file cannot be read, or the waveform is invalid.

    Example:
        >>> read_header((np.zeros((2, 8000), np.float32), 16000))
        ('the waveform', 0.5, 2)
    """
    if isinstance(source, tuple):
        wave, rate = check_waveform(source)
        return (
            getattr(source, "name", "the waveform"),
            wave.shape[-1] / rate,
            1 if wave.ndim == 1 else len(wave),
        )
    header = audio.info(source)
    return str(source), header.seconds, header.channels


def _cache_key(model: SeparativeEncoder, path: Path, channels: ChannelPolicy, grid: WindowGrid) -> str:
    """Return a string that changes whenever the outputs of the windows could change."""
    return f"{model.card.get('sha256')} {path.resolve()} {audio.file_stamp(path)} {channels} {grid}"
