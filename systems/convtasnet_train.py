"""Train a reduced Conv-TasNet on our mixtures of two speakers at 8 kHz.

    python systems/convtasnet_train.py --corpus speech.csv --noise noise.csv --out RUN --seconds 19200 \
        --lr 1e-3

Every mixture has two speakers at the signal-to-interference ratios of the recipe. So that the cascade also
works in noise, 30 % of the mixtures have noise at the ratios of the recipe. The targets are the two speakers
without noise. The loss is Asteroid's negative SI-SDR under the best permutation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loop import Loss, arguments, mixtures, train

if TYPE_CHECKING:
    from torch import nn

    from separative.mixtures import Batch, Mixer


def main() -> None:
    parser = arguments("Train a reduced Conv-TasNet on our mixtures of two speakers.")
    parser.add_argument("--noisy", type=float, default=0.3, help="share of mixtures with noise")
    args = parser.parse_args()

    import torch
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
    from convtasnet import RATE, SIZES, SYSTEM, network

    stage = {"speakers": (0.0, 1.0), "noise": args.noisy}
    config = mixtures(args.recipe, rate=RATE, streams=2, stages=[stage])
    negative_sisdr = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")

    def build(_mixer: Mixer) -> tuple[nn.Module, nn.Module, Loss]:
        separator = network()

        def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
            mix_B1N = batch.mixtures.unsqueeze(1)
            value = negative_sisdr(separator(mix_B1N), batch.sources)
            # The loss without separation: the mixture as both estimates.
            unseparated = negative_sisdr(mix_B1N.expand_as(batch.sources), batch.sources)
            return value, {"improvement_db": (unseparated - value).item()}

        return separator, torch.nn.Module(), loss

    train(args, config, {"system": SYSTEM, "sizes": SIZES}, build)


if __name__ == "__main__":
    main()
