"""Quick figures on speakers that are not trained on: what to watch while a run goes on.

Utterances of each speaker are dealt to two halves, one to enrol with and one to test with. The full
protocol is in the evaluation room; this one takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separative.corpora.manifest import Corpus, Utterance
from separative.errors import CorpusError
from separative.metrics import eer, si_sdr_improvement
from separative.mixtures import Mixer, MixtureConfig, Stage
from separative.model import SeparativeEncoder
from separative.objectives import best_permutation, information_bound, separation_costs
from separative.types import Floats

SECONDS = 4.0
STEPS = 3
# Of more, some are drawn: crops are too few for all.
MOST_SPEAKERS = 40


@dataclass(frozen=True)
class ValidationOutput:
    """Test crops: candidates [I,C,E], which are active [I,C], who speaks [I,K] (−1: none) and where."""

    embed_ICE: Floats
    active_IC: NDArray[np.bool_]
    speaker_IK: NDArray[np.int64]
    stream_IK: NDArray[np.int64]


class Validation:
    """Fixed clean crops and two-speaker mixtures of unseen speakers.

    Args:
        corpus: the validation split, labelled.
        config: the run's mixtures; rate and streams are taken from it.
        seed: of the crops.
        cache: folder of decoded audio.
    """

    def __init__(
        self, corpus: Corpus, config: MixtureConfig, *, seed: int = 0, cache: Path | None = None
    ) -> None:
        halves: tuple[list[Utterance], list[Utterance]] = ([], [])
        several = [utterances for utterances in corpus.by_speaker.values() if len(utterances) > 1]
        if len(several) > MOST_SPEAKERS:
            chosen = np.random.default_rng(seed).choice(len(several), MOST_SPEAKERS, replace=False)
            several = [several[i] for i in np.sort(chosen)]
        for utterances in several:
            for place, utterance in enumerate(utterances):
                halves[place % 2].append(utterance)
        speakers = len({u.speaker for u in halves[0]})
        if speakers < 2:
            raise CorpusError("validation needs two or more speakers with two or more utterances each")
        plain = MixtureConfig(
            rate=config.rate,
            streams=config.streams,
            seconds=SECONDS,
            batch=min(32, speakers),
            sir_db=(0.0, 0.0),
            stages=(Stage(speakers=(1.0,)),),
        )
        pairs = plain.model_copy(update={"stages": (Stage(speakers=(0.0, 1.0)),)})
        enrol, test = (Corpus(tuple(half)) for half in halves)
        self.corpus_of = {name: us[0].corpus for name, us in enrol.by_speaker.items()}
        # The whole split is decoded once, though each half is drawn from by itself.
        self.enrol = Mixer(enrol, plain, seed=seed, cache=cache)
        self.clean = Mixer(test, plain, seed=seed + 1, cache=cache)
        self.mixed = Mixer(test, pairs, seed=seed + 2, cache=cache) if config.streams > 1 else None

    @torch.inference_mode()
    def __call__(self, model: SeparativeEncoder) -> dict[str, float]:
        """Quick EERs (%), SI-SDR improvement (dB) and information bounds (nats) with their ceiling."""
        training = model.training
        model.eval()
        enrolled, _ = self._hear(model, self.enrol)
        # An enrolment crop holds one speaker: the stream that is active most.
        first_IE = enrolled.embed_ICE[np.arange(len(enrolled.speaker_IK)), enrolled.stream_IK[:, 0]]
        # Chance may have left a speaker out of every crop.
        known_P = np.unique(enrolled.speaker_IK[:, 0])
        inventory_PE = np.stack([first_IE[enrolled.speaker_IK[:, 0] == p].sum(0) for p in known_P])
        inventory_PE /= np.linalg.norm(inventory_PE, axis=1, keepdims=True) + 1e-9
        report = {"valid/mi_ceiling": float(np.log(len(known_P)))}
        for kind, mixer in (("clean", self.clean), ("mixed", self.mixed)):
            if mixer is None:
                continue
            heard, improvement = self._hear(model, mixer)
            heard = _of_known(heard, known_P, len(self.enrol.identities))
            report[f"valid/eer_{kind}"] = self._eer(inventory_PE, known_P, heard)
            report |= self._information(inventory_PE, heard, kind)
            if len(improvement):
                report["valid/si_sdri_db"] = float(np.mean(improvement))
        model.train(training)
        return report

    def _hear(self, model: SeparativeEncoder, mixer: Mixer) -> tuple[ValidationOutput, list[float]]:
        device = next(model.parameters()).device
        embeds, actives, speakers, streams = [], [], [], []
        gains: list[float] = []
        for step in range(STEPS):
            batch = mixer.batch(step)
            mix_BN, source_BCN = batch.mix_BN.to(device), batch.source_BCN.to(device)
            pair = bool((batch.identity_BC[:, 1:] >= 0).any())
            # A rival of the method may have one embedding for all speakers of a mixture.
            separate = pair and model.streams > 1
            out = model(mix_BN, separate=separate)
            share_BC = out.activity_BCS.sigmoid().mean(-1)
            embeds.append(out.attended_BCE.float().cpu())
            actives.append(_active(share_BC).cpu())
            speakers.append(batch.identity_BC)
            if separate:
                streams.append(best_permutation(separation_costs(out.estimate_BCN, source_BCN, mix_BN)).cpu())
                for row in range(len(mix_BN)):
                    gain_K, _ = si_sdr_improvement(
                        out.estimate_BCN[row].float().cpu().numpy(),
                        source_BCN[row][batch.identity_BC[row] >= 0].cpu().numpy(),
                        batch.mix_BN[row].numpy(),
                    )
                    gains.append(float(np.mean(gain_K)))
            else:
                loudest = share_BC.argsort(dim=-1, descending=True).cpu()
                streams.append(loudest.expand(-1, batch.identity_BC.shape[1]))
        heard = ValidationOutput(
            torch.cat(embeds).numpy(),
            torch.cat(actives).numpy(),
            torch.cat(speakers).numpy(),
            torch.cat(streams).numpy(),
        )
        return heard, gains

    def _eer(self, inventory_PE: Floats, known_P: NDArray[np.int64], heard: ValidationOutput) -> float:
        """Every enrolled speaker against every crop of its corpus; the best active candidate counts (%)."""
        cos_IPC = np.einsum("pe,ice->ipc", inventory_PE, heard.embed_ICE)
        score_IP = np.where(heard.active_IC[:, None, :], cos_IPC, -2.0).max(-1)
        label = np.array([self.corpus_of[self.enrol.identities[p]] for p in known_P])
        target_IP = heard.speaker_IK[:, :1] == np.arange(len(label))
        rival_IP = (heard.speaker_IK[:, 1:, None] == np.arange(len(label))).any(1)
        keep_IP = (label[heard.speaker_IK[:, 0]][:, None] == label[None]) & ~rival_IP
        return 100 * eer(score_IP[keep_IP], target_IP[keep_IP])

    def _information(self, inventory_PE: Floats, heard: ValidationOutput, kind: str) -> dict[str, float]:
        """I ≥ ln P − L with the enrolled speakers as inventory; α is fitted on the other half of the crops."""
        rows, columns = np.nonzero(heard.speaker_IK >= 0)
        embed_RE = heard.embed_ICE[rows, heard.stream_IK[rows, columns]]
        speaker_R = torch.from_numpy(heard.speaker_IK[rows, columns])
        squared_RP = torch.from_numpy(2 - 2 * embed_RE @ inventory_PE.T).double()
        fold_R = torch.from_numpy(rows % 2).bool()
        loss_R = torch.empty(len(rows), dtype=torch.float64)
        for fold in (fold_R, ~fold_R):
            alphas = torch.logspace(-1, 2, 31, dtype=torch.float64)
            losses = torch.stack([_loss(squared_RP[~fold], speaker_R[~fold], a).mean() for a in alphas])
            loss_R[fold] = _loss(squared_RP[fold], speaker_R[fold], alphas[losses.argmin()])
        loss = float(loss_R.mean())
        bound = information_bound(loss, float(np.log(len(inventory_PE))))
        return {f"valid/loss_{kind}": loss, f"valid/mi_{kind}": bound}


def _of_known(heard: ValidationOutput, known_P: NDArray[np.int64], speakers: int) -> ValidationOutput:
    """Crops whose target is enrolled; speakers are rows of the inventory then, −1 for all who are in none."""
    row_T = np.full(speakers + 1, -1)
    row_T[known_P] = np.arange(len(known_P))
    speaker_IK = row_T[heard.speaker_IK]
    kept_I = speaker_IK[:, 0] >= 0
    return ValidationOutput(
        heard.embed_ICE[kept_I], heard.active_IC[kept_I], speaker_IK[kept_I], heard.stream_IK[kept_I]
    )


def _loss(squared_RP: Tensor, speaker_R: Tensor, alpha: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(-alpha * squared_RP, speaker_R, reduction="none")


def _active(share_BC: Tensor, least: float = 0.1) -> Tensor:
    """Streams that speak in at least that share of the segments; always the one that speaks most."""
    return (share_BC >= least) | (share_BC == share_BC.amax(-1, keepdim=True))
