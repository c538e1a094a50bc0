"""Diarize recordings of any length: who spoke when, and one embedding per speaker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError, SeparativeError, choose
from separative.inference.cluster import cluster_speakers, mean_embedding
from separative.inference.recording import (
    CONFIDENT,
    MIN_SPEECH_SECONDS,
    Audio,
    BlockReader,
    ChannelPolicy,
    check_waveform,
    is_speech,
)
from separative.inference.verify import same_speaker_cosine
from separative.inference.windows import (
    MAX_MEMORY_SEGMENTS,
    SILENCE_DB,
    WindowCache,
    WindowGrid,
    WindowOutputs,
    attend_recording,
    run_windows,
)
from separative.rttm import Turn, frames_to_turns
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

WINDOW, HOP = 2.0, 1.0
"""Length of a window and distance from one to the next, in seconds."""

SHORT_SECONDS, PHASES = 90.0, 8
"""Recordings up to SHORT_SECONDS are run PHASES times, with the windows and segments at other positions.

A short recording has few windows, so that one window more or less above a threshold would change the number
of speakers. Windows at PHASES positions give more evidence, and activity at PHASES times the resolution.
"""

LEVEL_RANGE_DB = 35.0
"""Segments this far below the loudest ones of the recording (their 95th percentile) are not speech."""

INSET = 0.5
"""Segments by which a turn begins after the start of its first segment and ends before the end of its last.

A segment counts as speech if any part of it is loud. On average, half of the first and half of the last
segment of a turn is silent.
"""


@dataclass(frozen=True)
class Speaker:
    """A speaker of a diarized recording.

    Attributes:
        name: "speaker1", "speaker2", ...
        turns: when the speaker talks, in seconds.
        embedding: embedding over the whole recording [E], unit norm.
        activity: probability of speech [T] in each segment of ``Diarization.segment_seconds``.

    Example:
        >>> import separative
        >>> speaker = separative.diarize(separative.load_model(), "meeting.wav").speakers[0]
        >>> speaker.name, speaker.embedding.shape, speaker.activity.shape
        ('speaker1', (128,), (2464,))
    """

    name: str
    turns: tuple[Turn, ...]
    embedding: Wave
    activity: Wave

    @property
    def speech_seconds(self) -> float:
        """Total length of the turns."""
        return sum(turn.end - turn.start for turn in self.turns)


@dataclass(frozen=True)
class Diarization:
    """Who spoke when in a recording; the result of :func:`diarize`.

    Attributes:
        name: path of the audio file, or "the waveform".
        source: the recording itself, for later passes.
        rate: sampling rate of the model in hertz.
        seconds: length of what was read.
        channels, channel_policy: number of channels of the input, and how they were made one.
        segment_seconds: length of a segment of the speakers' activity; shorter for recordings up to
            SHORT_SECONDS.
        speakers: the one with most speech first.
        windows: outputs of the model for every window; :func:`assign_speakers` can use them again.
        window_speaker: index of the speaker of each stream in each window [W, C]; -1 for none.
        damage: the error that ended a damaged file early; empty otherwise.

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

    @property
    def turns(self) -> list[Turn]:
        """Turns of all speakers, ordered by start."""
        return sorted((turn for s in self.speakers for turn in s.turns), key=lambda t: (t.start, t.speaker))


def diarize(
    model: SeparativeEncoder,
    source: Audio,
    *,
    speakers: int | None = None,
    attention: bool = True,
    channels: ChannelPolicy = "mean",
    window: float = WINDOW,
    hop: float = HOP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Diarization:
    """Find who spoke when in a recording of any length, in memory that hardly grows with the length.

    The model runs over overlapping windows. The embeddings of all streams of all windows are clustered, so
    there may be more speakers than the model has streams, as long as no more speak at the same time. The
    embedding of a speaker attends to the whole recording (method, section 3).

    Args:
        source: an audio file, or a waveform with its sampling rate.
        speakers: number of speakers; estimated if None.
        attention: False skips the cross-attention over windows, to measure what it adds.
        channels: how several channels become one.
        window, hop: length of a window and distance from one to the next, in seconds.
        cache: file (.npz) for the outputs of finished windows, for audio files only. After an interruption, a
            call with the same file continues there. The file is kept for later calls with this recording.
        progress: called with (done, total) samples.

    Raises:
        AudioError: the recording is unreadable, too short or silent, or has NaN samples. A file that is
            damaged later on is diarized up to that point, and ``damage`` holds the error.
        SeparativeError: ``speakers`` is less than one.

    Example:
        >>> import separative
        >>> diarization = separative.diarize(separative.load_model(), "meeting.wav", speakers=2)
        >>> first, *_ = diarization.turns
        >>> 0 <= first.start < first.end <= diarization.seconds
        True
    """
    if speakers is not None and speakers < 1:
        raise SeparativeError(f"speakers is {speakers}; a recording has at least one")
    choose(channels, get_args(ChannelPolicy), "channel policy", AudioError)
    name, seconds, count = _header(source)
    if seconds < MIN_SPEECH_SECONDS:
        raise AudioError(
            f"{name} is {seconds:.2f} s long; an embedding needs {MIN_SPEECH_SECONDS} s of speech"
        )
    grid = WindowGrid.for_model(model, window, hop)
    blocks, window_cache = BlockReader(source, model.rate, channels), None
    if cache is not None and not isinstance(source, tuple):
        window_cache = WindowCache(Path(cache), _cache_key(model, Path(source), channels, grid))
    windows = _run_phases(model, blocks, grid, seconds, window_cache, progress)
    if not windows.activity.any():
        raise AudioError(f"{name} is silent throughout; an embedding needs {MIN_SPEECH_SECONDS} s of speech")
    found, window_speaker = assign_speakers(model, windows, speakers=speakers, attention=attention)
    return Diarization(
        name,
        source,
        model.rate,
        windows.samples / model.rate,
        count,
        channels,
        model.segment_seconds / (len(windows.shifted) + 1),
        found,
        windows,
        window_speaker,
        blocks.damage,
    )


def assign_speakers(
    model: SeparativeEncoder,
    windows: WindowOutputs,
    *,
    speakers: int | None = None,
    attention: bool = True,
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """Find the speakers from the outputs of all windows.

    Returns the speakers, and the index of the speaker of each stream in each window [W, C], -1 for none.
    ``speakers`` and ``attention`` as in :func:`diarize`.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> diarization = separative.diarize(model, "meeting.wav")
        >>> speakers, window_speaker = assign_speakers(model, diarization.windows, speakers=1)
        >>> len(speakers), set(window_speaker.flat) <= {-1, 0}
        (1, True)
    """
    phases = (windows, *windows.shifted)
    active_WCS = np.concatenate([phase.activity for phase in phases]) > 0.5
    alone_WCS = active_WCS & (active_WCS.sum(1, keepdims=True) == 1)
    speech_WC, alone_WC = (x.sum(-1) * np.float32(model.segment_seconds) for x in (active_WCS, alone_WCS))
    # Speakers are found by the windows' queries, because embeddings that attend to the same memory move
    # towards each other. Streams are matched with the found speakers by attended embeddings, which is more
    # accurate (docs/experiments.md).
    query_WCE = np.concatenate([phase.query for phase in phases])
    attended_WCE = None
    if attention and model.cross is not None:
        query_QE = query_WCE.reshape(-1, query_WCE.shape[2])
        attended_WCE = attend_recording(model, query_QE, windows).reshape(query_WCE.shape)
    label_WC, _ = cluster_speakers(
        query_WCE,
        speech_WC,
        alone_WC,
        same_cosine=same_speaker_cosine(model),
        speakers=speakers,
        attended=attended_WCE,
        phases=len(phases),
    )
    label_WC = _drop_noise(label_WC, active_WCS, np.concatenate([p.activity for p in phases]) > CONFIDENT)
    return _describe_speakers(model, windows, label_WC, speech_WC, attention)


def _drop_noise(
    label_WC: NDArray[np.int64], active_WCS: NDArray[np.bool_], certain_WCS: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Remove the speakers whose streams are noise, and number the others from 0."""
    count = int(label_WC.max(initial=-1)) + 1
    active_K, certain_K = (
        np.array([x_WCS[label_WC == k].sum() for k in range(count)], np.int64)
        for x_WCS in (active_WCS, certain_WCS)
    )
    speech_K = is_speech(active_K, certain_K)
    number_K = np.where(speech_K, speech_K.cumsum() - 1, -1)
    return np.array([*number_K, -1], np.int64)[label_WC]


def _run_phases(
    model: SeparativeEncoder,
    blocks: BlockReader,
    grid: WindowGrid,
    seconds: float,
    cache: WindowCache | None,
    progress: Progress | None,
) -> WindowOutputs:
    """Outputs of all windows; for a short recording also with the windows at other positions."""
    samples = round(seconds * model.rate)
    if seconds > SHORT_SECONDS:
        return _mute_quiet(run_windows(model, blocks, grid, samples, cache=cache, progress=progress))
    held = list(blocks)
    # A part of a hop, so that windows begin elsewhere, and a part of a segment, so that segments do too.
    step = grid.segment // PHASES
    offset = grid.hop * grid.segment // PHASES // step * step + step
    outputs = [
        run_windows(
            model,
            held,
            grid,
            samples,
            offset=phase * offset,
            cache=None if phase else cache,
            progress=_part_of(progress, phase, samples),
        )
        for phase in range(PHASES)
    ]
    memory = np.concatenate([output.memory for output in outputs])
    logit = np.concatenate([output.memory_logit for output in outputs])
    thin = slice(None, None, max(1, -(-len(memory) // MAX_MEMORY_SEGMENTS)))
    first, *shifted = (_mute_quiet(output) for output in outputs)
    return replace(first, memory=memory[thin], memory_logit=logit[thin], shifted=tuple(shifted))


def _part_of(progress: Progress | None, phase: int, samples: int) -> Progress | None:
    """Progress over all phases, for one of them."""
    if progress is None:
        return None
    return lambda done, _: progress(phase * samples + min(done, samples), PHASES * samples)


def _mute_quiet(windows: WindowOutputs) -> WindowOutputs:
    """Set the activity of quiet segments to 0: they are background, whatever the model reports.

    The model normalises the level of each window, so that a window with background only is as loud as speech.
    """
    level_U = windows.level_db[windows.level_db > SILENCE_DB + 10]
    if not len(level_U):
        return windows
    loud_WS = windows.level_db >= np.percentile(level_U, 95) - LEVEL_RANGE_DB
    return replace(windows, activity=windows.activity * loud_WS[:, None])


def _describe_speakers(
    model: SeparativeEncoder,
    windows: WindowOutputs,
    label_WC: NDArray[np.int64],
    speech_WC: Floats,
    attention: bool,
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """Make a :class:`Speaker` of each cluster, the one with most speech first; renumber the labels [W,C]."""
    grid, count = windows.grid, int(label_WC.max(initial=-1)) + 1
    phases = (windows, *windows.shifted)
    query_WCE = np.concatenate([phase.query for phase in phases])
    query_KE = np.zeros((count, query_WCE.shape[2]), np.float32)
    for k in range(count):
        query_KE[k] = mean_embedding(query_WCE[label_WC == k], speech_WC[label_WC == k])
    embed_KE = attend_recording(model, query_KE, windows, attention=attention) if count else query_KE
    activity_KT = _speaker_activity(windows, label_WC, count)
    length, end, shift = grid.segment / model.rate, windows.samples / model.rate, grid.lead / model.rate
    turns_K = [
        [(max(0.0, t.start - shift), min(end, t.end - shift)) for t in turns]
        for turns in (
            frames_to_turns(a_T[None] > 0.5, [""], length / len(phases), inset=INSET * length)
            for a_T in activity_KT
        )
    ]
    order = sorted(range(count), key=lambda k: sum(start - stop for start, stop in turns_K[k]))
    speakers: list[Speaker] = []
    for k in order:
        name = f"speaker{len(speakers) + 1}"
        turns = tuple(Turn(name, start, stop) for start, stop in turns_K[k])
        speakers.append(Speaker(name, turns, embed_KE[k], activity_KT[k]))
    rank = np.array([*np.argsort(order), -1], np.int64)
    return tuple(speakers), rank[label_WC[: len(windows.query)]]


def _speaker_activity(windows: WindowOutputs, label_WC: NDArray[np.int64], count: int) -> Floats:
    """Probability of speech [K,T] of each speaker, the mean over all phases.

    With P phases there are P values per segment, since the segments of the phases begin at other samples.
    """
    phases = (windows, *windows.shifted)
    step = windows.grid.segment // len(phases)
    frames = windows.grid.segments(windows.samples) * len(phases)
    total_KT, first = np.zeros((count, frames), np.float32), 0
    for phase in phases:
        label = label_WC[first : first + len(phase.query)]
        first += len(phase.query)
        segment_T = (np.arange(frames) * step + phase.offset) // windows.grid.segment
        activity_KS = _phase_activity(phase, label, count)
        total_KT += activity_KS[:, np.minimum(segment_T, activity_KS.shape[1] - 1)]
    return total_KT / len(phases)


def _phase_activity(windows: WindowOutputs, label_WC: NDArray[np.int64], count: int) -> Floats:
    """Probability of speech [K,T] of each speaker in each segment, for one position of the windows.

    A segment gets the weighted mean over all windows that contain it. The weight falls linearly from the
    middle of a window to its ends.
    """
    grid, frames = windows.grid, windows.grid.segments(windows.samples)
    weight_S = np.minimum(np.arange(grid.window) + 1, np.arange(grid.window, 0, -1)).astype(np.float32)
    sum_KT = np.zeros((count, frames + grid.window), np.float32)
    weight_T = np.zeros(frames + grid.window, np.float32)
    for w, label_C in enumerate(label_WC):
        inside = slice(w * grid.hop, w * grid.hop + grid.window)
        weight_T[inside] += weight_S
        for k in set(label_C[label_C >= 0].tolist()):
            sum_KT[k, inside] += weight_S * windows.activity[w, label_C == k].max(0)
    sum_KT /= np.maximum(weight_T, 1e-9)
    return sum_KT[:, :frames]


def _header(source: Audio) -> tuple[str, float, int]:
    """Name, length in seconds and number of channels."""
    if isinstance(source, tuple):
        wave, rate = check_waveform(source)
        return "the waveform", wave.shape[-1] / rate, 1 if wave.ndim == 1 else len(wave)
    header = audio.info(source)
    return str(source), header.seconds, header.channels


def _cache_key(model: SeparativeEncoder, path: Path, channels: ChannelPolicy, grid: WindowGrid) -> str:
    """Everything that the outputs of the windows depend on, as one string."""
    return f"{model.card.get('sha256')} {path.resolve()} {audio.file_stamp(path)} {channels} {grid}"
