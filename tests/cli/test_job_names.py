"""The script of the first job: two conversations of real speakers, as a phone records them, with names."""

import json
import shlex
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Run

from separative import audio
from separative.corpora import Corpus, load_corpus
from separative.metrics import match_speakers
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.model.files import model_names
from separative.rttm import Turn, read_rttm, turns_to_frames

sys.path.insert(0, str(Path(__file__).parents[1] / "audio"))
from media_files import FORMATS, write_media

SCRIPT = Path(__file__).parents[2] / "docs" / "jobs" / "names.sh"
SPEAKERS, SECONDS, FRAME = ("speechocean762/9614", "speechocean762/9643"), 181.0, 0.01


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
def test_two_people_have_their_names_this_week_and_next(cli: Run, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra 'media'")
    pytest.importorskip("numkong", reason="needs the extra 'gallery'")
    speech = load_corpus(data / "speech.csv", split="dev").by_speaker
    truth: dict[str, list[Turn]] = {}
    made = FORMATS["M4A, AAC"]
    config = ConversationConfig(seconds=SECONDS, speakers=2, overlap=0.1)
    for half, day in enumerate(("monday", "tuesday")):
        corpus = Corpus(tuple(u for name in SPEAKERS for u in speech[name][half::2]))
        talk = ConversationSimulator(corpus, config, seed=half).conversation(0)
        wave_N = audio.resample(talk.render(0, talk.samples)[0], talk.rate, made.rate)
        write_media(tmp_path / f"{day}.m4a", np.stack([wave_N, 0.7 * wave_N]).astype(np.float32), made)
        truth[day] = talk.speech_turns()
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith("separative ")]
    with chdir(tmp_path):
        for line in lines:
            done = cli(*shlex.split(line)[1:])
            assert done.code == 0, done.err
    names: dict[str, str] = {}
    for day in ("monday", "tuesday"):
        found = read_rttm(tmp_path / "results" / f"{day}.rttm")[day]
        assert {turn.speaker for turn in found} == {"Ann", "Bob"}
        frames = round(SECONDS / FRAME)
        sides = (
            turns_to_frames(turns, speakers, frames, FRAME)
            for turns, speakers in ((truth[day], SPEAKERS), (found, ("Ann", "Bob")))
        )
        pairs = {("Ann", "Bob")[c]: SPEAKERS[k] for k, c in zip(*match_speakers(*sides), strict=True)}
        # The same person has the same name on both days.
        names = names or pairs
        assert len(pairs) == 2 and pairs == names
        text = (tmp_path / "results" / f"{day}.srt").read_text()
        assert "\nAnn\n" in text and "\nBob\n" in text and "speaker" not in text
        record = json.loads((tmp_path / "results" / f"{day}.json").read_text())
        assert {speaker["name"] for speaker in record["speakers"]} == {"Ann", "Bob"}
        assert {f"{day}-Ann.wav", f"{day}-Bob.wav"} <= set(record["files"])
        assert all((tmp_path / "results" / name).is_file() for name in record["files"])
    # Waveforms of Monday that had other names are gone.
    assert len(list((tmp_path / "results").glob("*.wav"))) == 4
