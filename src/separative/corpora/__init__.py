"""Corpora on disk: read and write manifests, check audio files, pack shards, synthesise speech."""

from separative.corpora.check import CorpusProblem, CorpusReport, check_corpus
from separative.corpora.cuts import save_corpus
from separative.corpora.holdout import hold_out_speakers
from separative.corpora.layouts import LAYOUTS, load_corpus
from separative.corpora.manifest import Corpus, IdentityKind, Utterance
from separative.corpora.shards import pack_corpus
from separative.corpora.voices import synthesize_corpus

__all__ = [
    "LAYOUTS",
    "Corpus",
    "CorpusProblem",
    "CorpusReport",
    "IdentityKind",
    "Utterance",
    "check_corpus",
    "hold_out_speakers",
    "load_corpus",
    "pack_corpus",
    "save_corpus",
    "synthesize_corpus",
]
