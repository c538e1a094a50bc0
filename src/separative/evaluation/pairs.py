"""Score the trial lists that others publish, on whole utterances.

A line of such a list names two utterances and says whether both have the same speaker: ``1 left right`` (or
0) in the lists of VoxCeleb, ``left right target`` (or nontarget) in those of Kaldi.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError, SeparativeError
from separative.evaluation.bootstrap import SpeakerBootstrap, assign_folds, bootstrap_interval
from separative.evaluation.results import POOLED, Results, Row
from separative.evaluation.trials import HEADER, check_disjoint_speakers
from separative.evaluation.verification import ConditionTrials, trial_figures
from separative.files import iterate_lines, replace_file
from separative.inference.forward import process_batch
from separative.inference.recording import load
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

CONDITION = "whole utterances"
FIRST_LABELS = {"1": True, "0": False}
LAST_LABELS = {"target": True, "nontarget": False}


class Pair(NamedTuple):
    """A trial of a published list: ``target`` says whether the two utterances are of one speaker.

    ``where`` is the file and line, for error messages.

    >>> Pair(True, "id1/a.wav", "id1/b.wav").target
    True
    """

    target: bool
    left: str
    right: str
    where: str = "trial list"


def is_published(path: str | Path) -> bool:
    """Return True if a trial list is not one of this program. Those begin with ``#``.

    >>> _ = Path("veri_test.txt").write_text("1 id1/a.wav id1/b.wav\\n")
    >>> is_published("veri_test.txt")
    True
    """
    return not next(iter(iterate_lines(path)), "").startswith("#")


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a list of lines ``1 left right`` (VoxCeleb) or ``left right target`` (Kaldi).

    Raises:
        SeparativeError: the list is empty, has a line of another form, or has trials of one kind only; the
            message names the line.

    >>> _ = Path("trials").write_text("ann-1 ann-2 target\\nann-1 bob-1 nontarget\\n")
    >>> [(pair.target, pair.right) for pair in read_pairs("trials")]
    [(True, 'ann-2'), (False, 'bob-1')]
    """
    pairs: list[Pair] = []
    voxceleb: bool | None = None
    for number, line in enumerate(iterate_lines(path), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if voxceleb is None:
            # A name may be '1'; the first line decides which form the list has.
            voxceleb = words[0] in FIRST_LABELS and words[-1] not in LAST_LABELS
        target = FIRST_LABELS.get(words[0]) if voxceleb else LAST_LABELS.get(words[-1])
        names = words[1:] if voxceleb else words[:-1]
        if target is None or len(names) != 2:
            raise SeparativeError(
                f"{where}: not a line of a trial list: '{line[:80]}'; all lines must be '1 left right' or"
                " '0 left right', or 'left right target' or 'left right nontarget'; a list of this program"
                f" begins with '{HEADER}'"
            )
        pairs.append(Pair(target, names[0], names[1], where))
    if not pairs:
        raise SeparativeError(f"{path}: an empty trial list")
    for kind, name in ((True, "target"), (False, "non-target")):
        if all(pair.target != kind for pair in pairs):
            raise SeparativeError(f"{path}: no {name} trials; an error rate needs both kinds")
    return pairs


def evaluate_pairs(
    model: SeparativeEncoder,
    corpus: Corpus,
    pairs: Sequence[Pair],
    *,
    name: str = "trained",
    resamples: int = 500,
    seed: int = 0,
    batch: int = 16,
    progress: Progress | None = None,
) -> tuple[Results, Floats]:
    """Score a published trial list, and measure the error rates with 95 % intervals over speakers.

    Every utterance is embedded as a whole. The score of a trial is the largest cosine between an audible
    stream of one utterance and one of the other, as in :func:`separative.verify`.

    Args:
        corpus: holds every utterance of the list. An utterance is named by its id, or by its path or the end
            of its path, with or without the suffix.
        name: name of the model in the tables.
        resamples: number of bootstrap resamples of the speakers.
        seed: random seed of the resamples and folds.
        batch: number of utterances in a forward pass.
        progress: called with (done, total) utterances.

    Returns:
        the results, and the score of every trial [N].

    Raises:
        CorpusError: an utterance is missing, has no speaker, or is named by several; or a speaker was used in
            training.
        SeparativeError: a label contradicts the speakers of the corpus.
        AudioError: an utterance cannot be read or is shorter than half a second.

    >>> from separative import load_model
    >>> from separative.corpora import load_corpus
    >>> corpus = load_corpus("speech")
    >>> one, two, *_, other = [utterance.id for utterance in corpus]
    >>> results, scores = evaluate_pairs(
    ...     load_model(), corpus, [Pair(True, one, two), Pair(False, one, other)], resamples=10)
    >>> results.find("EER", "whole utterances").trials, scores.shape
    (2, (2,))
    """
    found = find_utterances(corpus, pairs)
    speaker_of = {key: utterance.speaker or "" for key, utterance in found.items()}
    for pair in pairs:
        left, right = speaker_of[pair.left], speaker_of[pair.right]
        if pair.target != (left == right):
            kind = "target" if pair.target else "non-target"
            raise SeparativeError(
                f"{pair.where}: a {kind} trial, but in the corpus its speakers are '{left}' and '{right}'"
            )
    check_disjoint_speakers(speaker_of.values(), model.training_speakers)
    embedded = _embed(model, found, batch, progress)
    score_N = np.array([float((embedded[p.left] @ embedded[p.right].T).max()) for p in pairs])
    corpus_of = {u.speaker or "": u.corpus for u in found.values()}
    corpora = set(corpus_of.values())
    label = corpora.pop() if len(corpora) == 1 else POOLED
    names = sorted(corpus_of)
    speakers = SpeakerBootstrap(names, resamples, seed, [corpus_of[speaker] for speaker in names])
    side = np.arange(len(pairs))
    part = ConditionTrials(
        side,
        side,
        speakers.indices([speaker_of[p.left] for p in pairs]),
        speakers.indices([speaker_of[p.right] for p in pairs]),
        np.full(len(pairs), label),
    )
    folds = assign_folds({speaker: corpus_of[speaker] for speaker in names}, seed=seed)
    rows = []
    for metric, (value, value_R) in trial_figures([score_N], part, speakers, folds)[0].items():
        low, high = bootstrap_interval(value_R, value)
        rows.append(Row(name, CONDITION, metric, value, low, high, len(pairs), label, seed))
    settings = {
        "rows": [name],
        "seed": seed,
        "resamples": resamples,
        "speakers": len(names),
        "utterances": len(found),
    }
    return Results(tuple(rows), settings), score_N


def write_scores(path: str | Path, pairs: Iterable[Pair], scores: Floats) -> Path:
    """Write a line ``label left right score`` per trial, with label 1 for target trials, and return the path.

    >>> write_scores("scores.txt", [Pair(True, "a", "b")], np.array([0.5])).read_text()
    '1 a b 0.500000\\n'
    """
    lines = [
        f"{pair.target:d} {pair.left} {pair.right} {score:.6f}\n"
        for pair, score in zip(pairs, scores, strict=True)
    ]
    replace_file(path, "".join(lines).encode())
    return Path(path)


def find_utterances(corpus: Corpus, pairs: Iterable[Pair]) -> dict[str, Utterance]:
    """Return the utterance that each name of a trial list means, by name.

    Raises:
        CorpusError: a name means no utterance, or several, or one without a speaker; the message names the
            line.

    >>> from separative.corpora import load_corpus
    >>> corpus = load_corpus("speech")
    >>> first = next(iter(corpus))
    >>> name = f"{first.path.parent.name}/{first.path.name}"
    >>> find_utterances(corpus, [Pair(True, name, first.id)])[name] == first
    True
    """
    where: dict[str, str] = {}
    for pair in pairs:
        where.setdefault(pair.left, pair.where)
        where.setdefault(pair.right, pair.where)
    by_id = {u.id: u for u in corpus if u.id in where}
    by_path: dict[str, list[Utterance]] = {}
    for utterance in corpus:
        whole = utterance.path.as_posix()
        for first in range(len(utterance.path.parts)):
            end = "/".join(utterance.path.parts[first:]) if first else whole
            for key in {end, end.removesuffix(utterance.path.suffix)} & where.keys():
                by_path.setdefault(key, []).append(utterance)
    missing = [name for name in where if name not in by_id and name not in by_path]
    if missing:
        raise CorpusError(
            f"{where[missing[0]]}: the corpus has no utterance '{missing[0]}' ({len(missing)} of {len(where)}"
            " names are missing); a name must be an utterance's id or the end of its path"
        )
    found = {}
    for name, place in where.items():
        candidates = [by_id[name]] if name in by_id else by_path[name]
        if len(candidates) > 1:
            raise CorpusError(
                f"{place}: '{name}' may mean '{candidates[0].id}' or '{candidates[1].id}'; use the ids"
            )
        if candidates[0].speaker is None:
            raise CorpusError(f"{place}: utterance '{name}' has no speaker in the corpus")
        found[name] = candidates[0]
    return found


def _embed(
    model: SeparativeEncoder, found: dict[str, Utterance], batch: int, progress: Progress | None
) -> dict[str, Wave]:
    """Embeddings [C, E] of the audible streams of every utterance; of the first stream if none is audible."""
    embedded = {}
    # Utterances of similar length share a batch, so that little of it is padding.
    names = sorted(found, key=lambda name: found[name].seconds)
    for start in range(0, len(names), batch):
        some = names[start : start + batch]
        loaded = [load((found[n].read(model.rate), model.rate), model.rate, max_seconds=None) for n in some]
        for name, recording in zip(some, process_batch(model, loaded, separate=False), strict=True):
            streams = recording.speakers or recording.streams[:1]
            embedded[name] = np.stack([stream.embedding for stream in streams])
        if progress is not None:
            progress(start + len(some), len(names))
    return embedded
