"""Drawing a trial list from a corpus."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import DEFAULT_CONDITIONS, MAX_INTERFERERS, Condition, parse_condition
from separative.evaluation.trials import InterfererSpec, RoomSettings, Trial, TrialList, TrialSide
from separative.mixtures.rooms import EVALUATION_SEED

LEVELS_DB = (-35.0, -18.0)
# Manifests round times to this many seconds.
ROUNDED_SECONDS = 0.01

Pool = Mapping[str, tuple[Utterance, ...]]
"""The utterances of each speaker of one corpus."""


def build_trials(
    corpus: Corpus,
    *,
    noise: Corpus | None = None,
    conditions: Sequence[str] = DEFAULT_CONDITIONS,
    enrol: str = "clean",
    seed: int = 0,
    seconds: float = 4.0,
    enrolments: int = 2,
    tests: int = 3,
    rooms: RoomSettings | None = None,
) -> TrialList:
    """Draw a trial list: every enrolment side against every test side of the same corpus, in every condition.

    Each speaker gets up to ``enrolments`` + ``tests`` sides, and no utterance is in two of them. A speaker
    without enough speech for an enrolment and a test is left out. If cuts of one file overlap, only the first
    is used. Interferers are other such speakers of the corpus. A trial is left out if its sides share another
    speaker than the compared one, for example if the enrolled speaker is an interferer of the test side.
    Draws depend on the seed and the side, not on the condition.

    Args:
        corpus: speech with speaker labels.
        noise: noise clips, for conditions with noise.
        conditions: conditions of the test sides.
        enrol: condition of the enrolment sides.
        seed: random seed.
        seconds: length of every side.
        enrolments, tests: largest number of sides of each speaker.
        rooms: simulated rooms; by default rooms of ``seed`` that no training draws.

    Raises:
        CorpusError: too few speakers have enough speech, or a condition needs noise and there is none.
        SeparativeError: a condition is unknown or longer than ``seconds``.

    >>> from separative.corpora import load_corpus
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["clean"], enrolments=1, tests=1)
    >>> len(trials.enrolments), len(trials.tests), len(trials.trials)
    (4, 4, 16)
    """
    test_as, enrol_as = [parse_condition(name) for name in conditions], parse_condition(enrol)
    _check_conditions([*test_as, enrol_as], seconds, noise)
    rooms = rooms or RoomSettings(seed=EVALUATION_SEED + seed)
    # Two compared speakers, and the interferers of both sides, must all differ.
    needed = 2 + len(enrol_as.sir_db) + max(len(c.sir_db) for c in test_as)
    noise = None if noise is None else noise.readable
    pools: dict[str, dict[str, tuple[Utterance, ...]]] = {}
    for speaker, utterances in _without_overlaps(corpus.readable).by_speaker.items():
        pools.setdefault(utterances[0].corpus, {})[speaker] = utterances
    enrol_sides: list[TrialSide] = []
    test_sides: list[TrialSide] = []
    for name, pool in sorted(pools.items()):
        groups = {s: _group_utterances(s, pool[s], seed, seconds, enrolments, tests) for s in pool}
        speakers = {s: pool[s] for s in pool if groups[s]}
        if len(speakers) < needed:
            continue
        for speaker in speakers:
            for (kind, number), chosen in groups[speaker].items():
                side_id = f"{_without_spaces(speaker)}:{kind}{number}"
                side = _draw_side(side_id, speaker, name, chosen, speakers, noise, rooms, seed, seconds)
                (enrol_sides if kind == "e" else test_sides).append(side)
    if not enrol_sides:
        names = ", ".join(sorted(pools)) or "no labelled speakers"
        raise CorpusError(
            f"cannot draw trials: a corpus needs at least {needed} speakers with two sides of {seconds:g} s "
            f"from different utterances; found: {names}"
        )
    trials = _pair_sides(enrol_sides, test_sides, enrol_as, test_as)
    return TrialList(
        seed, seconds, enrol, tuple(conditions), tuple(enrol_sides), tuple(test_sides), trials, rooms
    )


def _check_conditions(conditions: Sequence[Condition], seconds: float, noise: Corpus | None) -> None:
    for condition in conditions:
        if (condition.seconds or 0.0) > seconds:
            raise SeparativeError(
                f"condition '{condition.name}' is {condition.seconds:g} s long, but sides are {seconds:g} s; "
                "use longer sides or leave the condition out"
            )
    if noise is None and any(condition.snr_db is not None for condition in conditions):
        raise CorpusError("a condition with noise needs a noise corpus; give one or leave the condition out")


def _pair_sides(
    enrolments: Sequence[TrialSide],
    tests: Sequence[TrialSide],
    enrol_as: Condition,
    conditions: Sequence[Condition],
) -> tuple[Trial, ...]:
    """All pairs of sides of one corpus that share no speaker other than the compared one."""
    return tuple(
        Trial(left.speaker == right.speaker, left.id, right.id, condition.name)
        for condition in conditions
        for left in enrolments
        for right in tests
        if left.corpus == right.corpus
        and left.speakers_present(len(enrol_as.sir_db)) & right.speakers_present(len(condition.sir_db))
        == {left.speaker} & {right.speaker}
    )


def _without_spaces(speaker: str) -> str:
    """The speaker's name with white space quoted. Different names stay different."""
    return quote(speaker, safe="/@.,+=")


def _without_overlaps(corpus: Corpus) -> Corpus:
    """The corpus without cuts that overlap an earlier cut of the same file."""
    kept: dict[Path, list[Utterance]] = {}
    for cut in sorted(corpus, key=lambda u: u.start):
        before = kept.setdefault(cut.path, [])
        if not before or cut.start >= before[-1].start + before[-1].seconds - ROUNDED_SECONDS:
            before.append(cut)
    names = {u.id for cuts in kept.values() for u in cuts}
    return corpus.filter(lambda u: u.id in names)


def _group_utterances(
    speaker: str, utterances: Sequence[Utterance], seed: int, seconds: float, enrolments: int, tests: int
) -> dict[tuple[str, int], tuple[Utterance, ...]]:
    """Disjoint utterances for as many (kind, number) as there is speech for; empty without both kinds."""
    order = np.random.default_rng([seed, zlib.crc32(speaker.encode())]).permutation(len(utterances))
    rest = iter([utterances[i] for i in order])
    # Enrolments and tests alternate, so that a speaker with little speech still gets one of each.
    limits = {"e": enrolments, "t": tests}
    wanted = [(kind, n) for n in range(max(limits.values())) for kind in limits if n < limits[kind]]
    groups = {}
    for key in wanted:
        chosen = _take(rest, seconds)
        if not chosen:
            break
        groups[key] = chosen
    return groups if len(groups) > 1 else {}


def _take(rest: Iterator[Utterance], seconds: float) -> tuple[Utterance, ...]:
    """The next utterances that together last at least ``seconds``; empty if there are not enough."""
    taken: list[Utterance] = []
    for utterance in rest:
        taken.append(utterance)
        if sum(u.seconds for u in taken) >= seconds:
            return tuple(taken)
    return ()


def _draw_side(
    side_id: str,
    speaker: str,
    corpus: str,
    utterances: tuple[Utterance, ...],
    pool: Pool,
    noise: Corpus | None,
    rooms: RoomSettings,
    seed: int,
    seconds: float,
) -> TrialSide:
    """Draw level, interferers, noise and room of a side.

    Interferers, noise and room have generators of their own. So the interferers do not change when a noise
    corpus or other rooms are given.
    """
    rng, noise_rng, room_rng = (
        np.random.default_rng([seed, zlib.crc32(side_id.encode()), k]) for k in (1, 2, 3)
    )
    level_db = round(float(rng.uniform(*LEVELS_DB)), 2)
    others = [t for t in pool if t != speaker]
    interferers = []
    for i in rng.permutation(len(others))[:MAX_INTERFERERS]:
        candidates = pool[others[i]]
        rest = iter([candidates[j] for j in rng.permutation(len(candidates))])
        interferers.append(InterfererSpec(others[i], tuple(u.id for u in _take(rest, seconds))))
    clip: Utterance | None = None
    start = 0.0
    if noise is not None:
        clip = noise.utterances[int(noise_rng.integers(len(noise)))]
        # Short clips are used from their beginning, because many end in digital silence.
        if clip.seconds >= 2 * seconds:
            start = round(float(noise_rng.uniform(0, clip.seconds - seconds)), 2)
    return TrialSide(
        side_id,
        speaker,
        corpus,
        tuple(u.id for u in utterances),
        level_db,
        tuple(interferers),
        None if clip is None else clip.id,
        start,
        int(room_rng.integers(rooms.count)),
        tuple(int(position) for position in room_rng.permutation(rooms.positions)[: 1 + MAX_INTERFERERS]),
    )
