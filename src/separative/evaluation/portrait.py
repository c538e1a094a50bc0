"""What a model makes of a few speakers, to look at: likeness, and where the cross-attention goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separative.corpora.manifest import Corpus
from separative.evaluation.conditions import CONDITIONS, mix
from separative.evaluation.draw import build_trials
from separative.evaluation.sounds import Sounds
from separative.evaluation.trials import Side
from separative.inference.forward import forward
from separative.metrics import si_sdr_improvement
from separative.types import Floats, Progress

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


SIDES = 4


@dataclass(frozen=True)
class Portrait:
    """``embedding_UE`` of clean sides, ``speaker_U`` whose they are · ``looked_VV`` of a speaker's attention,
    heard in condition v, the share that goes to what is heard in condition w, mean over speakers ·
    ``own_VV`` of that, the share that goes to the speaker's own stream · ``conditions`` their names."""

    speaker_U: tuple[str, ...]
    embedding_UE: Floats
    conditions: tuple[str, ...]
    looked_VV: Floats
    own_VV: Floats


def portrait(
    model: SeparativeEncoder,
    corpus: Corpus,
    *,
    noise: Corpus | None = None,
    speakers: int = 12,
    seed: int = 0,
    seconds: float = 4.0,
    progress: Progress | None = None,
) -> Portrait:
    """Hear a few speakers of a corpus clean, and each once in every condition at once.

    The conditions are views of one memory: other utterances of the speaker under other interference.

    Args:
        model: in evaluation mode.
        corpus, noise: of speakers that were not trained on; without noise, conditions with it are left out.
        speakers: so many of the largest corpus in it, spread over the alphabet.
        progress: called with (done, total) speakers.

    Raises:
        CorpusError: too few speakers with enough speech.
    """
    names = [
        c.name
        for c in CONDITIONS.values()
        if not c.room
        and c.seconds is None
        and (noise is not None or c.snr_db is None)
        # No more speakers than the model can hear at once.
        and len(c.sir_db) < max(2, model.streams)
    ]
    trials = build_trials(
        corpus, noise=noise, conditions=names, seed=seed, seconds=seconds, enrolments=1, tests=SIDES
    )
    places = [side.corpus for side in trials.tests]
    place = max(set(places), key=lambda name: (places.count(name), name))
    sides_of: dict[str, list[Side]] = {}
    for side in trials.tests:
        if side.corpus == place:
            sides_of.setdefault(side.speaker, []).append(side)
    everyone = sorted(sides_of)
    chosen = [everyone[i] for i in np.unique(np.linspace(0, len(everyone) - 1, speakers).astype(int))]
    sounds = Sounds(corpus, noise, model.rate, seconds)
    most = max(len(CONDITIONS[name].sir_db) for name in names)
    owners: list[str] = []
    embeddings: list[Floats] = []
    looked, own = [], []
    for number, speaker in enumerate(chosen, 1):
        parts = [sounds.parts(s, rivals=most, noise=noise is not None) for s in sides_of[speaker]]
        clean = forward(model, [mix(p, CONDITIONS["clean"]).mix_N for p in parts], separate=False)
        loudest_B = clean.activity_BCS.sigmoid().mean(-1).argmax(1)
        attended_BCE = clean.attended_BCE.float().cpu().numpy()
        for row, stream in enumerate(loudest_B.tolist()):
            owners.append(speaker)
            embeddings.append(attended_BCE[row, stream])
        if model.cross is not None:
            views = [mix(parts[v % len(parts)], CONDITIONS[name]) for v, name in enumerate(names)]
            looked_VV, own_VV = _attention(model, [v.mix_N for v in views], [v.source_KN for v in views])
            looked.append(looked_VV)
            own.append(own_VV)
        if progress is not None:
            progress(number, len(chosen))
    size = len(names)
    empty = [np.zeros((size, size), np.float32)]
    return Portrait(
        tuple(owners),
        np.stack(embeddings),
        tuple(names),
        np.mean(looked or empty, axis=0),
        np.mean(own or empty, axis=0),
    )


def _attention(
    model: SeparativeEncoder, waves: Sequence[Floats], sources: Sequence[Floats]
) -> tuple[Floats, Floats]:
    """Of each view's target stream: shares of attention by view, and what of them its own streams get."""
    import torch

    assert model.cross is not None
    heard = forward(model, waves, shared=True)
    views, streams = heard.query_BCE.shape[:2]
    estimate_BCN = heard.estimate_BCN.float().cpu().numpy()
    target_V = []
    for v, (mix_N, source_KN) in enumerate(zip(waves, sources, strict=True)):
        if len(source_KN) > 1:
            # Of all sources, as many as there are streams: the target and the first interferers.
            _, stream_K = si_sdr_improvement(estimate_BCN[v], source_KN[:streams], mix_N)
            target_V.append(int(stream_K[0]))
        else:
            target_V.append(int(heard.activity_BCS[v].sigmoid().mean(-1).argmax()))
    query_VE = heard.query_BCE[torch.arange(views), target_V]
    with torch.inference_mode():
        weight_VBCS = model.cross.looked_at(query_VE, heard.segment_BCSE, heard.activity_BCS, heard.valid_BS)
    weight_VBC = weight_VBCS.float().sum(-1).cpu().numpy()
    own_VV = weight_VBC[:, np.arange(views), target_V]
    return weight_VBC.sum(-1), own_VV
