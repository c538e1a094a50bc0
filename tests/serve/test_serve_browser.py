"""The page in a real browser with a real server: mouse, keyboard, narrow screens, dark theme."""

import re
from pathlib import Path

import numpy as np
import pytest
from serve_helpers import SCREENSHOTS, RunningServer, Visitor, launch, needs_browser, until

from separative import audio
from separative.corpora import load_corpus
from separative.model import load_model
from separative.model.files import model_names

pytestmark = [pytest.mark.slow, needs_browser]
WIDTHS = {1280: 900, 390: 844}


def test_a_speaker_is_diarized_enrolled_identified_and_deleted(start_server, visit, record) -> None:
    server: RunningServer = start_server()
    visitor = visit(server.url)
    page = visitor.page
    page.select_option("#speaker-count", "1")  # the model is untrained
    visitor.diarize(record("page-talk.wav", 12.0, 80))
    assert visitor.text("#diarization-title") == "page-talk.wav"
    lanes = page.locator(".lane")
    assert page.locator(".lane-name").all_inner_texts() == ["Recording", "Speaker 1"]
    assert page.locator(".lane .outline").count() == 2 and page.locator(".turn").count() > 0

    # Play the recording, then the speaker only, then nothing.
    page.click(".play")
    page.locator(".clock").filter(has_text=re.compile(r"^0:0[1-9] / 0:12")).wait_for()
    assert visitor.text(".play") == "Pause" and visitor.audible() == [0]
    lanes.nth(1).get_by_role("button", name="Solo Speaker 1").click()
    until(lambda: visitor.audible() == [1])
    apart = "() => Math.abs(audioElements[0].currentTime - audioElements[1].currentTime)"
    until(lambda: page.evaluate(apart) < 0.1)
    assert lanes.nth(1).locator(".solo").get_attribute("aria-pressed") == "true"
    lanes.nth(1).locator(".mute").click()
    until(lambda: visitor.audible() == [])
    lanes.nth(1).locator(".solo").click()
    assert visitor.audible() == []
    lanes.nth(1).locator(".mute").click()
    until(lambda: visitor.audible() == [0])
    page.locator(".controls select").select_option("2")
    page.locator(".volume").fill("0.5")
    assert page.evaluate("() => [audioElements[0].playbackRate, audioElements[1].volume]") == [2, 0.5]
    page.click(".play")

    # Jump to a position and zoom in. The outline then has peaks of its own.
    box = lanes.nth(1).locator(".viewport").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 10)
    assert visitor.text(".clock") in ("0:08 / 0:12", "0:09 / 0:12")
    page.click(".zoom-in")
    page.click(".zoom-in")
    wide = lanes.nth(1).locator(".waveform").bounding_box()["width"]
    assert wide == pytest.approx(4 * box["width"], rel=0.01)
    until(lambda: lanes.nth(1).locator(".viewport").evaluate("v => v.scrollLeft") > 0)
    dense = "e => e.dataset.peaks / parseFloat(e.style.width) * 100 / 12"
    until(lambda: lanes.nth(1).locator(".visible-part").evaluate(dense) > 0.6 * wide / 12)

    # Enrol under a name that looks like HTML and must stay text.
    name = "Ada <img src=x>"
    visitor.enrol("Speaker 1", name)
    page.locator("#speaker-list b").filter(has_text=name).wait_for()
    assert page.locator("main img").count() == 0
    assert page.locator(".lane-name").all_inner_texts() == ["Recording", name]
    colour = lanes.nth(1).locator(".outline").get_attribute("fill")

    # The speaker is identified in a second upload, and has the same colour.
    visitor.diarize(record("page-talk.wav", 12.0, 80))
    page.locator(".lane-name").filter(has_text=name).wait_for()
    assert re.search(r"Identified, .*\d\s*%", visitor.text(".lane:nth-child(2) .identity"))
    assert lanes.nth(1).locator(".outline").get_attribute("fill") == colour
    page.get_by_role("button", name=f"Edit {name}").click()
    assert visitor.text("#speaker-enrol") == f"Add this recording to {name}"
    page.click("#speaker-close")

    # Delete the speaker, after a question. The lane is then unknown again.
    page.get_by_role("button", name=f"Delete {name}").click()
    page.locator("#confirm").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#speaker-list li").count() == 1
    page.get_by_role("button", name=f"Delete {name}").click()
    page.click("#confirm-yes")
    page.locator("#no-speakers").wait_for()
    page.locator(".lane-name").filter(has_text="Speaker 1").wait_for()

    # A reload loses nothing. Removing the recordings removes everything from the server.
    page.reload()
    page.locator("#diarization").wait_for()
    assert page.locator(".queued").count() == 2 and server.temporary_files()
    for _ in range(2):
        page.locator(".queued .remove").first.click()
    page.locator("#queue").wait_for(state="hidden")
    until(lambda: not server.temporary_files())
    assert visitor.console_errors == [] and page.locator("#diarization").is_hidden()


@pytest.mark.skipif("base" not in model_names(), reason="this version has no shipped model")
def test_the_shipped_model_separates_and_identifies_real_speakers(visit, data: Path, tmp_path: Path) -> None:
    corpus = load_corpus(data / "speech.csv", split="dev")
    speech = {}
    for speaker in [t for t in corpus.speakers if t.startswith("speechocean762")][:2]:
        waves = [audio.read(u.path, 16000)[0] for u in corpus if u.speaker == speaker]
        level = np.concatenate([0.05 * w / np.sqrt(np.mean(w**2)) for w in waves])
        speech[speaker] = np.split(level, [8 * 16000, 20 * 16000])
    (first, other, _), (first_other, other_other, _) = speech.values()
    audio.write(tmp_path / "turns.wav", np.concatenate([first, first_other]).astype(np.float32), 16000)
    both = np.pad(other, (0, 6 * 16000))
    both[6 * 16000 :] += other_other
    audio.write(tmp_path / "over.wav", both.astype(np.float32), 16000)

    running = RunningServer(load_model(), tmp_path / "gallery")
    try:
        visitor = visit(running.url)
        visitor.page.select_option("#speaker-count", "2")  # the speakers are similar, so the number is given
        visitor.diarize(tmp_path / "turns.wav")
        lanes = visitor.page.locator(".lane")
        assert lanes.count() == 3, "the recording and two speakers"
        for number, name in ((1, "Ada"), (2, "Grace")):
            visitor.enrol(f"Speaker {number}", name)
            visitor.page.locator("#speaker-list b").filter(has_text=name).wait_for()
        visitor.page.screenshot(path=SCREENSHOTS / "real-turns.png", full_page=True)

        visitor.diarize(tmp_path / "over.wav")
        # Both speak for about the same time, so the order of lanes may vary. Ada speaks first.
        by_start = sorted((1, 2), key=lambda n: lanes.nth(n).locator(".turn").first.bounding_box()["x"])
        best = [lanes.nth(number).locator(".lane-name").inner_text() for number in by_start]
        visitor.page.screenshot(path=SCREENSHOTS / "real-over.png", full_page=True)
        assert lanes.count() == 3 and best == ["Ada", "Grace"] and visitor.console_errors == []
    finally:
        running.stop()


def test_downloads_have_the_right_names_and_content(
    server: RunningServer, visit, record, tmp_path: Path
) -> None:
    visitor = visit(server.url)
    visitor.diarize(record("page-save.wav", 6.0, 81))
    visitor.page.click("summary")
    for link, name in {
        "WAV: the recording": "page-save-mixture.wav",
        "RTTM: diarization tools": "page-save-meeting.rttm",
        "JSON: everything": "page-save-meeting.json",
        "TextGrid: Praat": "page-save-meeting.TextGrid",
    }.items():
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("link", name=link).click()
        assert download.value.suggested_filename == name
    visitor.page.get_by_role("button", name="Edit Speaker 1").click()
    name = "page-save-speaker1.wav"
    with visitor.page.expect_download() as download:
        visitor.page.click("#speaker-wav")
    assert download.value.suggested_filename == name
    download.value.save_as(tmp_path / name)
    assert audio.info(tmp_path / "page-save-speaker1.wav").seconds == pytest.approx(6.0)


def test_a_speaker_is_renamed(start_server, visit, record) -> None:
    server: RunningServer = start_server()
    for name in ("Ada", "Grace"):
        id_ = server.upload(record("page-name.wav", 4.0, 96))
        server.run("gallery", name=name, recordings=[id_], force=True)
    page = (visitor := visit(server.url)).page
    page.get_by_role("button", name="Rename Ada").click()
    assert page.input_value("#new-name") == "Ada"
    for refused, words in (("Grace ", "enrolled already"), (" ", "1 character"), ("..", "dots only")):
        page.fill("#new-name", refused)
        page.keyboard.press("Enter")
        page.locator("#rename-error").filter(has_text=words).wait_for()
    page.fill("#new-name", "grace <i>Zoe\u0301</i> ")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.locator("button:focus[aria-label='Rename grace <i>Zo\u00e9</i>']").click()
    assert page.locator("#rename-error").is_hidden() and "Ada was renamed to grace" in visitor.text("#status")
    page.fill("#new-name", "grace")
    page.keyboard.press("Enter")
    page.locator("#status").filter(has_text="'grace' and 'Grace' differ only in capital letters").wait_for()
    assert page.locator("#speaker-list b").all_inner_texts() == ["grace", "Grace"]


def test_the_page_works_with_the_keyboard_only(server: RunningServer, visit, record) -> None:
    visitor = visit(server.url)
    page = visitor.page
    visitor.diarize(record("page-keys.wav", 20.0, 82))
    page.locator("#diarization-title:focus").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert visitor.text(".clock") == "0:10 / 0:20"
    page.keyboard.press("+")
    assert page.locator(".zoom-out").is_enabled()
    page.keyboard.press("Space")
    page.locator(".clock").filter(has_text=re.compile(r"^0:1[1-9]")).wait_for()
    page.keyboard.press("Space")
    assert visitor.text(".play") == "Play"
    # The Tab key reaches every control, and the focus is visible.
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "() => { const e = document.activeElement;"
            " const s = getComputedStyle(e.type === 'file' ? e.parentNode : e);"
            " return [e.id || e.className || e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]; }"
        )
        if found[0] == "BODY":
            break
        assert found[1] != "none" and found[2] >= 2, found
        reached.append(found[0])
    for wanted in (
        *("main play", "zoom-in", "solo small", "mute small", "small edit", "position", "turn-row"),
        *("recount", "transcript", "SUMMARY", "left", "right"),
    ):
        assert wanted in reached, (wanted, reached)


def test_a_recording_from_the_microphone(playwright, start_server, record, tmp_path: Path) -> None:
    server: RunningServer = start_server()
    recording = record("page-microphone.wav", 5.0, 83, rate=48000)
    browser = launch(
        playwright,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    )
    try:
        visitor = Visitor(browser, server.url, permissions=["microphone"])
        page = visitor.page
        page.click("#record")
        page.locator("#recorded").filter(has_text="0:04").wait_for()
        page.screenshot(path=SCREENSHOTS / "microphone.png")
        page.click("#stop")
        page.locator("#diarization").wait_for()
        assert visitor.text("#diarization-title").startswith("Recording at ")
        assert re.search(r"0:0[3-9]", visitor.text(".clock").partition("/")[2])
        page.click("summary")
        with page.expect_download() as download:
            page.get_by_role("link", name="WAV: the recording").click()
        download.value.save_as(tmp_path / "mixture.wav")
        wave_N, _ = audio.read(tmp_path / "mixture.wav")
        assert float(abs(wave_N).max()) > 0.02
        # A discarded recording is not uploaded.
        page.click("#record")
        page.locator("#recorded").filter(has_text="0:01").wait_for()
        page.click("#discard")
        page.locator("#record:focus").wait_for()
        assert visitor.console_errors == [] and len(server.service.uploads) == 1
    finally:
        browser.close()


def test_invalid_files_give_a_message(start_server, visit, record, tmp_path: Path) -> None:
    from separative.serve import Limits

    server: RunningServer = start_server(Limits(minutes=0.2, megabytes=1))
    visitor = visit(server.url)
    (tmp_path / "<b>text.wav").write_text("no sound at all")
    (tmp_path / "large.wav").write_bytes(bytes(1_500_000))
    for path, words in (
        (tmp_path / "<b>text.wav", "<b>text.wav: not readable as WAV"),
        (tmp_path / "large.wav", "large.wav is too large"),
        (record("page-long.wav", 20.0, 84), "at most 0.2 minutes are allowed"),
    ):
        visitor.page.set_input_files("#file", path)
        visitor.page.locator(".queued .error").filter(has_text=words).wait_for()
    visitor.diarize(record("page-good.wav", 3.0, 85))
    # A message can be removed, and is gone after a reload.
    visitor.page.get_by_role("button", name="Remove large.wav").click()
    assert visitor.page.locator(".queued").count() == 3
    visitor.page.reload()
    visitor.page.locator("#diarization").wait_for()
    assert visitor.page.locator(".queued").count() == 1
    visitor.page.set_input_files("#left", tmp_path / "<b>text.wav")
    visitor.page.set_input_files("#right", tmp_path / "<b>text.wav")
    visitor.page.click("#compare")
    visitor.page.locator("#compare-error").filter(has_text="not readable").wait_for()


def test_a_recording_that_the_server_removed_gives_a_message(start_server, visit, record) -> None:
    server: RunningServer = start_server()
    visitor = visit(server.url)
    visitor.diarize(record("page-lost.wav", 3.0, 79))
    path = visitor.page.evaluate("() => new URL(audioElements[0].src).pathname").rpartition("/")[0]
    server.client.delete(path)
    # Load the audio again, as a browser does if it has cached only a part.
    visitor.page.evaluate("() => { audioElements[0].src += '?'; }")
    visitor.page.locator("#result-error").filter(has_text="Upload it again").wait_for()
    # After a reload it is not listed any more.
    visitor.page.reload()
    visitor.page.locator("#about").filter(has_text="model").wait_for()
    until(lambda: visitor.page.locator(".queued").count() == 0)


def test_cancel_stops_the_job(start_server, visit, record) -> None:
    server: RunningServer = start_server()
    visitor = visit(server.url)
    visitor.diarize(record("page-stays.wav", 3.0, 85))
    visitor.page.set_input_files("#file", record("page-cancel.wav", 300.0, 86))
    visitor.page.locator(".stage").filter(has_text=re.compile("Diarizing|Separating")).wait_for()
    visitor.page.screenshot(path=SCREENSHOTS / "progress.png")
    # A recording that waits to be diarized again keeps its result when that is cancelled.
    visitor.page.click("#recount")
    visitor.page.get_by_role("button", name="Cancel page-stays.wav").click()
    visitor.page.get_by_role("button", name="Remove page-stays.wav").wait_for()
    visitor.page.get_by_role("button", name="Cancel page-cancel.wav").click()
    visitor.page.locator("#status").filter(has_text="Cancelled page-cancel.wav").wait_for()
    assert visitor.page.locator(".queued b").all_inner_texts() == ["page-stays.wav"]
    visitor.page.reload()
    visitor.page.locator(".lane").first.wait_for()
    visitor.page.get_by_role("button", name="Remove page-stays.wav").click()
    visitor.page.locator("#diarization").wait_for(state="hidden")
    until(lambda: not server.temporary_files())


def test_a_stopped_server_gives_a_message(start_server, visit, record) -> None:
    server: RunningServer = start_server()
    visitor = visit(server.url)
    visitor.page.set_input_files("#file", record("page-gone.wav", 300.0, 87))
    visitor.page.locator(".stage").filter(has_text=re.compile("Diarizing|Separating")).wait_for()
    server.stop()
    visitor.page.locator(".queued .error").filter(has_text="the server cannot be reached").wait_for()


def test_two_recordings_are_compared(server: RunningServer, visit, record) -> None:
    visitor = visit(server.url)
    assert visitor.page.locator("#compare").is_disabled()
    visitor.page.set_input_files("#left", record("page-one.wav", 3.0, 87))
    visitor.page.set_input_files("#right", record("page-one.wav", 3.0, 87))
    visitor.page.click("#compare")
    visitor.page.locator("#comparison b").filter(has_text="Same speaker").wait_for()
    assert "cosine 1.000" in visitor.text("#comparison") and "calibrated on clean" in visitor.text(
        "#comparison"
    )


def test_a_token_opens_the_page_and_disappears_from_the_url(start_server, visit) -> None:
    server: RunningServer = start_server(token="s3cret")
    visitor = visit(f"{server.url}/?token=s3cret")
    assert visitor.page.url == f"{server.url}/" and visitor.console_errors == []
    assert visitor.page.evaluate("() => document.cookie") == ""


def test_axe_finds_no_accessibility_violation(start_server, visit, record) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    server: RunningServer = start_server()
    for number, name in enumerate(("Ada", "Émilie", "Grace Hopper", "Katherine Coleman Goble Johnson")):
        id_ = server.upload(record(f"page-look{number}.wav", 4.0, 90 + number))
        server.run("gallery", name=name, recordings=[id_], force=True)
    visitor = visit(server.url)
    page, violations = visitor.page, {}

    def check(state: str) -> None:
        for width, height in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": height})
            # All four combinations for the result, two for the other states.
            for scheme in ("light", "dark") if state == "result" else ("light" if width > 1000 else "dark",):
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=SCREENSHOTS / f"{state}-{scheme}-{width}.png", full_page=True)
                assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), state
                found = axe.Axe().run(page).response
                # With an open dialog, axe checks only the dialog.
                assert len(found["passes"]) >= 10
                for violation in found["violations"]:
                    where = f"{state}, {scheme}, {width}: {violation['id']} ({violation['impact']})"
                    violations[where] = [node["html"] for node in violation["nodes"]][:3]

    check("start")
    visitor.diarize(record("page-look.wav", 15.0, 95))
    page.locator(".position").fill("5")
    page.locator(".turn-row").first.click()
    page.click("summary")
    page.set_input_files("#left", record("page-look0.wav", 4.0, 90))
    page.set_input_files("#right", record("page-look1.wav", 4.0, 91))
    page.click("#compare")
    page.locator("#comparison b").wait_for()
    check("result")
    page.get_by_role("button", name="Edit Speaker 1").click()
    check("speaker")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete Ada").click()
    check("confirmation")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Rename Grace Hopper").click()
    page.fill("#new-name", "Ada")
    page.keyboard.press("Enter")
    page.locator("#rename-error").wait_for()
    check("rename")
    page.keyboard.press("Escape")
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not a sound"})
    page.locator(".queued .error:visible").wait_for()
    check("error")
    assert violations == {}
