"""Whole recordings: who spoke when, how many there were, what their embeddings and voices are worth.

Judged on simulated conversations of speakers never trained on, where all of it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from separative import audio
from separative.corpora.manifest import Corpus, Utterance
from separative.errors import SeparativeError, sentence
from separative.evaluation.bootstrap import SpeakerBootstrap, interval
from separative.evaluation.results import POOLED, Results, Row
from separative.evaluation.rows import errors_by_part
from separative.evaluation.trials import refuse_shared
from separative.inference.diarize import Diarization, assign_speakers, diarize
from separative.inference.separated import voices
from separative.inference.verify import embed_side
from separative.inference.windows import answers
from separative.metrics import DiarizationError, diarization_error, eer, jaccard_error, match, si_sdr, swaps
from separative.mixtures import Conversation, ConversationConfig, Conversations
from separative.rttm import active_frames
from separative.types import Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

FRAME = 0.01
ENROL_SECONDS = 4.0


@dataclass
class Judged:
    """Figures of one way of listening to one conversation."""

    error: DiarizationError
    jaccard: float
    swaps: int
    heard: int
    there: int
    improvement_K: list[float] = field(default_factory=list)
    scores: list[tuple[float, bool]] = field(default_factory=list)
    windows: list[tuple[float, bool]] = field(default_factory=list)


def evaluate_meetings(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    name: str = "trained",
    split: str = "dev",
    noise: Corpus | None = None,
    speakers: Sequence[int] = (2, 3, 4),
    overlaps: Sequence[float] = (0.0, 0.2, 0.4),
    count: int = 10,
    seconds: float = 600.0,
    snr_db: tuple[float, float] | None = None,
    rooms: int = 0,
    seed: int = 0,
    resamples: int = 500,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Diarization errors, numbers of speakers, swaps, separation and verification on simulated conversations.

    Rows are the model as :func:`separative.inference.diarize` uses it, the same without cross-attention over
    windows, and the same told the number of speakers. ``EER`` compares each speaker's embedding over the whole
    recording with 4 s of clean enrolment of every speaker of the corpus, from utterances that are in no
    conversation; the likeliest speaker of a recording counts. ``window EER`` compares what every window says
    of each of its speakers in the same way: who is this, now? Intervals are over conversations, also those
    of differences to the model as it is used.

    Args:
        model: in evaluation mode; ``name`` is its name in the table.
        corpus, noise: of both, the utterances of ``split`` are used.
        speakers, overlaps: every number with every share of overlap is a condition.
        count, seconds: conversations of each condition, and the length of one.
        snr_db, rooms: see :class:`ConversationConfig`.
        resamples: of the bootstrap.
        cache: folder in which decoded speech and rooms are kept.
        progress: called with (done, total) conversations.

    Raises:
        CorpusError: too few speakers, no noise where it is asked for.
        SeparativeError: speakers that the model was trained on, a number of speakers or a share out of range.
    """
    corpus = corpus.split(split)
    corpus = corpus.readable.filter(lambda utterance: utterance.speaker is not None)
    refuse_shared(corpus.speakers, model.training_speakers)
    enrol, rest = _reserve(corpus)
    enrolled = {
        speaker: embed_side(
            model, [audio.read(u.path, model.rate, start=u.start, seconds=u.seconds) for u in utterances]
        )
        for speaker, utterances in enrol.items()
    }
    corpus_of = {speaker: utterances[0].corpus for speaker, utterances in enrol.items()}
    clips = None if noise is None else noise.split(split)
    folder = None if cache is None else Path(cache)
    found: dict[str, dict[str, list[Judged]]] = {}
    conditions = [(k, share) for k in speakers for share in overlaps]
    for number, (k, share) in enumerate(conditions):
        try:
            config = ConversationConfig(
                rate=model.rate, seconds=seconds, speakers=k, overlap=share, snr_db=snr_db, rooms=rooms
            )
        except ValidationError as error:
            raise SeparativeError(sentence(error, ConversationConfig)) from error
        source = Conversations(rest, config, seed=seed, noise=clips, cache=folder)
        for index in range(count):
            talk = source.conversation(index)
            for row, judged in _judge(model, talk, name, enrolled, corpus_of).items():
                ways = found.setdefault(f"{k} speakers, {share:.0%}", {})
                ways.setdefault(row, []).append(judged)
            if progress is not None:
                progress(number * count + index + 1, len(conditions) * count)
    draws = SpeakerBootstrap([str(i) for i in range(count)], resamples, seed)
    rows: list[Row] = []
    for condition, ways in found.items():
        for way, some in ways.items():
            rows += _rows(some, way, condition, draws, seed)
        rows += _difference_rows(ways, condition, draws, seed)
    settings = {
        "split": split,
        "seconds": seconds,
        "count": count,
        "seed": seed,
        "snr_db": snr_db,
        "rooms": rooms,
        "speakers": len(enrolled),
    }
    return Results(tuple(rows), settings)


def _reserve(corpus: Corpus) -> tuple[dict[str, list[Utterance]], Corpus]:
    """Utterances to enrol each speaker with, ENROL_SECONDS or a little more, at most half; and their others.

    A speaker of a single utterance is left out.
    """
    enrol: dict[str, list[Utterance]] = {}
    rest: list[Utterance] = []
    for speaker, utterances in corpus.by_speaker.items():
        if len(utterances) < 2:
            continue
        seconds = 0.0
        mine: list[Utterance] = []
        for utterance in utterances:
            if seconds < ENROL_SECONDS and len(mine) < len(utterances) // 2:
                mine.append(utterance)
                seconds += utterance.seconds
            else:
                rest.append(utterance)
        enrol[speaker] = mine
    return enrol, Corpus(tuple(rest))


def _judge(
    model: SeparativeEncoder,
    talk: Conversation,
    name: str,
    enrolled: dict[str, NDArray[np.float32]],
    corpus_of: dict[str, str],
) -> dict[str, Judged]:
    mix_N, source_KN = talk.render(0, talk.samples)
    frames = round(talk.samples / talk.rate / FRAME)
    reference_KT = active_frames(talk.speech(), talk.names, frames, FRAME)
    # Of a short conversation, not all who were planned get a turn.
    spoke_K = np.flatnonzero(reference_KT.any(1))
    there = {talk.names[k] for k in spoke_K}
    whole = diarize(model, (mix_N, talk.rate))
    ways = {
        name: whole,
        f"{name}, no attention over windows": _again(model, whole, attention=False),
        f"{name}, number of speakers known": _again(model, whole, speakers=len(there)),
    }
    place = corpus_of[talk.names[0]]
    near = {speaker: embed_E for speaker, embed_E in enrolled.items() if corpus_of[speaker] == place}
    judged, said = {}, {}
    for row, meeting in ways.items():
        names = [speaker.name for speaker in meeting.speakers]
        said_CT = said[row] = active_frames(meeting.turns, names, frames, FRAME)
        judged[row] = Judged(
            diarization_error(reference_KT, said_CT, FRAME),
            jaccard_error(reference_KT, said_CT),
            swaps(reference_KT, said_CT, FRAME),
            len(names),
            len(there),
        )
        for speaker, embed_E in near.items():
            # Where nobody is found, those who are there are missed.
            score = max((float(s.embedding_E @ embed_E) for s in meeting.speakers), default=-1.0)
            judged[row].scores.append((score, speaker in there))
    there_WC = _who(whole, reference_KT)
    heard_WC = there_WC >= 0
    speaker_U = np.array(talk.names)[there_WC[heard_WC]]
    ways_of_windows = ((name, True), (f"{name}, no attention over windows", False))
    for row, attention in ways_of_windows if heard_WC.any() else ():
        embed_UE = answers(model, whole.views.query_WCE[heard_WC], whole.views, attention=attention)
        for speaker, embed_E in near.items():
            target_U = speaker_U == speaker
            judged[row].windows += zip((embed_UE @ embed_E).tolist(), target_U.tolist(), strict=True)
    # SystemOutput once: the way of listening changes whose they are, not what they sound like.
    owner = dict(zip(*(x.tolist() for x in match(reference_KT, said[name])), strict=True))
    voice_CN = np.concatenate(list(voices(model, whole)), axis=1)
    for k in spoke_K:
        before = float(si_sdr(mix_N, source_KN[k]))
        # A speaker who was not found sounds as in the mixture.
        after = float(si_sdr(voice_CN[owner[k]], source_KN[k])) if k in owner else before
        judged[name].improvement_K.append(after - before)
    return judged


def _who(meeting: Diarization, reference_KT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which speaker each stream of each window is [W,C]: who speaks most while it does; −1 where it does not
    speak for half of the window, or nobody does."""
    grid, active_WCS = meeting.views.grid, meeting.views.activity_WCS > 0.5
    # The frame in the middle of each segment of each window.
    segment_WS = grid.hop * np.arange(len(active_WCS))[:, None] + np.arange(grid.window)
    second_WS = ((segment_WS + 0.5) * grid.segment - grid.lead) / meeting.rate
    inside_WS = (second_WS >= 0) & (second_WS < reference_KT.shape[1] * FRAME)
    frame_WS = (second_WS / FRAME).astype(int).clip(0, reference_KT.shape[1] - 1)
    speaks_KWS = reference_KT[:, frame_WS] & inside_WS
    shared_WCK = np.einsum("wcs,kws->wck", active_WCS.astype(np.float32), speaks_KWS.astype(np.float32))
    heard_WC = (active_WCS.sum(-1) >= grid.window / 2) & (shared_WCK.max(-1) > 0)
    return np.where(heard_WC, shared_WCK.argmax(-1), -1)


def _again(
    model: SeparativeEncoder, whole: Diarization, *, speakers: int | None = None, attention: bool = True
) -> Diarization:
    found, label_WC = assign_speakers(model, whole.views, speakers=speakers, attention=attention)
    return replace(whole, speakers=found, label_WC=label_WC)


def _rows(some: Sequence[Judged], way: str, condition: str, draws: SpeakerBootstrap, seed: int) -> list[Row]:
    """Figures with intervals over conversations."""
    each_N = np.arange(len(some))

    def row(metric: str, figures: tuple[float, float, float], count: int) -> Row:
        return Row(way, condition, metric, *figures, count, POOLED, seed)

    total_N = np.array([one.error.total for one in some])
    rows = [
        row(metric, draws.ratio(100 * part_N, total_N, each_N), len(some))
        for metric, part_N in errors_by_part([one.error for one in some]).items()
    ]
    means = {
        "JER": [100 * one.jaccard for one in some],
        "swaps": [float(one.swaps) for one in some],
        "miscounted": [float(abs(one.heard - one.there)) for one in some],
        "count right": [100.0 * (one.heard == one.there) for one in some],
    }
    if some[0].improvement_K:
        means["SI-SDRi"] = [float(np.mean(one.improvement_K)) for one in some]
    rows += [row(metric, draws.mean(np.array(value), each_N), len(some)) for metric, value in means.items()]
    trials = [one.scores for one in some]
    if (found := _equal_error(trials, draws)) is not None:
        value, value_R = found
        rows.append(row("EER", (value, *interval(value_R, value)), sum(map(len, trials))))
    return rows


def _difference_rows(
    ways: dict[str, list[Judged]], condition: str, draws: SpeakerBootstrap, seed: int
) -> list[Row]:
    """EER of single windows; and the differences of that and of DER to the first way's."""
    rows: list[Row] = []
    wrong = {way: errors_by_part([one.error for one in some])["DER"] for way, some in ways.items()}
    usual, *others = ways
    total_N = np.array([one.error.total for one in ways[usual]])
    for way in others:
        figures = draws.ratio(100 * (wrong[way] - wrong[usual]), total_N, np.arange(len(total_N)))
        rows.append(Row(way, condition, "DER difference", *figures, len(total_N), POOLED, seed))
    heard: tuple[float, NDArray[np.float64]] | None = None
    for way, some in ways.items():
        trials = [one.windows for one in some]
        if (found := _equal_error(trials, draws)) is None:
            continue
        metrics = {"window EER": found}
        if heard is None:
            heard = found
        else:
            metrics["window EER difference"] = found[0] - heard[0], found[1] - heard[1]
        rows += [
            Row(way, condition, metric, value, *interval(value_R, value), sum(map(len, trials)), POOLED, seed)
            for metric, (value, value_R) in metrics.items()
        ]
    return rows


def _equal_error(
    trials: Sequence[Sequence[tuple[float, bool]]], draws: SpeakerBootstrap
) -> tuple[float, NDArray[np.float64]] | None:
    """EER in % over the trials of all conversations, and in each resample; None without both kinds."""
    trial_N = np.array([n for n, some in enumerate(trials) for _ in some])
    score_N = np.array([score for some in trials for score, _ in some])
    target_N = np.array([target for some in trials for _, target in some], bool)
    if not target_N.any() or target_N.all():
        return None
    drawn_R = np.array([100 * eer(score_N, target_N, times_N[trial_N]) for times_N in draws.times_RP])
    return 100 * eer(score_N, target_N), drawn_R
