"""Evaluation on simulated conversations of speakers that the model was not trained on.

The reference is known: who speaks when, and the waveform of each speaker. Measured are diarization errors,
the number of speakers, swaps, separation, and verification with the embeddings of speakers and windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import SeparativeError, validation_message
from separative.evaluation.bootstrap import SpeakerBootstrap
from separative.evaluation.meeting_rows import ConversationFigures, Scores, meeting_rows
from separative.evaluation.oracles import shared_segments
from separative.evaluation.references import FRAME
from separative.evaluation.results import Results
from separative.evaluation.trials import check_disjoint_speakers
from separative.inference.diarize import Diarization, assign_speakers, diarize
from separative.inference.separated import speaker_waveforms
from separative.inference.verify import embed_speaker
from separative.inference.windows import WindowOutputs, attend_recording
from separative.metrics import count_swaps, diarization_error, jaccard_error, match_speakers, si_sdr
from separative.mixtures import Conversation, ConversationConfig, ConversationSimulator
from separative.rttm import turns_to_frames
from separative.types import Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

ENROL_SECONDS = 4.0


@dataclass(frozen=True)
class Enrolment:
    """Embeddings [E] and corpora of the enrolled speakers, by name.

    >>> enrolment = Enrolment({"ann": np.ones(1), "bob": np.ones(1)}, {"ann": "a", "bob": "b"})
    >>> list(enrolment.within("a"))
    ['ann']
    """

    embeddings: Mapping[str, Wave]
    corpus_of: Mapping[str, str]

    def within(self, corpus: str) -> dict[str, Wave]:
        """Embeddings of the speakers of one corpus."""
        return {name: e for name, e in self.embeddings.items() if self.corpus_of[name] == corpus}


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
    """Measure diarization, speaker counting, separation and verification on simulated conversations.

    There are rows for the model as :func:`separative.inference.diarize` uses it, for the model without
    cross-attention over windows, and for the model with the number of speakers given.

    ``EER`` compares every enrolled speaker of the corpus with the most similar speaker of the conversation.
    The embeddings are those over the whole recording. Enrolment uses 4 s of clean speech from utterances that
    are in no conversation. ``window EER`` compares the enrolled speakers with every stream of every window.
    Intervals are over conversations, also those of the differences to the first row.

    Args:
        model: in evaluation mode.
        corpus, noise: speech and noise; only the utterances of ``split`` are used.
        name: name of the model in the tables.
        split: split of both corpora.
        speakers, overlaps: numbers of speakers and shares of overlap; each pair of them is a condition.
        count: number of conversations in each condition.
        seconds: length of a conversation.
        snr_db, rooms: see :class:`separative.mixtures.ConversationConfig`.
        seed: random seed.
        resamples: number of bootstrap resamples.
        cache: folder in which decoded speech and rooms are stored.
        progress: called with (done, total) conversations.

    Raises:
        CorpusError: too few speakers, missing noise, or speakers that the model was trained on.
        SeparativeError: an invalid number of speakers or share of overlap.

    >>> from separative import load_model
    >>> from separative.corpora import load_corpus
    >>> settings = {"speakers": [2], "overlaps": [0.2], "count": 1, "seconds": 8.0, "resamples": 5}
    >>> results = evaluate_meetings(load_model(), load_corpus("speech"), **settings)
    >>> results.find("DER", "2 speakers, 20%").trials
    1
    """
    corpus = corpus.split(split).readable.filter(lambda utterance: utterance.speaker is not None)
    check_disjoint_speakers(corpus.speakers, model.training_speakers)
    reserved, rest = _reserve(corpus)
    enrolment = _enrol(model, reserved)
    clips = None if noise is None else noise.split(split)
    folder = None if cache is None else Path(cache)
    conditions = [(k, share) for k in speakers for share in overlaps]
    figures: dict[str, dict[str, list[ConversationFigures]]] = {}
    done = 0
    for k, share in conditions:
        try:
            config = ConversationConfig(
                rate=model.rate, seconds=seconds, speakers=k, overlap=share, snr_db=snr_db, rooms=rooms
            )
        except ValidationError as error:
            raise SeparativeError(validation_message(error, ConversationConfig)) from error
        simulator = ConversationSimulator(rest, config, seed=seed, noise=clips, cache=folder)
        by_variant = figures.setdefault(f"{k} speakers, {share:.0%}", {})
        for index in range(count):
            for variant, measured in _measure(model, simulator.conversation(index), name, enrolment).items():
                by_variant.setdefault(variant, []).append(measured)
            done += 1
            if progress is not None:
                progress(done, len(conditions) * count)
    settings = {
        "split": split,
        "seconds": seconds,
        "count": count,
        "seed": seed,
        "snr_db": snr_db,
        "rooms": rooms,
        "speakers": len(enrolment.embeddings),
    }
    bootstrap = SpeakerBootstrap([str(i) for i in range(count)], resamples, seed)
    return Results(tuple(meeting_rows(figures, bootstrap, seed)), settings)


def _reserve(corpus: Corpus) -> tuple[dict[str, list[Utterance]], Corpus]:
    """Split the utterances into those for enrolment, by speaker, and those for conversations.

    Enrolment gets the first utterances of a speaker until they last ENROL_SECONDS, but at most half of them.
    Speakers with one utterance are left out.
    """
    reserved: dict[str, list[Utterance]] = {}
    rest: list[Utterance] = []
    for speaker, utterances in corpus.by_speaker.items():
        if len(utterances) < 2:
            continue
        seconds = 0.0
        reserved[speaker] = []
        for utterance in utterances:
            if seconds < ENROL_SECONDS and len(reserved[speaker]) < len(utterances) // 2:
                reserved[speaker].append(utterance)
                seconds += utterance.seconds
            else:
                rest.append(utterance)
    return reserved, Corpus(tuple(rest))


def _enrol(model: SeparativeEncoder, reserved: Mapping[str, Sequence[Utterance]]) -> Enrolment:
    embeddings = {
        speaker: embed_speaker(model, [(u.read(model.rate), model.rate) for u in utterances])
        for speaker, utterances in reserved.items()
    }
    return Enrolment(embeddings, {speaker: utterances[0].corpus for speaker, utterances in reserved.items()})


def _measure(
    model: SeparativeEncoder, conversation: Conversation, name: str, enrolment: Enrolment
) -> dict[str, ConversationFigures]:
    """Figures of all variants on one conversation."""
    mix_N, source_KN = conversation.render(0, conversation.samples)
    frames = round(conversation.samples / conversation.rate / FRAME)
    reference_KT = turns_to_frames(conversation.speech_turns(), conversation.names, frames, FRAME)
    # In a short conversation, some planned speakers get no turn.
    present_K = np.flatnonzero(reference_KT.any(1))
    present = {conversation.names[k] for k in present_K}
    diarization = diarize(model, (mix_N, conversation.rate))
    without_attention = f"{name}, no attention over windows"
    variants = {
        name: diarization,
        without_attention: _assign_again(model, diarization, attention=False),
        f"{name}, number of speakers known": _assign_again(model, diarization, speakers=len(present)),
    }
    enrolled = enrolment.within(enrolment.corpus_of[conversation.names[0]])
    figures = {
        variant: _diarization_figures(result, reference_KT, present, enrolled)
        for variant, result in variants.items()
    }
    window_speaker_WC = _window_speakers(diarization.windows, diarization.rate, reference_KT)
    names_K = np.array(conversation.names)
    for variant, attention in ((name, True), (without_attention, False)):
        figures[variant].window_scores += _window_scores(
            model, diarization.windows, window_speaker_WC, names_K, enrolled, attention=attention
        )
    # Separation is measured once: the variants assign the same separated streams to speakers differently.
    estimate_CN = np.concatenate(list(speaker_waveforms(model, diarization)), axis=1)
    found_CT = _found_frames(diarization, frames)
    figures[name].improvements += _improvements(
        mix_N, source_KN, estimate_CN, _matches(reference_KT, found_CT), present_K
    )
    return figures


def _assign_again(
    model: SeparativeEncoder, diarization: Diarization, *, speakers: int | None = None, attention: bool = True
) -> Diarization:
    found, window_speaker_WC = assign_speakers(
        model, diarization.windows, speakers=speakers, attention=attention
    )
    return replace(diarization, speakers=found, window_speaker=window_speaker_WC)


def _found_frames(diarization: Diarization, frames: int) -> NDArray[np.bool_]:
    """Which frames each found speaker speaks in [C,T]."""
    return turns_to_frames(diarization.turns, [s.name for s in diarization.speakers], frames, FRAME)


def _diarization_figures(
    diarization: Diarization,
    reference_KT: NDArray[np.bool_],
    present: set[str],
    enrolled: Mapping[str, Wave],
) -> ConversationFigures:
    """Compare a diarization with the reference, and its speakers with the enrolled ones.

    ``present``: names of the speakers who speak.
    """
    found_CT = _found_frames(diarization, reference_KT.shape[1])
    figures = ConversationFigures(
        diarization_error(reference_KT, found_CT, FRAME),
        jaccard_error(reference_KT, found_CT),
        count_swaps(reference_KT, found_CT, FRAME),
        len(diarization.speakers),
        len(present),
    )
    for speaker, embedding_E in enrolled.items():
        # If no speaker was found, all who speak are missed: the score is the lowest possible cosine.
        score = max((float(s.embedding @ embedding_E) for s in diarization.speakers), default=-1.0)
        figures.scores.append((score, speaker in present))
    return figures


def _window_speakers(windows: WindowOutputs, rate: int, reference_KT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the speaker of each stream in each window [W,C]: who speaks most while the stream is active.

    It is −1 if the stream is active for less than half of the window, or if no speaker speaks meanwhile.
    """
    shared_WCK = shared_segments(windows, rate, reference_KT)
    active_WC = (windows.activity > 0.5).sum(-1)
    known_WC = (active_WC >= windows.grid.window / 2) & (shared_WCK.max(-1) > 0)
    return np.where(known_WC, shared_WCK.argmax(-1), -1)


def _window_scores(
    model: SeparativeEncoder,
    windows: WindowOutputs,
    window_speaker_WC: NDArray[np.int64],
    names_K: NDArray[np.str_],
    enrolled: Mapping[str, Wave],
    *,
    attention: bool,
) -> Scores:
    """Scores of all streams with a known speaker in all windows, against each enrolled speaker in turn."""
    known_WC = window_speaker_WC >= 0
    if not known_WC.any():
        return []
    speaker_U = names_K[window_speaker_WC[known_WC]]
    embedding_UE = attend_recording(model, windows.query[known_WC], windows, attention=attention)
    scores: Scores = []
    for speaker, embedding_E in enrolled.items():
        scores += zip((embedding_UE @ embedding_E).tolist(), (speaker_U == speaker).tolist(), strict=True)
    return scores


def _matches(reference_KT: NDArray[np.bool_], found_CT: NDArray[np.bool_]) -> dict[int, int]:
    """The found speaker that matches each speaker of the reference."""
    speaker_M, found_M = match_speakers(reference_KT, found_CT)
    return dict(zip(speaker_M.tolist(), found_M.tolist(), strict=True))


def _improvements(
    mix_N: Wave,
    source_KN: Wave,
    estimate_CN: Wave,
    matches: Mapping[int, int],
    present_K: NDArray[np.intp],
) -> list[float]:
    """SI-SDR improvement in dB of each speaker who speaks; 0 for a speaker who was not found."""
    improvements = []
    for k in present_K:
        before = float(si_sdr(mix_N, source_KN[k]))
        after = float(si_sdr(estimate_CN[matches[k]], source_KN[k])) if k in matches else before
        improvements.append(after - before)
    return improvements
