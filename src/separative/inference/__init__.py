"""Use a model: embed, separate, verify, identify and diarize recordings, and write the results."""

from separative.inference.bulk import Cut, embed_corpus
from separative.inference.channels import channel_cache, describe_channels, diarize_channels
from separative.inference.diarize import Diarization, diarize
from separative.inference.evidence import Candidate
from separative.inference.exclusive import exclusive_turns
from separative.inference.forward import embed, embed_many, separate
from separative.inference.output import (
    describe_diarization,
    describe_recording,
    describe_run,
    write_embeddings,
    write_waveforms,
)
from separative.inference.recording import (
    MAX_RECORDING_SECONDS,
    MIN_SPEECH_SECONDS,
    Audio,
    Recording,
    Stream,
)
from separative.inference.separated import write_speakers
from separative.inference.sources import Waveform, load_audio
from separative.inference.speakers import Speaker
from separative.inference.streaming import StreamingDiarizer
from separative.inference.transcript import TranscriptSegment, TranscriptWord, add_speakers
from separative.inference.transcript_files import read_transcript, write_transcript
from separative.inference.updates import Correction, StreamingTurns, StreamingUpdate
from separative.inference.verify import Verification, identify, verify

__all__ = [
    "MAX_RECORDING_SECONDS",
    "MIN_SPEECH_SECONDS",
    "Audio",
    "Candidate",
    "Correction",
    "Cut",
    "Diarization",
    "Recording",
    "Speaker",
    "Stream",
    "StreamingDiarizer",
    "StreamingTurns",
    "StreamingUpdate",
    "TranscriptSegment",
    "TranscriptWord",
    "Verification",
    "Waveform",
    "add_speakers",
    "channel_cache",
    "describe_channels",
    "describe_diarization",
    "describe_recording",
    "describe_run",
    "diarize",
    "diarize_channels",
    "embed",
    "embed_corpus",
    "embed_many",
    "exclusive_turns",
    "identify",
    "load_audio",
    "read_transcript",
    "separate",
    "verify",
    "write_embeddings",
    "write_speakers",
    "write_transcript",
    "write_waveforms",
]
