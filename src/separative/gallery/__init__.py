"""Galleries of enrolled speakers on disk, with open-set identification."""

from separative.gallery.enrolment import EnrolmentQuality
from separative.gallery.gallery import Gallery
from separative.gallery.identify import Identification
from separative.gallery.records import EnrolledRecording, EnrolledSpeaker

__all__ = ["EnrolledRecording", "EnrolledSpeaker", "EnrolmentQuality", "Gallery", "Identification"]
