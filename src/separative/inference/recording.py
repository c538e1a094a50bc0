"""Recordings as input (:class:`LoadedRecording`, :class:`BlockReader`) and as result (:class:`Recording`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError, SilentError, choose
from separative.inference.views import RecordingView
from separative.types import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

log = logging.getLogger(__name__)

Audio = str | Path | tuple[Wave, int]
"""An audio file, or a waveform ([N] or [channels, N]) with its sampling rate in hertz."""

ChannelPolicy = Literal["mean", "first"] | int
"""How several channels become one: their mean, the first one, or the one of this number, counted from 0."""

MAX_RECORDING_SECONDS = 60.0
"""Longest recording that is processed in one piece, in seconds."""

Counts = NDArray[np.int64]

MIN_SPEECH_SECONDS = 0.5
"""Least speech in a stream, in seconds, for a meaningful embedding."""

# Sampling rates and samples outside these bounds are mistakes; the same bounds hold for files.
RATES = (1_000, 768_000)
LARGEST_SAMPLE = 1e12


class SpeechRule(NamedTuple):
    """How to distinguish speech from noise by the share of active segments that are certain to be speech.

    A segment is active if its probability of speech is above 0.5, and certain if it is above ``certain``. In
    speech most active segments are certain, in noise and room tone few are. The thresholds depend on the
    training of a model, so they are in its card, under ``speech``. Without that entry everything active is
    speech.

    Attributes:
        certain: probability of speech of a certain segment.
        best: least share for the stream or speaker with the largest share.
        other: least share for any other. It is higher, because noise next to a speaker is more frequent than
            a speaker this uncertain.

    Example:
        >>> rule = SpeechRule(certain=0.9, best=0.3, other=0.4)
        >>> rule.decide(np.array([100, 50, 0]), np.array([90, 10, 0])).tolist()
        [True, False, False]
    """

    certain: float = 0.5
    best: float = 0.0
    other: float = 0.0

    @staticmethod
    def of(model: SeparativeEncoder) -> SpeechRule:
        """Return the rule in the card of a model.

        Raises:
            ModelError: the entry of the card is damaged.
        """
        from separative.model.card import card_numbers

        return card_numbers(model.card, "speech", SpeechRule)

    def decide(self, active: Counts, certain: Counts) -> NDArray[np.bool_]:
        """Decide which of K streams or speakers are speech [K], from their numbers of segments [K]."""
        share_K = certain / np.maximum(active, 1)
        if not len(share_K):
            return np.zeros(0, bool)
        best_K: NDArray[np.bool_] = (np.arange(len(share_K)) == share_K.argmax()) & (share_K >= self.best)
        return best_K | (share_K >= self.other)


@dataclass(frozen=True, repr=False)
class Stream:
    """One output stream of the model for one recording.

    Attributes:
        stream: index of the stream in the model's output.
        embedding: attended embedding [E], unit norm.
        query: embedding before the cross-attention [E], unit norm.
        activity: probability of speech in each segment [S].
        segment_seconds: length of a segment.
        speech_seconds: total length of the segments with a probability above one half.
        waveform: separated waveform [N]; empty if only embeddings were computed.
        audible: True if ``speech_seconds`` is at least MIN_SPEECH_SECONDS. The embedding of an inaudible
            stream has no meaning.

    Example:
        >>> import separative
        >>> stream = separative.separate(separative.load_model(), "mixture.wav").streams[0]
        >>> stream.embedding.shape, stream.waveform.shape, stream.audible
        ((128,), (103016,), True)
    """

    stream: int
    embedding: Wave
    query: Wave
    activity: Wave
    segment_seconds: float
    speech_seconds: float
    waveform: Wave
    audible: bool

    @property
    def level_db(self) -> float:
        """Level of the waveform in dB full scale."""
        return audio.level_db(self.waveform)

    def __repr__(self) -> str:
        return f"Stream({self.stream}, {self.speech_seconds:.1f} s of speech, audible={self.audible})"


@dataclass(frozen=True, repr=False)
class Recording(RecordingView):
    """The streams that the model found in one recording.

    Attributes:
        name: path of the audio file, or "the waveform".
        rate: sampling rate of the model and of all waveforms here, in hertz.
        seconds: length of the recording.
        streams: one entry per output stream of the model, the one with most speech first.
        channels: number of channels of the input.
        channel_policy: how these channels were made one.

    Example:
        >>> import separative
        >>> recording = separative.embed(separative.load_model(), "mixture.wav")
        >>> recording.seconds, recording.rate, len(recording.streams), len(recording.speakers)
        (6.4385, 16000, 2, 2)
    """

    name: str
    rate: int
    seconds: float
    streams: tuple[Stream, ...]
    channels: int
    channel_policy: ChannelPolicy

    @property
    def speakers(self) -> tuple[Stream, ...]:
        """The audible streams, one per speaker."""
        return tuple(stream for stream in self.streams if stream.audible)

    @property
    def note(self) -> str:
        """A sentence about the channels that were used; empty for mono input."""
        if self.channels == 1:
            return ""
        names = {"mean": "the mean", "first": "the first"}
        how = names.get(str(self.channel_policy)) or f"number {int(self.channel_policy) + 1}"
        return f"{self.name}: {how} of {self.channels} channels is used"


@dataclass(frozen=True)
class LoadedRecording:
    """A decoded recording: one channel at the model's sampling rate, ``waveform`` [N]; made by :func:`load`.

    ``channels`` and ``channel_policy`` describe the input, as in :class:`Recording`.

    Example:
        >>> import numpy as np
        >>> LoadedRecording("silence", np.zeros(16000, np.float32), channels=1, channel_policy="mean").name
        'silence'
    """

    name: str
    waveform: Wave
    channels: int
    channel_policy: ChannelPolicy


def check_samples(samples: Any, what: str = "the waveform") -> Wave:
    """Return samples as an array, after checking that they are finite floating-point numbers.

    Args:
        samples: an array, or anything that NumPy converts to one.
        what: the subject of the error messages.

    Raises:
        AudioError: integers or other types, NaN or infinite samples, or samples far beyond full scale.

    Example:
        >>> check_samples([0.1, -0.1]).shape
        (2,)
        >>> check_samples(np.array([3, -3], np.int16))
        Traceback (most recent call last):
        separative.errors.AudioError: the waveform has int16 samples; ...wave / 32768
    """
    try:
        array: Wave = np.asarray(samples)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"{what} is not an array of samples ({error})") from error
    if array.dtype.kind != "f":
        cure = "pass floating-point samples between -1 and 1"
        if array.dtype.kind in "iu":
            # Unsigned samples have their zero in the middle of the range.
            middle = 1 << (8 * array.dtype.itemsize - 1)
            zero = f"(wave - {middle}.0)" if array.dtype.kind == "u" else "wave"
            cure += f", for example {zero} / {middle}"
        raise AudioError(f"{what} has {array.dtype} samples; {cure}")
    if not np.isfinite(array).all():
        raise AudioError(f"{what} holds NaN or infinite samples")
    if (peak := float(np.abs(array).max(initial=0.0))) > LARGEST_SAMPLE:
        raise AudioError(f"{what} holds a sample of {peak:.1g}; pass samples between -1 and 1")
    return array


def check_waveform(source: tuple[Any, ...]) -> tuple[Wave, int]:
    """Check a waveform with its sampling rate, and return both.

    Raises:
        AudioError: not a waveform [N] or [channels, N] of floating-point samples followed by a sampling rate
            of 1,000 to 768,000 Hz; the message names the axis or the value that is wrong.

    Example:
        >>> check_waveform((np.zeros((2, 8000), np.float32), 16000))[0].shape
        (2, 8000)
        >>> check_waveform((np.zeros((8000, 2), np.float32), 16000))
        Traceback (most recent call last):
        separative.errors.AudioError: the waveform has shape (8000, 2): ...first axis is the channels...wave.T
    """
    if len(source) != 2 or np.isscalar(source[0]) or getattr(source[0], "ndim", 1) == 0:
        raise AudioError(
            "a waveform is passed as (wave, rate): first its samples, then its sampling rate in Hz"
        )
    wave, rate = check_samples(source[0]), source[1]
    shape = " x ".join(map(str, wave.shape))
    if wave.size == 0:
        raise AudioError(f"the waveform is empty (shape {shape})")
    if wave.ndim > 2:
        raise AudioError(f"the waveform has {wave.ndim} axes (shape {shape}); pass [N] or [channels, N]")
    if wave.ndim == 2 and wave.shape[0] > wave.shape[1]:
        raise AudioError(
            f"the waveform has shape {wave.shape}: {wave.shape[0]} channels of {wave.shape[1]} samples; the"
            " first axis is the channels and the last axis the samples, so pass wave.T"
        )
    number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not number or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"the sampling rate of the waveform is {rate!r}; pass hertz, {RATES[0]} to {RATES[1]}"
        )
    return wave, rate


def load(
    source: Audio,
    rate: int,
    channels: ChannelPolicy = "mean",
    *,
    max_seconds: float | None = MAX_RECORDING_SECONDS,
) -> LoadedRecording:
    """Load a recording as one channel at ``rate`` hertz.

    Args:
        source: an audio file, or a waveform with its sampling rate.
        rate: sampling rate of the result in hertz.
        channels: how several channels become one.
        max_seconds: longest recording to accept; None for no limit. Checked before decoding.

    Raises:
        AudioError: the recording is unreadable, too long, shorter than MIN_SPEECH_SECONDS or silent, it has
            NaN or infinite samples, or the channel policy is unknown; or a waveform has the wrong shape, type
            or rate (:func:`check_waveform`).

    Example:
        >>> recording = load("ann.wav", rate=8000)
        >>> recording.waveform.shape, recording.channels
        ((51508,), 1)
    """
    check_channel_policy(channels)
    if isinstance(source, tuple):
        name, (wave, own_rate) = getattr(source, "name", "the waveform"), check_waveform(source)
        count = 1 if wave.ndim == 1 else len(wave)
        seconds = wave.shape[-1] / own_rate
    elif not isinstance(source, str | Path):
        raise AudioError(
            f"cannot read a recording from {type(source).__name__}; pass a file, or a waveform with its"
            " sampling rate as (wave, rate)"
        )
    else:
        name, header = str(source), audio.info(source, max_seconds=max_seconds)
        count, seconds = header.channels, header.seconds
    if max_seconds is not None and seconds > max_seconds:
        raise AudioError(
            f"{name} is longer than {max_seconds:.0f} s; use 'separative diarize' for longer recordings"
        )
    if isinstance(source, tuple):
        mono_N = _one_channel(np.atleast_2d(wave), channels)
        if count > 1 and channels == "mean":
            _warn_of_phase(name, wave, mono_N)
        wave_N = audio.resample(np.ascontiguousarray(mono_N, dtype=np.float32), own_rate, rate)
    else:
        wave_N, _ = audio.read(source, rate, channels=channels)
    if len(wave_N) < MIN_SPEECH_SECONDS * rate:
        raise AudioError(
            f"{name} is {len(wave_N) / rate:.2f} s long; an embedding needs {MIN_SPEECH_SECONDS} s of speech"
        )
    if not wave_N.any() and count > 1 and channels == "mean":
        raise SilentError(
            f"{name} is silent throughout in the mean of its {count} channels; if they cancel each other, use"
            " one channel (--channels first)"
        )
    if not wave_N.any():
        raise SilentError(f"{name} is silent throughout; an embedding needs {MIN_SPEECH_SECONDS} s of speech")
    return LoadedRecording(name, wave_N, count, channels)


def check_channel_policy(channels: ChannelPolicy) -> None:
    """Check that a channel policy is one of :data:`ChannelPolicy`.

    Raises:
        AudioError: it is something else. Whether there is such a channel is checked when a file is read.

    Example:
        >>> check_channel_policy("each")
        Traceback (most recent call last):
        separative.errors.AudioError: unknown channel policy 'each'...; valid: first, mean
    """
    if not isinstance(channels, int) or isinstance(channels, bool):
        choose(str(channels), ("mean", "first"), "channel policy", AudioError)


def _one_channel(wave_CN: Wave, channels: ChannelPolicy) -> Wave:
    """Apply a channel policy to a waveform [channels, N]."""
    if channels == "mean":
        mean_N: Wave = wave_CN.mean(0) if len(wave_CN) > 1 else wave_CN[0]
        return mean_N
    number = 0 if channels == "first" else channels
    if not 0 <= number < len(wave_CN):
        raise AudioError(f"the waveform has no channel {number}; it has {len(wave_CN)}, counted from 0")
    one_N: Wave = wave_CN[number]
    return one_N


def _warn_of_phase(name: str, wave: Wave, mono_N: Wave) -> None:
    """Warn if the channels of a waveform [channels, N] cancel each other in their mean, as for a file."""
    phase = audio.PhaseCheck()
    phase.add(wave.T.astype(np.float32, order="C"), mono_N.astype(np.float32))
    if (lost_db := phase.lost_db()) is not None:
        log.warning(
            "%s: its channels have opposite phase and cancel each other: their mean is %.0f dB weaker;"
            " use one channel with channels='first'",
            name,
            lost_db,
        )


class BlockReader:
    """Iterate over a recording of any length in blocks: one channel at ``rate`` hertz.

    If the file is damaged, the iteration ends there and the attribute ``damage`` holds the error message;
    it is empty otherwise.

    Raises:
        AudioError: nothing at all can be read.

    Example:
        >>> reader = BlockReader("meeting.wav", rate=16000, channels="mean")
        >>> sum(len(block) for block in reader), reader.damage
        (314625, '')
    """

    def __init__(self, source: Audio, rate: int, channels: ChannelPolicy) -> None:
        self.source, self.rate, self.channels = source, rate, channels
        self.damage = ""

    def __iter__(self) -> Iterator[Wave]:
        if isinstance(self.source, tuple):
            yield load(self.source, self.rate, self.channels, max_seconds=None).waveform
            return
        started = False
        try:
            for block_N in audio.stream(self.source, self.rate, channels=self.channels):
                yield block_N
                started = True
        except AudioError as error:
            if not started:
                raise
            self.damage = str(error)
