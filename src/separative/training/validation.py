"""Quick validation during training, on speakers that are not trained on.

The utterances of each speaker are split into enrolment and test utterances. Validation takes seconds; the
full protocol is in :mod:`separative.evaluation`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError
from separative.metrics import (
    contrastive_losses,
    cross_fitted_losses,
    eer,
    information_bound,
    si_sdr_improvement,
)
from separative.mixtures import Mixer, MixtureConfig, Stage
from separative.model import SeparativeEncoder
from separative.objectives import best_permutation, separation_costs
from separative.training.events import ValidationView
from separative.types import Floats

log = logging.getLogger(__name__)

SECONDS = 4.0
STEPS = 3
# With more speakers, a random subset is used, because there are too few crops for all.
MAX_SPEAKERS = 40
# Candidates for α. A coarse grid is enough for a curve to watch.
ALPHAS = np.logspace(-1, 2, 31)


@dataclass(frozen=True)
class ValidationOutput:
    """Embeddings of I test crops with C streams and at most K speakers.

    Attributes:
        embedding: attended embeddings [I,C,E].
        active: whether each stream is active [I,C].
        speaker: speakers of the crop [I,K], −1 for none.
        stream: stream of each speaker [I,K].

    >>> one = np.zeros((1, 1), np.int64)
    >>> ValidationOutput(np.ones((1, 1, 4)), one == 0, speaker=one, stream=one).embedding.shape
    (1, 1, 4)
    """

    embedding: Floats
    active: NDArray[np.bool_]
    speaker: NDArray[np.int64]
    stream: NDArray[np.int64]


class Validation:
    """Fixed single-speaker crops and two-speaker mixtures of speakers that are not trained on.

    Args:
        corpus: the validation split, with speaker labels.
        config: mixtures of the run; only the sample rate and the number of streams are used.
        seed: random seed of the crops.
        cache: folder for decoded audio.

    Raises:
        CorpusError: fewer than two speakers with at least two utterances each.

    >>> import separative
    >>> validation = Validation(separative.load_corpus("speech"), MixtureConfig())
    >>> sorted(validation(separative.load_model()))
    ['valid/eer_clean', 'valid/eer_mixed', 'valid/loss_clean', 'valid/loss_mixed', 'valid/mi_ceiling', ...]
    """

    def __init__(
        self, corpus: Corpus, config: MixtureConfig, *, seed: int = 0, cache: Path | None = None
    ) -> None:
        halves: tuple[list[Utterance], list[Utterance]] = ([], [])
        several = [utterances for utterances in corpus.by_speaker.values() if len(utterances) > 1]
        if len(several) > MAX_SPEAKERS:
            chosen = np.random.default_rng(seed).choice(len(several), MAX_SPEAKERS, replace=False)
            several = [several[i] for i in np.sort(chosen)]
        for utterances in several:
            for place, utterance in enumerate(utterances):
                halves[place % 2].append(utterance)
        speakers = len({u.speaker for u in halves[0]})
        if speakers < 2:
            raise CorpusError(
                "validation needs at least two speakers with at least two utterances each in the split 'dev'"
            )
        single = MixtureConfig(
            rate=config.rate,
            streams=config.streams,
            seconds=SECONDS,
            batch=min(32, speakers),
            sir_db=(0.0, 0.0),
            stages=(Stage(speakers=(1.0,)),),
        )
        pairs = single.model_copy(update={"stages": (Stage(speakers=(0.0, 1.0)),)})
        enrol, test = (Corpus(tuple(half)) for half in halves)
        self.corpus_of = {name: us[0].corpus for name, us in enrol.by_speaker.items()}
        self.enrol = Mixer(enrol, single, seed=seed, cache=cache)
        self.clean = Mixer(test, single, seed=seed + 1, cache=cache)
        self.mixed = Mixer(test, pairs, seed=seed + 2, cache=cache) if config.streams > 1 else None
        self._speakers: tuple[str, ...] = ()
        self._inventory_PE: Floats = np.zeros((0, 0))
        self._scores: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}

    @torch.inference_mode()
    def __call__(self, model: SeparativeEncoder) -> dict[str, float]:
        """Compute EERs (%), SI-SDR improvement (dB), and information bounds with their ceiling (nats).

        An EER that these speakers do not allow is left out with a warning. In a mixture of the only two
        speakers, for example, there is no other speaker to confuse the target with.
        """
        training = model.training
        model.eval()
        enrolled, _ = self._embed(model, self.enrol)
        # An enrolment crop has one speaker: use the most active stream.
        first_IE = enrolled.embedding[np.arange(len(enrolled.speaker)), enrolled.stream[:, 0]]
        # Crops are drawn at random, so a speaker may be in none of them.
        known_P = np.unique(enrolled.speaker[:, 0])
        inventory_PE = np.stack([first_IE[enrolled.speaker[:, 0] == p].sum(0) for p in known_P])
        inventory_PE /= np.linalg.norm(inventory_PE, axis=1, keepdims=True) + 1e-9
        self._speakers = tuple(self.enrol.identities[p] for p in known_P)
        self._inventory_PE, self._scores = inventory_PE, {}
        report = {"valid/mi_ceiling": float(np.log(len(known_P)))}
        for kind, mixer in (("clean", self.clean), ("mixed", self.mixed)):
            if mixer is None:
                continue
            output, improvement = self._embed(model, mixer)
            output = _select_enrolled(output, known_P, len(self.enrol.identities))
            score_N, target_N = self._trials(inventory_PE, known_P, output)
            if not target_N.any() or target_N.all():
                log.warning(
                    "validation on %s crops has no EER: %d speakers of the split 'dev' leave no non-target"
                    " trials; use at least 3 speakers",
                    kind,
                    len(known_P),
                )
            else:
                self._scores[kind] = score_N, target_N
                report[f"valid/eer_{kind}"] = 100 * eer(score_N, target_N)
            if len(output.speaker):
                report |= _information(inventory_PE, output, kind)
            if len(improvement):
                report["valid/si_sdri_db"] = float(np.mean(improvement))
        model.train(training)
        return report

    def _embed(self, model: SeparativeEncoder, mixer: Mixer) -> tuple[ValidationOutput, list[float]]:
        """Run the model on the crops of a mixer; also return the SI-SDR improvement of each mixture in dB."""
        device = next(model.parameters()).device
        embeds, actives, speakers, streams = [], [], [], []
        gains: list[float] = []
        for step in range(STEPS):
            batch = mixer.batch(step)
            mix_BN, source_BCN = batch.mixtures.to(device), batch.sources.to(device)
            pair = bool((batch.identities[:, 1:] >= 0).any())
            # Baselines have one stream, that is one embedding for all speakers of a mixture.
            separate = pair and model.streams > 1
            out = model(mix_BN, separate=separate)
            share_BC = out.activity_BCS.sigmoid().mean(-1)
            embeds.append(out.attended_BCE.float().cpu())
            actives.append(_active_streams(share_BC).cpu())
            speakers.append(batch.identities)
            if separate:
                streams.append(best_permutation(separation_costs(out.estimate_BCN, source_BCN, mix_BN)).cpu())
                for row in range(len(mix_BN)):
                    gain_K, _ = si_sdr_improvement(
                        out.estimate_BCN[row].float().cpu().numpy(),
                        source_BCN[row][batch.identities[row] >= 0].cpu().numpy(),
                        batch.mixtures[row].numpy(),
                    )
                    gains.append(float(np.mean(gain_K)))
            else:
                loudest = share_BC.argsort(dim=-1, descending=True).cpu()
                streams.append(loudest.expand(-1, batch.identities.shape[1]))
        output = ValidationOutput(*(torch.cat(x).numpy() for x in (embeds, actives, speakers, streams)))
        return output, gains

    def _trials(
        self, inventory_PE: Floats, known_P: NDArray[np.int64], output: ValidationOutput
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores of every enrolled speaker and every crop of its corpus, by the best active stream.

        Speakers who interfere in a crop have no trial with it. Also returns which are target trials.
        """
        cos_IPC = np.einsum("pe,ice->ipc", inventory_PE, output.embedding)
        score_IP = np.where(output.active[:, None, :], cos_IPC, -2.0).max(-1)
        label = np.array([self.corpus_of[self.enrol.identities[p]] for p in known_P])
        target_IP = output.speaker[:, :1] == np.arange(len(label))
        interferer_IP = (output.speaker[:, 1:, None] == np.arange(len(label))).any(1)
        keep_IP = (label[output.speaker[:, 0]][:, None] == label[None]) & ~interferer_IP
        return score_IP[keep_IP], target_IP[keep_IP]

    @torch.inference_mode()
    def view(self, model: SeparativeEncoder) -> ValidationView:
        """One mixture with its separated streams, and embeddings and scores of the last validation."""
        training = model.training
        model.eval()
        mixer = self.mixed or self.clean
        mix_BN = mixer.batch(0).mixtures[:1].to(next(model.parameters()).device)
        separate = model.streams > 1
        estimate_CN = model(mix_BN, separate=separate).estimate_BCN[0].float().cpu().numpy()
        model.train(training)
        return ValidationView(
            mixer.config.rate,
            mix_BN[0].cpu().numpy(),
            estimate_CN if separate else np.zeros((0, 0), np.float32),
            self._speakers,
            self._inventory_PE,
            self._scores,
        )


def _information(inventory_PE: Floats, output: ValidationOutput, kind: str) -> dict[str, float]:
    """Loss and information bound I ≥ ln P − L with the enrolled speakers as inventory, in nats."""
    rows, columns = np.nonzero(output.speaker >= 0)
    embed_RE = output.embedding[rows, output.stream[rows, columns]]
    distance_RP = (2 - 2 * embed_RE @ inventory_PE.T).astype(np.float64)
    speaker_R = output.speaker[rows, columns]
    loss = float(cross_fitted_losses(distance_RP, speaker_R, rows % 2, _fit_alpha_on_grid).mean())
    bound = information_bound(loss, float(np.log(len(inventory_PE))))
    return {f"valid/loss_{kind}": loss, f"valid/mi_{kind}": bound}


def _fit_alpha_on_grid(distance_RP: Floats, speaker_R: NDArray[np.integer]) -> float:
    return float(min(ALPHAS, key=lambda alpha: contrastive_losses(distance_RP, speaker_R, alpha).mean()))


def _select_enrolled(output: ValidationOutput, known_P: NDArray[np.int64], speakers: int) -> ValidationOutput:
    """Keep crops of enrolled targets. Speakers become rows of the inventory, or −1 if not enrolled."""
    row_T = np.full(speakers + 1, -1)
    row_T[known_P] = np.arange(len(known_P))
    speaker_IK = row_T[output.speaker]
    kept_I = speaker_IK[:, 0] >= 0
    return ValidationOutput(
        output.embedding[kept_I], output.active[kept_I], speaker_IK[kept_I], output.stream[kept_I]
    )


def _active_streams(share_BC: Tensor, threshold: float = 0.1) -> Tensor:
    """Streams that are active in at least that share of the segments, and always the most active one."""
    return (share_BC >= threshold) | (share_BC == share_BC.amax(-1, keepdim=True))
