"""Drawing a trial list from a corpus (protocol, "Trials")."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import DEFAULT, MOST_RIVALS, condition_named
from separative.evaluation.trials import Rival, Rooms, Side, Trial, TrialList
from separative.mixtures.rooms import JUDGED

LEVELS_DB = (-35.0, -18.0)
# Times in manifests are.
ROUNDED_SECONDS = 0.01


def build_trials(
    corpus: Corpus,
    *,
    noise: Corpus | None = None,
    conditions: Sequence[str] = DEFAULT,
    enrol: str = "clean",
    seed: int = 0,
    seconds: float = 4.0,
    enrolments: int = 2,
    tests: int = 3,
    rooms: Rooms | None = None,
) -> TrialList:
    """Every enrolment side against every test side of the same corpus, in every condition.

    A speaker gives up to ``enrolments`` + ``tests`` sides of ``seconds`` seconds, no utterance in two of them;
    one without enough speech for an enrolment and a test is left out. Of cuts of one file that overlap, the
    first alone is used. Interferers are other such speakers of the corpus. A trial is left out where the sides
    share a speaker other than the compared one (the enrolled speaker is the test's interferer, say). Draws
    differ by ``seed`` and side, not by condition. ``rooms``: the simulated ones, by default drawn from
    ``seed``, and none that a training draws.

    Raises:
        CorpusError: too few speakers with enough speech, no noise where a condition adds it.
        SeparativeError: an unknown condition, or one that is cut to more than ``seconds``.
    """
    heard, enrol_as = [condition_named(name) for name in conditions], condition_named(enrol)
    for condition in (*heard, enrol_as):
        if (condition.seconds or 0.0) > seconds:
            raise SeparativeError(
                f"condition '{condition.name}' is {condition.seconds:g} s long, sides are {seconds:g} s: "
                "make them longer or leave the condition out"
            )
    rooms = rooms or Rooms(seed=JUDGED + seed)
    # The two that are compared, and as many interferers as are heard with them, all different.
    needed = 2 + len(enrol_as.sir_db) + max(len(c.sir_db) for c in heard)
    if noise is None and any(c.snr_db is not None for c in (*heard, enrol_as)):
        raise CorpusError("a condition with noise needs a noise corpus; give one or leave the condition out")
    pools: dict[str, dict[str, tuple[Utterance, ...]]] = {}
    corpus = _apart(corpus.readable)
    noise = None if noise is None else noise.readable
    for speaker, utterances in corpus.by_speaker.items():
        pools.setdefault(utterances[0].corpus, {})[speaker] = utterances
    enrolled: list[Side] = []
    tested: list[Side] = []
    for name, pool in sorted(pools.items()):
        groups = {t: _sides(t, pool[t], seed, seconds, enrolments, tests) for t in pool}
        speakers = [t for t in pool if groups[t]]
        if len(speakers) < needed:
            continue
        for speaker in speakers:
            for (kind, number), words in groups[speaker].items():
                side_id = f"{_plain(speaker)}:{kind}{number}"
                others = {t: pool[t] for t in speakers}
                side = _side(side_id, speaker, name, words, others, noise, rooms, seed, seconds)
                (enrolled if kind == "e" else tested).append(side)
    if not enrolled:
        names = ", ".join(sorted(pools)) or "no labelled speakers"
        raise CorpusError(
            f"no trials: a corpus needs at least {needed} speakers with two sides of {seconds:g} s "
            f"from different utterances, which none has of: {names}"
        )
    trials = tuple(
        Trial(left.speaker == right.speaker, left.id, right.id, condition.name)
        for condition in heard
        for left in enrolled
        for right in tested
        if left.corpus == right.corpus
        and not _share_others(left, len(enrol_as.sir_db), right, len(condition.sir_db))
    )
    return TrialList(seed, seconds, enrol, tuple(conditions), tuple(enrolled), tuple(tested), trials, rooms)


def _plain(speaker: str) -> str:
    """A speaker's name without white space, still unique."""
    return quote(speaker, safe="/@.,+=")


def _apart(corpus: Corpus) -> Corpus:
    """Without cuts that share sound with another of the same file."""
    kept: dict[Path, list[Utterance]] = {}
    for cut in sorted(corpus, key=lambda u: u.start):
        before = kept.setdefault(cut.path, [])
        if not before or cut.start >= before[-1].start + before[-1].seconds - ROUNDED_SECONDS:
            before.append(cut)
    names = {u.id for some in kept.values() for u in some}
    return corpus.filter(lambda u: u.id in names)


def _sides(
    speaker: str, utterances: Sequence[Utterance], seed: int, seconds: float, enrolments: int, tests: int
) -> dict[tuple[str, int], tuple[Utterance, ...]]:
    """Disjoint utterances for every (kind, number) there is speech for; empty if not for both kinds."""
    order = np.random.default_rng([seed, zlib.crc32(speaker.encode())]).permutation(len(utterances))
    rest = iter([utterances[i] for i in order])
    # Enrolment and test in turn: little speech still gives one of each.
    limits = {"e": enrolments, "t": tests}
    wanted = [(kind, n) for n in range(max(limits.values())) for kind in limits if n < limits[kind]]
    groups = {}
    for key in wanted:
        words = _take(rest, seconds)
        if not words:
            break
        groups[key] = words
    return groups if len(groups) > 1 else {}


def _take(rest: Iterator[Utterance], seconds: float) -> tuple[Utterance, ...]:
    """Utterances from the front that last ``seconds`` together; empty if there are not enough."""
    taken: list[Utterance] = []
    for utterance in rest:
        taken.append(utterance)
        if sum(u.seconds for u in taken) >= seconds:
            return tuple(taken)
    return ()


def _side(
    side_id: str,
    speaker: str,
    corpus: str,
    words: tuple[Utterance, ...],
    pool: dict[str, tuple[Utterance, ...]],
    noise: Corpus | None,
    rooms: Rooms,
    seed: int,
    seconds: float,
) -> Side:
    # A generator for each: the interferers must not change when a noise corpus or other rooms are given.
    rng, noise_rng, room_rng = (
        np.random.default_rng([seed, zlib.crc32(side_id.encode()), k]) for k in (1, 2, 3)
    )
    level_db = round(float(rng.uniform(*LEVELS_DB)), 2)
    others = [t for t in pool if t != speaker]
    rivals = []
    for i in rng.permutation(len(others))[:MOST_RIVALS]:
        spoken = pool[others[i]]
        rest = iter([spoken[j] for j in rng.permutation(len(spoken))])
        rivals.append(Rival(others[i], tuple(u.id for u in _take(rest, seconds))))
    clip: Utterance | None = None
    start = 0.0
    if noise is not None:
        clip = noise.utterances[int(noise_rng.integers(len(noise)))]
        # Short clips are heard from their beginning: many end in digital silence.
        if clip.seconds >= 2 * seconds:
            start = round(float(noise_rng.uniform(0, clip.seconds - seconds)), 2)
    spoken_ids = tuple(u.id for u in words)
    return Side(
        side_id,
        speaker,
        corpus,
        spoken_ids,
        level_db,
        tuple(rivals),
        None if clip is None else clip.id,
        start,
        int(room_rng.integers(rooms.count)),
        tuple(int(place) for place in room_rng.permutation(rooms.places)[: 1 + MOST_RIVALS]),
    )


def _share_others(left: Side, left_rivals: int, right: Side, right_rivals: int) -> bool:
    """Do the sides, as heard, share a speaker other than the one they are compared for?"""
    one = {left.speaker, *(r.speaker for r in left.rivals[:left_rivals])}
    other = {right.speaker, *(r.speaker for r in right.rivals[:right_rivals])}
    return one & other != ({left.speaker} & {right.speaker})
