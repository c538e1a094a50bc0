"""Enrolled speakers, kept on disk: who is this, if anyone that is known?"""

from separative.gallery.enrolment import Gate
from separative.gallery.gallery import Gallery
from separative.gallery.identify import Candidate, Identification
from separative.gallery.store import EnrolledSpeaker

__all__ = ["Candidate", "EnrolledSpeaker", "Gallery", "Gate", "Identification"]
