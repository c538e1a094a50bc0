"""Make the example of the web page: a short conversation between synthetic voices.

    python docs/make_example.py            # writes src/separative/serve/page/example.ogg

The voices are synthetic (eSpeak NG, the extra ``voices``), so the file holds no real person's voice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import separative
from separative import audio
from separative.corpora import load_corpus, synthesize_corpus
from separative.mixtures import ConversationConfig, ConversationSimulator

EXAMPLE = Path(__file__).parents[1] / "src" / "separative" / "serve" / "page" / "example.ogg"
CONFIG = ConversationConfig(
    seconds=30.0, speakers=3, overlap=0.12, turn_seconds=(2.0, 4.0), pause_seconds=0.3, backchannels=0.0
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=EXAMPLE)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        synthesize_corpus(folder, speakers=16, utterances=6, dev_speakers=8, seed=5)
        corpus = load_corpus(folder).split("dev")
        conversation = ConversationSimulator(corpus, CONFIG, seed=arguments.seed).conversation(0)
        wave_N, rate = audio.read(conversation.write(folder, "example"))
    audio.write(arguments.out, wave_N, rate)
    diarization = separative.diarize(separative.load_model(), arguments.out)
    print(f"{arguments.out.name}: {arguments.out.stat().st_size} bytes, {diarization.seconds:.1f} s")
    for title, listed in (("spoken", conversation.speech_turns()), ("found", diarization.turns)):
        print(title, *(f"{turn.speaker} {turn.start:.1f}-{turn.end:.1f}" for turn in listed), sep="\n  ")


if __name__ == "__main__":
    main()
