"""Names of speakers: blanks, Unicode forms, nearly equal names, and renaming."""

from pathlib import Path

import pytest
from gallery_helpers import random_recording, unit

from separative.errors import GalleryError, UnknownSpeakerError
from separative.gallery import Gallery
from separative.gallery.store import FILE
from separative.model import SeparativeEncoder

COMPOSED, DECOMPOSED = "Zo\u00e9", "Zoe\u0301"


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("Ann", "Ann "),
        ("Ann", "\tAnn\n"),
        ("Ann", "\ufeffAnn\u200b"),
        (COMPOSED, DECOMPOSED),
        ("山田\u3000太郎", " 山田\u3000太郎"),
    ],
)
def test_one_name_is_one_speaker_however_it_is_typed(gallery: Gallery, stored: str, typed: str) -> None:
    gallery.enrol(typed, [random_recording(1)])
    gallery.enrol(stored, [random_recording(2)])
    [speaker] = gallery.list()
    assert (speaker.name, speaker.recordings) == (stored, 2)
    assert gallery.search(unit(1)[0])[0][0] == stored
    assert gallery.remove(typed, stored) == 1
    assert len(gallery) == 0


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "a\nb", "a\0b", "a\u2028b", "\udce9", "a\x1b[31mb"])
def test_names_that_are_not_one_line_of_text_are_refused(gallery: Gallery, name: str) -> None:
    gallery.enrol("ann", [random_recording(1)])
    for use in (
        lambda: gallery.enrol(name, [random_recording(2)]),
        lambda: gallery.rename("ann", name),
        lambda: gallery.remove(name),
    ):
        with pytest.raises(GalleryError, match="name"):
            use()
    assert [s.name for s in gallery.list()] == ["ann"]


def test_nearly_equal_names_and_shared_recordings_are_warned_about(gallery: Gallery) -> None:
    assert gallery.enrol("Ann Lee", [random_recording(1)]) == ()
    [warning] = gallery.enrol("ann  lee", [random_recording(2)])
    assert "'ann  lee' and 'Ann Lee' differ only in capital letters and blanks" in warning
    [warning] = gallery.enrol("bob", [random_recording(1)])
    assert "1.wav is also enrolled for 'Ann Lee'" in warning
    # A name is warned about once, when it is new.
    assert gallery.enrol("ann  lee", [random_recording(3)]) == ()
    assert gallery.enrol("annlees", [random_recording(4)]) == ()


def test_a_recording_enrolled_with_a_warning_reports_it_with_its_quality(gallery: Gallery, record) -> None:
    assert gallery.add("Ann", record("a.wav", 3.0, 1), force=True).warnings == ()
    warnings = gallery.add("ann", record("a.wav", 3.0, 1), force=True).warnings
    assert len(warnings) == 2 and "differ only" in warnings[0] and "is also enrolled" in warnings[1]


def test_a_renamed_speaker_keeps_everything_but_the_name(
    gallery: Gallery, saved: SeparativeEncoder, tmp_path: Path
) -> None:
    gallery.enrol("Ann", [random_recording(1), random_recording(2)], {"team": "blue"})
    gallery.enrol("bob", [random_recording(3)])
    before, query_E = gallery.list()[0], unit(1)[0]
    with Gallery(gallery.folder, saved) as other:
        scores = dict(other.search(query_E))
        assert gallery.rename(" Ann ", DECOMPOSED) == ()
        assert dict(other.search(query_E)) == {COMPOSED: scores["Ann"], "bob": scores["bob"]}
    renamed = next(s for s in gallery.list() if s.name == COMPOSED)
    assert (renamed.recordings, renamed.metadata, renamed.added) == (2, {"team": "blue"}, before.added)
    assert b"Ann" not in (gallery.folder / FILE).read_bytes()
    with pytest.raises(UnknownSpeakerError, match="no speaker 'Ann'"):
        gallery.rename("Ann", "x")
    with pytest.raises(GalleryError, match=f"'{COMPOSED}' is enrolled already"):
        gallery.rename("bob", DECOMPOSED)
    # The same name is no change. A name that differs in capital letters only is a change without a warning.
    assert gallery.rename("bob", "bob ") == () and gallery.rename("bob", "Bob") == ()
    assert "differ only" in gallery.rename(COMPOSED, "BOB")[0]
    gallery.export(tmp_path / "out.json")
    with Gallery(tmp_path / "other", saved) as other:
        other.import_(tmp_path / "out.json")
        assert [s.name for s in other.list()] == ["BOB", "Bob"]


def test_a_file_name_that_is_not_utf8_is_stored_readably(gallery: Gallery) -> None:
    gallery.enrol("ann", [random_recording(1, source="caf\udce9.wav")])
    assert gallery._store.recordings_of("ann")[0].source == "caf?.wav"
