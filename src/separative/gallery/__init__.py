"""Galleries of enrolled speakers on disk, with open-set identification."""

from separative.gallery.enrolment import EnrolmentQuality
from separative.gallery.gallery import Gallery
from separative.gallery.known import KnownSpeakers
from separative.gallery.records import EnrolledRecording, EnrolledSpeaker
from separative.inference.identities import Identification

__all__ = [
    "EnrolledRecording",
    "EnrolledSpeaker",
    "EnrolmentQuality",
    "Gallery",
    "Identification",
    "KnownSpeakers",
]
