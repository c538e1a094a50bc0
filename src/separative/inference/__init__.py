"""What a model says of recordings: every speaker's embedding, activity, waveform; who is who."""

from separative.inference.bulk import Cut, embed_corpus
from separative.inference.diarize import (
    Diarization,
    Match,
    Speaker,
    describe_diarization,
    diarize,
    identify,
)
from separative.inference.forward import embed, embed_many, separate
from separative.inference.output import write_embeddings, write_waveforms
from separative.inference.recording import LONGEST, MIN_SPEECH, Audio, Recording, Stream
from separative.inference.separated import write_voices
from separative.inference.streaming import StreamingDiarizer, Update
from separative.inference.verify import Verification, verify

__all__ = [
    "LONGEST",
    "MIN_SPEECH",
    "Audio",
    "Cut",
    "Diarization",
    "Match",
    "Recording",
    "Speaker",
    "Stream",
    "StreamingDiarizer",
    "Update",
    "Verification",
    "describe_diarization",
    "diarize",
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
