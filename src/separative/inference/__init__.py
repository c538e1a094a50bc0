"""What a model says of recordings: every talker's embedding, activity, waveform; who is who."""

from separative.inference.bulk import Cut, embed_corpus
from separative.inference.diarize import (
    Match,
    Meeting,
    Speaker,
    analyze,
    describe_meeting,
    identify,
)
from separative.inference.forward import embed, embed_many, separate
from separative.inference.output import write_embeddings, write_waveforms
from separative.inference.recording import LONGEST, MIN_SPEECH, Audio, Recording, Talker
from separative.inference.separated import write_voices
from separative.inference.streaming import Listener, Update
from separative.inference.verify import Verification, verify

__all__ = [
    "LONGEST",
    "MIN_SPEECH",
    "Audio",
    "Cut",
    "Listener",
    "Match",
    "Meeting",
    "Recording",
    "Speaker",
    "Talker",
    "Update",
    "Verification",
    "analyze",
    "describe_meeting",
    "embed",
    "embed_corpus",
    "embed_many",
    "identify",
    "separate",
    "verify",
    "write_embeddings",
    "write_voices",
    "write_waveforms",
]
