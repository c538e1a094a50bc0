"""Recordings of any length: who spoke when, each speaker's embedding over all of it, and their voices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from separative import audio
from separative.errors import AudioError, SeparativeError, choose
from separative.inference.cluster import cluster_speakers, mean_embedding
from separative.inference.recording import MIN_SPEECH, Audio, Blocks, ChannelPolicy
from separative.inference.verify import embed_side, evidence
from separative.inference.windows import Keep, Views, WindowGrid, answers, hear
from separative.metrics import log_odds
from separative.rttm import Turn, turns_of
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

WINDOW, HOP = 2.0, 1.0
"""Seconds of a window, and from one to the next."""

SAME = 0.5
"""Cosine above which two voices are one, for a model whose card does not say."""

INSET = 0.5
"""Segments by which speech begins after, and ends before, those that hold any of it: a segment counts as
speech if any of it is loud, and on average half of the first and of the last is not."""


@dataclass(frozen=True)
class Speaker:
    """A speaker of a recording: ``turns`` in seconds, ``embedding_E`` gathered over all of it (unit norm),
    ``activity_T`` probability of speech in each segment of ``Diarization.segment_seconds``."""

    name: str
    turns: tuple[Turn, ...]
    embedding_E: Wave
    activity_T: Wave

    @property
    def speech_seconds(self) -> float:
        return sum(turn.end - turn.start for turn in self.turns)


@dataclass(frozen=True)
class Diarization:
    """Who spoke when in a recording, the most talkative first.

    ``views`` is what the model said of its windows, for :func:`assign_speakers` to go by again; ``label_WC`` whose
    each stream of each window is (−1: nobody's), for :func:`write_voices` ·
    ``damage`` what ended the recording before its time, in a sentence; empty for none.
    """

    name: str
    source: Audio
    rate: int
    seconds: float
    channels: int
    channel_policy: ChannelPolicy
    segment_seconds: float
    speakers: tuple[Speaker, ...]
    views: Views
    label_WC: NDArray[np.int64]
    damage: str = ""

    @property
    def turns(self) -> list[Turn]:
        """Of all speakers, by start."""
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
    keep: str | Path | None = None,
    progress: Progress | None = None,
) -> Diarization:
    """Who spoke when in a recording of any length, in memory that hardly grows with it.

    The recording goes through the model in overlapping windows. The embeddings of all streams of all windows
    are clustered: there may be more speakers than the model has streams, as long as no more speak at once. A
    speaker's embedding gathers what answers it from the whole recording (method, section 3).

    Args:
        source: a sound file, or a waveform with its rate.
        speakers: how many there are, if known.
        attention: False leaves the cross-attention over windows out, to see what it does.
        window, hop: seconds of a window, and from one to the next.
        keep: a file (.npz) for what was heard so far, of sound files only: a call that was stopped goes on
            from there. It stays, and serves later calls for the same recording.
        progress: called with (done, total) samples.

    Raises:
        AudioError: unreadable, too short, silent or NaN. A file that is damaged later on is diarized up to
            there; ``damage`` then says what is wrong with it.
        SeparativeError: fewer than one speaker.
    """
    if speakers is not None and speakers < 1:
        raise SeparativeError(f"speakers {speakers}: a recording has one or more")
    choose(channels, get_args(ChannelPolicy), "channel policy", AudioError)
    name, seconds, count = _header(source)
    if seconds < MIN_SPEECH:
        raise AudioError(f"{name} lasts {seconds:.2f} s; an embedding needs {MIN_SPEECH} s of speech")
    grid = WindowGrid.of(model, window, hop)
    blocks, held = Blocks(source, model.rate, channels), None
    if keep is not None and not isinstance(source, tuple):
        held = Keep(Path(keep), _fingerprint(model, Path(source), channels, grid))
    views = hear(model, blocks, grid, round(seconds * model.rate), keep=held, progress=progress)
    if not views.activity_WCS.any():
        raise AudioError(f"{name} is silent throughout; an embedding needs {MIN_SPEECH} s of speech")
    found, label_WC = assign_speakers(model, views, speakers=speakers, attention=attention)
    return Diarization(
        name,
        source,
        model.rate,
        views.samples / model.rate,
        count,
        channels,
        model.segment_seconds,
        found,
        views,
        label_WC,
        blocks.damage,
    )


def assign_speakers(
    model: SeparativeEncoder,
    views: Views,
    *,
    speakers: int | None = None,
    attention: bool = True,
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """The speakers of a recording that was heard, and whose each stream of each window is [W,C].

    Arguments as of :func:`diarize`.
    """
    active_WCS = views.activity_WCS > 0.5
    alone_WCS = active_WCS & (active_WCS.sum(1, keepdims=True) == 1)
    speech_WC, alone_WC = (x.sum(-1) * np.float32(model.segment_seconds) for x in (active_WCS, alone_WCS))
    # Who is there, each window says of itself: answers from one memory draw speakers together. Whose a stream
    # is, answers then say better (docs/experiments.md).
    query_WCE = views.query_WCE
    attended_WCE = None
    if attention and model.cross is not None:
        attended_WCE = answers(model, query_WCE.reshape(-1, query_WCE.shape[2]), views).reshape(
            query_WCE.shape
        )
    label_WC, _ = cluster_speakers(
        query_WCE,
        speech_WC,
        alone_WC,
        same=same_speaker_cosine(model),
        speakers=speakers,
        attended_WCE=attended_WCE,
    )
    return _speakers(model, views, label_WC, speech_WC, attention)


def same_speaker_cosine(model: SeparativeEncoder) -> float:
    """Cosine above which two voices are one: what the model's card says; else where its calibration has no
    evidence either way; else SAME."""
    calibration = model.card.get("calibration")
    even = SAME if calibration is None else -calibration["offset"] / calibration["scale"]
    return float(model.card.get("same", even))


@dataclass(frozen=True)
class Match:
    """An enrolled speaker beside one of a recording: the cosine, and what it is worth by the model's
    calibration (None without one): log-likelihood ratio in nats and probability at the prior."""

    name: str
    score: float
    llr: float | None
    probability: float | None


def identify(
    model: SeparativeEncoder,
    meeting: Diarization,
    enrolled: Mapping[str, Audio | Sequence[Audio]],
    *,
    prior: float = 0.5,
    channels: ChannelPolicy = "mean",
) -> list[list[Match]]:
    """Every enrolled speaker beside each speaker of a recording, the likeliest first.

    Nobody beside speakers who speak for less than MIN_SPEECH: so little is no evidence.

    Args:
        enrolled: recordings of each by name, one or several; the most talkative voice in each counts.
        prior: probability that an enrolled speaker is one of the recording's, before listening.

    Raises:
        AudioError: a recording cannot be taken or holds too little speech.
        SeparativeError: a prior that is not between 0 and 1.
    """
    log_odds(prior)
    voices = {name: embed_side(model, recordings, channels) for name, recordings in enrolled.items()}
    found = []
    for speaker in meeting.speakers:
        matches = []
        for name, embed_E in voices.items() if speaker.speech_seconds >= MIN_SPEECH else ():
            score = float(embed_E @ speaker.embedding_E)
            llr, probability, _ = evidence(model, score, prior) or (None, None, None)
            matches.append(Match(name, score, llr, probability))
        found.append(sorted(matches, key=lambda match: -match.score))
    return found


def describe_diarization(
    meeting: Diarization, matches: Sequence[Sequence[Match]] | None = None, *, embeddings: bool = True
) -> dict[str, Any]:
    """A meeting as plain numbers and strings for JSON; ``matches`` as of :func:`identify`."""
    speakers: list[dict[str, Any]] = []
    for number, speaker in enumerate(meeting.speakers):
        speakers.append(
            {
                "name": speaker.name,
                "speech_seconds": round(speaker.speech_seconds, 3),
                "turns": [[round(turn.start, 3), round(turn.end, 3)] for turn in speaker.turns],
                **({"embedding": [float(x) for x in speaker.embedding_E]} if embeddings else {}),
                **({"matches": [asdict(match) for match in matches[number]]} if matches else {}),
            }
        )
    return {
        "recording": meeting.name,
        "rate": meeting.rate,
        "seconds": round(meeting.seconds, 3),
        "channels": meeting.channels,
        "channel_policy": meeting.channel_policy,
        "speakers": speakers,
    }


def _speakers(
    model: SeparativeEncoder,
    views: Views,
    label_WC: NDArray[np.int64],
    speech_WC: Floats,
    attention: bool,
) -> tuple[tuple[Speaker, ...], NDArray[np.int64]]:
    """The speakers, the most talkative first, and labels [W,C] in their order."""
    grid, count = views.grid, int(label_WC.max(initial=-1)) + 1
    query_KE = np.zeros((count, views.query_WCE.shape[2]), np.float32)
    for k in range(count):
        query_KE[k] = mean_embedding(views.query_WCE[label_WC == k], speech_WC[label_WC == k])
    embed_KE = answers(model, query_KE, views, attention=attention) if count else query_KE
    activity_KT = _activity(views, label_WC, count)
    length, end, shift = grid.segment / model.rate, views.samples / model.rate, grid.lead / model.rate
    turns_K = [
        [(max(0.0, t.start - shift), min(end, t.end - shift)) for t in turns]
        for turns in (turns_of(a_T[None] > 0.5, [""], length, inset=INSET * length) for a_T in activity_KT)
    ]
    order = sorted(range(count), key=lambda k: sum(start - stop for start, stop in turns_K[k]))
    speakers: list[Speaker] = []
    for k in order:
        name = f"speaker{len(speakers) + 1}"
        turns = tuple(Turn(name, start, stop) for start, stop in turns_K[k])
        speakers.append(Speaker(name, turns, embed_KE[k], activity_KT[k]))
    rank = np.array([*np.argsort(order), -1], np.int64)
    return tuple(speakers), rank[label_WC]


def _activity(views: Views, label_WC: NDArray[np.int64], count: int) -> Floats:
    """Probability of speech [K,T] of each speaker in each segment of the recording.

    Windows overlap: each segment is judged by all, those in whose middle it lies above all.
    """
    grid, frames = views.grid, views.grid.segments(views.samples)
    weight_S = np.minimum(np.arange(grid.window) + 1, np.arange(grid.window, 0, -1)).astype(np.float32)
    sum_KT = np.zeros((count, frames + grid.window), np.float32)
    weight_T = np.zeros(frames + grid.window, np.float32)
    for w, label_C in enumerate(label_WC):
        place = slice(w * grid.hop, w * grid.hop + grid.window)
        weight_T[place] += weight_S
        for k in set(label_C[label_C >= 0].tolist()):
            sum_KT[k, place] += weight_S * views.activity_WCS[w, label_C == k].max(0)
    sum_KT /= np.maximum(weight_T, 1e-9)
    return sum_KT[:, :frames]


def _header(source: Audio) -> tuple[str, float, int]:
    """Name, seconds and channels."""
    if isinstance(source, tuple):
        wave, rate = source
        return "the waveform", wave.shape[-1] / rate, 1 if wave.ndim == 1 else len(wave)
    header = audio.info(source)
    return str(source), header.seconds, header.channels


def _fingerprint(model: SeparativeEncoder, path: Path, channels: ChannelPolicy, grid: WindowGrid) -> str:
    """What the windows' figures depend on, in one string."""
    return f"{model.card.get('sha256')} {path.resolve()} {audio.stamp(path)} {channels} {grid}"
