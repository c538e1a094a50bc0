"""Hold out speakers of a corpus for validation."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from separative.corpora.manifest import Corpus
from separative.errors import CorpusError

LEAST_HELD_OUT, LEAST_TRAINED = 3, 2
"""Fewer speakers do not allow an error rate of mixtures, or a training."""


def hold_out_speakers(corpus: Corpus, share: float, *, seed: int = 0) -> Corpus:
    """Give a corpus without splits the splits ``train`` and ``dev``, which have different speakers.

    The speakers of ``dev`` depend only on the names, the share and the seed. A speaker with a single
    utterance stays in ``train``, because validation needs one utterance to enrol and another to test.

    Args:
        corpus: speech with speaker labels.
        share: share of the speakers for ``dev``, between 0 and 1; at least three speakers are held out.
        seed: random seed.

    Raises:
        CorpusError: the corpus has splits, it has too few speakers, or the share is out of range.

    >>> from pathlib import Path
    >>> from separative.corpora import Utterance
    >>> ten = Corpus(tuple(
    ...     Utterance(f"{name}-{take}", Path(f"{name}-{take}.wav"), 1.0, speaker=name)
    ...     for name in "abcdefghij" for take in range(2)))
    >>> split = hold_out_speakers(ten, 0.3)
    >>> len(split.split("train").speakers), len(split.split("dev").speakers)
    (7, 3)
    """
    if not 0 < share < 1:
        raise CorpusError(f"the share of speakers to hold out is {share:g}; pass a share such as 10% or 0.1")
    if splits := sorted({u.split for u in corpus} - {""}):
        raise CorpusError(
            f"the corpus has splits already ({', '.join(splits)}), so no speakers are held out; leave out the"
            " share, or remove the splits from the manifest"
        )
    speakers = corpus.by_speaker
    several = [name for name, utterances in speakers.items() if len(utterances) > 1]
    count = max(LEAST_HELD_OUT, round(share * len(speakers)))
    if len(several) < count or len(speakers) - count < LEAST_TRAINED:
        raise CorpusError(
            f"{count} speakers with two or more utterances must be held out and at least {LEAST_TRAINED} be"
            f" trained on; the corpus has {len(speakers)} labelled speakers, {len(several)} of them with two"
            " or more utterances: add speakers, or train without validation"
        )
    order = sorted(
        several, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode(errors="replace")).digest()
    )
    held_out = set(order[:count])
    return replace(
        corpus,
        utterances=tuple(
            replace(u, split="dev" if u.speaker in held_out else "train") for u in corpus.utterances
        ),
    )
