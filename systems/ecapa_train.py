"""Train an ECAPA-TDNN on our mixtures, with or without other speakers and noise in them.

    python systems/ecapa_train.py --corpus speech.csv --noise noise.csv --out RUN --seconds 19200 --lr 1e-3 \
        --augment overlap

The loss is SpeechBrain's additive angular margin softmax with margin 0.2 and scale 30. Its classes are the
target speakers at every speed of the recipe. With ``clean``, mixtures have one speaker and no noise. With
``overlap``, half of them have a second speaker at a signal-to-interference ratio of -5 to 15 dB (the second
speaker may be the louder one, as in the test), and 30 % have environmental noise at the ratios of the recipe,
independently. The label is that of the target. Channels, levels and speeds are those of the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loop import Loss, arguments, mixtures, train

if TYPE_CHECKING:
    from torch import nn

    from separative.mixtures import Batch, Mixer

MARGIN, SCALE = 0.2, 30.0
STAGES = {
    "clean": {"speakers": (1.0,), "noise": 0.0},
    "overlap": {"speakers": (0.5, 0.5), "noise": 0.3},
}


def main() -> None:
    parser = arguments("Train an ECAPA-TDNN on our mixtures.")
    parser.add_argument("--augment", choices=STAGES, required=True, help="kind of mixtures")
    parser.add_argument(
        "--sir", type=float, nargs=2, default=(-5.0, 15.0), metavar=("LOW", "HIGH"), help="dB"
    )
    args = parser.parse_args()

    import torch
    from ecapa import EMBEDDING, RATE, SYSTEM, Ecapa
    from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

    config = mixtures(args.recipe, rate=RATE, sir_db=args.sir, stages=[STAGES[args.augment]])
    margin_softmax = LogSoftmaxWrapper(AdditiveAngularMargin(margin=MARGIN, scale=SCALE))

    def build(mixer: Mixer) -> tuple[nn.Module, nn.Module, Loss]:
        network = Ecapa()
        classes = Classifier(EMBEDDING, lin_neurons=EMBEDDING, out_neurons=len(mixer.identities))

        def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
            target_B = batch.identities[:, 0]
            embedding_BE = network(batch.mixtures).float()
            # The angular margin is computed in full precision.
            with torch.autocast("cpu", enabled=False):
                cosine_BP = classes(embedding_BE.unsqueeze(1)).squeeze(1)
            right = (cosine_BP.argmax(1) == target_B).float().mean().item()
            return margin_softmax(cosine_BP.unsqueeze(1), target_B.unsqueeze(1)), {"accuracy": right}

        return network, classes, loss

    train(args, config, {"system": SYSTEM, "augment": args.augment, "margin": MARGIN, "scale": SCALE}, build)


if __name__ == "__main__":
    main()
