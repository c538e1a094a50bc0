"""Corrections, several files, the example and transcripts on the page, in a real browser."""

import json
import re
from pathlib import Path

import pytest
from serve_helpers import SCREENSHOTS, RunningServer, Visitor, needs_browser, until

from separative.inference.timeline import write_timeline

pytestmark = [pytest.mark.slow, needs_browser]


def test_turns_and_speakers_are_corrected(server: RunningServer, visit, record) -> None:
    visitor = visit(server.url)
    page = visitor.page
    page.select_option("#speaker-count", "1")  # the model is untrained
    visitor.diarize(record("page-correct.wav", 12.0, 70))
    names, rows = page.locator(".lane-name"), page.locator(".turn-row")
    turns = rows.count()
    assert page.locator("#undo").is_hidden() and names.all_inner_texts() == ["Recording", "Speaker 1"]

    # The chosen turn is split at the playhead; its second half goes to a new speaker.
    rows.first.click()
    page.locator(".position").fill(str(round(page.evaluate("() => audioElements[0].currentTime") + 1, 1)))
    page.get_by_role("button", name="Split at the playhead").click()
    until(lambda: rows.count() == turns + 1)
    rows.nth(1).click()
    page.get_by_label("Give to").select_option(label="a new speaker")
    names.filter(has_text="Speaker 2").wait_for()
    assert rows.nth(1).locator(".who").inner_text() == "Speaker 2"
    assert visitor.text("#undo") == "Undo (2)" and "2 speakers" in visitor.text(".queued.shown .stage")

    # "Now speaking" and the list follow the playback.
    rows.nth(1).click()
    assert visitor.text(".now") == "Now speaking: Speaker 2"
    assert page.locator(".turn-row[aria-current] .who").all_inner_texts() == ["Speaker 2"]
    page.click(".play")
    page.locator(".now").filter(has_text="Now speaking: Speaker 1").wait_for()
    page.click(".play")

    # A name that another speaker has is refused, with the cure.
    for lane, name in (("Speaker 1", "Ann"), ("Speaker 2", "Ann")):
        page.get_by_role("button", name=f"Edit {lane}").click()
        page.fill("#speaker-name", name)
        page.get_by_role("button", name="Use this name").click()
        if lane == "Speaker 1":
            names.filter(has_text="Ann").wait_for()
    page.locator("#speaker-error").filter(has_text="merge the two").wait_for()
    page.get_by_role("button", name="Merge").click()
    until(lambda: names.all_inner_texts() == ["Recording", "Ann"])
    page.locator("#diarization-title:focus").wait_for()
    page.click("#undo")
    until(lambda: names.all_inner_texts() == ["Recording", "Ann", "Speaker 2"])

    # Another page with the old result cannot overwrite the new one.
    page.evaluate(
        "async () => { const [{ job }] = JSON.parse(localStorage.getItem(`separative / recordings`));"
        " const found = await (await fetch(`api/jobs/${job}`)).json();"
        " const body = { action: 'undo', revision: found.result.revision };"
        " await fetch(`api/jobs/${job}/corrections`, { method: 'POST', body: JSON.stringify(body),"
        " headers: { 'Content-Type': 'application/json' } }); }"
    )
    page.click("#undo")
    page.locator("#result-error").filter(has_text="another window").wait_for()

    # Another number of speakers needs no upload.
    uploads = len(server.service.uploads)
    page.select_option("#recount-number", "2")
    page.click("#recount")
    page.locator(".queued .remove").filter(has_text="Remove").wait_for()
    until(lambda: page.locator("#recount-number").input_value() == "2")
    assert len(server.service.uploads) == uploads


def test_several_files_wait_in_a_queue_and_survive_a_closed_tab(server: RunningServer, visit, record) -> None:
    visitor = visit(server.url)
    page = visitor.page
    paths = [record(f"page-queue{n}.wav", 4.0 + n, 60 + n) for n in range(3)]
    page.set_input_files("#file", paths)
    assert page.locator(".queued b").all_inner_texts() == [path.name for path in paths]
    page.locator(".queued .open:visible").nth(2).wait_for()
    assert visitor.text("#diarization-title") == paths[0].name, "the first one stays"
    page.get_by_role("button", name=f"Show {paths[2].name}").click()
    assert page.locator("#diarization-title:focus").inner_text() == paths[2].name
    page.close()
    again = visitor.context.new_page()
    again.goto(server.url)
    again.locator(".queued.shown").filter(has_text=paths[2].name).wait_for()
    until(lambda: again.locator(".queued .open:visible").count() == 3)
    again.get_by_role("button", name=f"Remove {paths[2].name}").click()
    again.locator("#diarization").wait_for(state="hidden")
    assert again.locator(".queued").count() == 2


def test_a_file_is_dropped_with_its_transcript(server: RunningServer, visit, record) -> None:
    visitor = visit(server.url)
    page = visitor.page
    words = {"segments": [{"start": 0.5, "end": 2.5, "text": "Hello <i>there</i>."}]}
    files = [
        ["dropped.flac", list(record("page-drop.flac", 3.0, 88).read_bytes())],
        ["dropped.json", list(json.dumps(words).encode())],
    ]
    script = (
        "files => { const all = new DataTransfer();"
        " for (const [name, data] of files) all.items.add(new File([new Uint8Array(data)], name));"
        " return all; }"
    )
    dropped = page.evaluate_handle(script, files)
    page.dispatch_event("#drop", "dragover", {"dataTransfer": dropped})
    assert "over" in page.locator("#drop").get_attribute("class")
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    page.locator("#diarization-title").filter(has_text="dropped.flac").wait_for()
    page.locator(".turn-row .text").filter(has_text="Hello <i>there</i>.").wait_for()
    page.click("summary")
    with page.expect_download() as download:
        page.get_by_role("link", name="Transcript: Text").click()
    assert "Hello <i>there</i>." in Path(download.value.path()).read_text()
    # A transcript that cannot be read leaves the result as it is.
    page.set_input_files(
        "#transcript", {"name": "bad.srt", "mimeType": "text/plain", "buffer": b"no times at all"}
    )
    page.locator("#result-error").filter(has_text="bad.srt has no cues with times").wait_for()
    assert page.locator(".turn-row .text").count() == 1


def test_the_example_says_what_happens_and_is_diarized(server: RunningServer, visit) -> None:
    visitor = visit(server.url)
    text = visitor.text("#what-happens")
    assert "nowhere else" in text and "30 minutes after their last use" in text
    visitor.page.click("#example")
    visitor.page.locator("#diarization-title").filter(has_text="Example conversation").wait_for()
    assert re.search(r"0:(29|30|31)", visitor.text("#summary"))


def test_the_page_of_diarize_has_the_same_player(browser, record, tmp_path: Path) -> None:
    mixture, speech = record("page-mixture.wav", 8.0, 66), record("page-speech.wav", 8.0, 67)
    speakers = [
        {"name": "<b>Ann</b>", "speech_seconds": 4.0, "turns": [[0.0, 4.0]], "confidence": [0.9]},
        {"name": "Bob", "speech_seconds": 5.0, "turns": [[3.0, 8.0]], "confidence": [0.8]},
    ]
    turns = {"recording": "talk.wav", "seconds": 8.0, "speakers": speakers}
    visitor = Visitor(
        browser, write_timeline(tmp_path / "talk.html", turns, mixture, [speech, speech]).as_uri(), ready="h1"
    )
    page = visitor.page
    assert page.locator(".lane-name").all_inner_texts() == ["Recording", "<b>Ann</b>", "Bob"]
    page.locator(".turn-row").nth(1).click()
    assert visitor.text(".now") == "Now speaking: <b>Ann</b>, Bob"
    page.get_by_role("button", name="Solo Bob").click()
    page.click(".play")
    until(lambda: visitor.audible() == [2])
    page.locator(".clock").filter(has_text=re.compile("0:0[4-7] / 0:08")).wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=SCREENSHOTS / "timeline-390.png", full_page=True)
    assert visitor.console_errors == []
    visitor.context.close()
