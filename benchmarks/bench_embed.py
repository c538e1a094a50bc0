"""Time to embed every speaker of a recording, compared with encoders that return one embedding.

    python benchmarks/bench_embed.py --peer-python PEERS/bin/python     # rewrites docs/benchmarks/embed.md
    python benchmarks/bench_embed.py --page -                           # prints the page, without peers

``PEERS`` is an environment with resemblyzer, speechbrain and the same version of torch. Encoders without
published weights in their package have random weights.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import (
    Promise,
    Record,
    arguments,
    exponent,
    made_on,
    median,
    parsed,
    spread,
    table,
    take_turns,
    timed,
    write_page,
)

RATE = 16000
LENGTHS = (3.0, 10.0, 60.0)
GROWTH = (10.0, 60.0, 180.0, 600.0)
RESEMBLYZER, ECAPA = "Resemblyzer VoiceEncoder", "SpeechBrain ECAPA-TDNN (1024)"
PEERS = (RESEMBLYZER, ECAPA)
MINE, SEPARATING = "`base`, every speaker", "`base`, every speaker and waveform"
EXPORTED = "`base`, every speaker, exported to ONNX"
# At each length, our model must be at least as fast as this peer.
PROMISED = {3.0: ECAPA, 10.0: RESEMBLYZER, 60.0: RESEMBLYZER}


def ours(batch: int, separate: bool) -> Callable[[object], object]:
    """The shipped model, run as by ``embed``, or as by ``separate`` with waveforms."""
    import numpy as np

    from separative.inference.forward import forward
    from separative.model import load_model

    model = load_model()
    return lambda wave_N: forward(model, [np.asarray(wave_N)] * batch, separate=separate).attended_BCE


def exported(path: str, threads: int) -> Callable[[object], object]:
    """The same model, exported to ONNX."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda wave_N: session.run(["embedding"], {"mixture": np.asarray(wave_N)[None]})


def export_to(path: Path) -> None:
    from separative.inference.export import export
    from separative.model import load_model

    export(load_model(), path, separate=False)


def resemblyzer() -> Callable[[object], object]:
    from resemblyzer import VoiceEncoder

    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda wave_N: encoder.embed_utterance(wave_N)


def ecapa() -> Callable[[object], object]:
    """The published size, with the features and normalisation of its recipe."""
    import torch
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    features, level = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    network = ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072], lin_neurons=192).eval()
    whole = torch.ones(1)

    def embed(wave_N: object) -> object:
        with torch.inference_mode():
            return network(level(features(torch.as_tensor(wave_N)[None]), whole), whole)

    return embed


def measure(case: Record) -> Record:
    import numpy as np
    import torch

    torch.set_num_threads(case["threads"])
    wave_N = np.random.default_rng(0).standard_normal(int(case["seconds"] * RATE)).astype(np.float32) * 0.1
    kinds: dict[str, Callable[[], Callable[[object], object]]] = {
        RESEMBLYZER: resemblyzer,
        ECAPA: ecapa,
        EXPORTED: lambda: exported(case["onnx"], case["threads"]),
    }
    made = kinds.get(case["name"], lambda: ours(case["batch"], case["separate"]))()
    return timed(lambda: made(wave_N), case["runs"], warm=2)


def main() -> None:
    parser = arguments(__doc__, "embed.md", runs=4, rounds=2)
    parser.add_argument("--peer-python", help="Python of an environment with the peers")
    args = parsed(parser, measure)
    names = [(MINE, sys.executable), (EXPORTED, sys.executable)]
    names += [(p, args.peer_python) for p in PEERS if args.peer_python]
    keys = [(name, seconds, 1) for name, _ in names for seconds in LENGTHS]
    keys += [(MINE, seconds, 1) for seconds in GROWTH if seconds not in LENGTHS]
    keys += [(SEPARATING, seconds, 1) for seconds in GROWTH] + [(MINE, 10.0, 8)]
    python = dict(names) | {SEPARATING: sys.executable}
    folder = tempfile.TemporaryDirectory()
    onnx = Path(folder.name) / "base.onnx"
    export_to(onnx)
    cases = [
        (
            python[name],
            {
                "name": name,
                "seconds": seconds,
                "batch": batch,
                "separate": name == SEPARATING,
                "onnx": str(onnx),
                "runs": args.runs if seconds <= 60 else 2,
                "threads": args.threads,
            },
        )
        for name, seconds, batch in keys
    ]
    results, loads = take_turns(__file__, cases, args.rounds)
    found = dict(zip(keys, results, strict=True))

    def factor(name: str, seconds: float, batch: int = 1) -> float:
        return median(found[name, seconds, batch], "wall_s") / (seconds * batch)

    lines = [
        "# Embedding a recording",
        "",
        f"Time from the waveform to embeddings, {args.threads} threads. The real-time factor is the",
        "computing time per second of audio. Our model returns an embedding and the activity of every",
        "speaker, the peers return one embedding.",
        *made_on(loads, "torch", "numpy", "onnxruntime"),
        "",
    ]
    rows = []
    for name, _ in names:
        cells = [spread(found[name, s, 1], "wall_s", 1000, 0) for s in LENGTHS]
        rows.append([name, *cells, " / ".join(f"{factor(name, s):.4f}" for s in LENGTHS)])
    heads = [f"{seconds:g} s, ms (lowest–highest)" for seconds in LENGTHS]
    lines += table(["system", *heads, "real-time factors"], rows)
    promises = []
    for seconds, peer in PROMISED.items() if args.peer_python else ():
        ratio = factor(MINE, seconds) / factor(peer, seconds)
        what = f"embedding {seconds:g} s, every speaker: real-time factor relative to {peer}"
        promises.append(Promise(what, f"{ratio:.2f}", "≤ 1", ratio <= 1))
    for name, what in ((MINE, "embedding"), (SEPARATING, "separation")):
        alone = {seconds: found[name, seconds, 1] for seconds in GROWTH}
        slope = exponent(list(GROWTH), [median(one, "wall_s") for one in alone.values()])
        growth = ", ".join(
            f"{seconds:g} s {1000 * median(one, 'wall_s'):.0f} ms ({median(one, 'above'):.0f} MiB)"
            for seconds, one in alone.items()
        )
        lines += [
            "",
            f"Growth of {what} without windows: {growth}. Time grows with the length to the power of",
            f"**{slope:.2f}**.",
        ]
        grows = f"{what} up to 10 minutes: growth of time"
        promises.append(Promise(grows, f"{slope:.2f}", "≤ 1.05", slope <= 1.05))
    lines += [
        "",
        f"Real-time factor of a batch of eight recordings of 10 s: {factor(MINE, 10.0, 8):.4f}; of one"
        f" recording: {factor(MINE, 10.0):.4f}.",
        "",
        f"Medians (lowest–highest) of {args.rounds * args.runs} runs in {args.rounds} processes, each after",
        "two warm-up runs.",
        "Made by `python benchmarks/bench_embed.py"
        f"{' --peer-python PEERS/bin/python' if args.peer_python else ''}`.",
    ]
    folder.cleanup()
    write_page(args.page, lines, promises)


if __name__ == "__main__":
    main()
