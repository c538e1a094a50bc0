"""The page in a real browser, against the real server: by mouse, by keys, on a phone, in the dark."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serve_helpers import Running, Visitor, until

from separative import audio
from separative.corpora import load_corpus
from separative.model import load_model
from separative.model.files import model_names

api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright (extra dev)")
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]
# Pictures of the page, for looking at; git ignores the folder.
PICTURES = Path(__file__).parents[2] / "screenshots"
WIDTHS = {1280: 900, 390: 844}


def launch(playwright, *arguments: str):
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*root, *arguments])


@pytest.fixture(scope="module")
def playwright() -> Iterator[object]:
    with api.sync_playwright() as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(playwright) -> Iterator[object]:
    opened = launch(playwright)
    yield opened
    opened.close()


@pytest.fixture
def visit(browser) -> Iterator[object]:
    visitors: list[Visitor] = []

    def come(url: str, **options: object) -> Visitor:
        visitors.append(Visitor(browser, url, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.context.close()
        assert visitor.foreign == []


def test_the_whole_way_from_a_file_to_a_known_speaker(start, visit, record) -> None:
    server: Running = start()
    here = visit(server.url)
    page = here.page
    page.select_option("#speakers", "1")  # the model is untrained
    here.diarize(record("page-talk.wav", 12.0, 80))
    assert here.text("#meeting-title") == "page-talk.wav"
    lanes = page.locator(".lane")
    assert here.text(".lane .who") == "Mixture" and lanes.count() >= 2
    assert page.locator(".lane .wave").count() == lanes.count() and page.locator(".turn").count() > 0

    # Hear it, then one voice alone, then none.
    page.click("#play")
    page.locator("#clock").filter(has_text=re.compile(r"^0:0[1-9] / 0:12")).wait_for()
    assert here.text("#play") == "Pause" and here.heard() == [0]
    lanes.nth(1).get_by_role("button", name="Speaker 1 alone").click()
    until(lambda: here.heard() == [1])
    apart = "() => Math.abs(sounds[0].currentTime - sounds[1].currentTime)"
    until(lambda: page.evaluate(apart) < 0.1)
    assert lanes.nth(1).locator(".alone").get_attribute("aria-pressed") == "true"
    assert lanes.nth(0).locator(".mute").get_attribute("aria-pressed") == "true"
    lanes.nth(1).locator(".mute").click()
    assert lanes.nth(1).locator(".alone").get_attribute("aria-pressed") == "false"
    until(lambda: here.heard() == [])
    page.click("#play")

    # Go to a place, and closer.
    box = lanes.nth(1).locator(".view").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 10)
    assert here.text("#clock") in ("0:08 / 0:12", "0:09 / 0:12")
    page.click("#closer")
    wide = lanes.nth(1).locator(".track").bounding_box()["width"]
    assert wide == pytest.approx(2 * box["width"], rel=0.01)
    until(lambda: lanes.nth(1).locator(".view").evaluate("v => v.scrollLeft") > 0)

    # Enrol, by a name that is text and nothing else.
    name = "Ada <img src=x>"
    lanes.nth(1).get_by_label("Name of speaker 1").fill(name)
    lanes.nth(1).get_by_role("button", name="Enrol speaker 1").click()
    lanes.nth(1).locator(".refusal").filter(has_text="nrolled").wait_for()
    page.locator("#speakers-list b").filter(has_text=name).wait_for()
    assert page.locator("main img").count() == 0

    # Known again on a second upload.
    here.diarize(record("page-talk.wav", 12.0, 80))
    page.locator(".lane .match b").filter(has_text=name).first.wait_for()
    assert re.search(r"\d\s*%", here.text(".lane:nth-child(2) .match"))

    # Deleted, after a question.
    page.get_by_role("button", name=f"Delete {name}").click()
    page.locator("#sure").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#speakers-list li").count() == 1
    page.get_by_role("button", name=f"Delete {name}").click()
    page.click("#sure-yes")
    page.locator("#nobody").wait_for()
    assert here.complaints == []

    # A tab that is closed takes everything along.
    assert server.files()
    page.close(run_before_unload=False)
    until(lambda: not server.files(), seconds=20)


@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
def test_real_voices_are_told_apart_and_known_again_by_the_shipped_model(
    visit, data: Path, tmp_path: Path
) -> None:
    corpus = load_corpus(data / "speech.csv", split="dev")
    said = {}
    for speaker in [t for t in corpus.speakers if t.startswith("speechocean762")][:2]:
        waves = [audio.read(u.path, 16000)[0] for u in corpus if u.speaker == speaker]
        level = np.concatenate([0.05 * w / np.sqrt(np.mean(w**2)) for w in waves])
        said[speaker] = np.split(level, [8 * 16000, 20 * 16000])
    (first, other, _), (first_other, other_other, _) = said.values()
    audio.write(tmp_path / "turns.wav", np.concatenate([first, first_other]).astype(np.float32), 16000)
    both = np.pad(other, (0, 6 * 16000))
    both[6 * 16000 :] += other_other
    audio.write(tmp_path / "over.wav", both.astype(np.float32), 16000)

    running = Running(load_model(), tmp_path / "gallery")
    try:
        here = visit(running.url)
        here.page.select_option("#speakers", "2")  # they are alike: said by one who knows them
        here.diarize(tmp_path / "turns.wav")
        lanes = here.page.locator(".lane")
        assert lanes.count() == 3, "the mixture and two speakers"
        for number, name in ((1, "Ada"), (2, "Grace")):
            lanes.nth(number).get_by_label(f"Name of speaker {number}").fill(name)
            lanes.nth(number).get_by_role("button", name=f"Enrol speaker {number}").click()
            here.page.locator("#speakers-list b").filter(has_text=name).wait_for()
        here.page.screenshot(path=PICTURES / "real-turns.png", full_page=True)

        here.diarize(tmp_path / "over.wav")
        # Both say about as much, so either may be the first lane; the first to speak is Ada.
        by_start = sorted((1, 2), key=lambda n: lanes.nth(n).locator(".turn").first.bounding_box()["x"])
        best = [lanes.nth(number).locator(".match b").first.inner_text() for number in by_start]
        here.page.screenshot(path=PICTURES / "real-over.png", full_page=True)
        assert lanes.count() == 3 and best == ["Ada", "Grace"] and here.complaints == []
    finally:
        running.stop()


def test_downloads_are_what_they_say(server: Running, visit, record, tmp_path: Path) -> None:
    here = visit(server.url)
    here.diarize(record("page-save.wav", 6.0, 81))
    for link, name in {
        "#get-wav": "page-save-mixture.wav",
        "#get-rttm": "page-save-meeting.rttm",
        "#get-json": "page-save-meeting.json",
        ".lane:nth-child(2) .wav": "page-save-speaker1.wav",
    }.items():
        with here.page.expect_download() as coming:
            here.page.click(link)
        assert coming.value.suggested_filename == name
        coming.value.save_as(tmp_path / name)
    assert audio.info(tmp_path / "page-save-speaker1.wav").seconds == pytest.approx(6.0)


def test_by_keys_alone(server: Running, visit, record) -> None:
    here = visit(server.url)
    page = here.page
    here.diarize(record("page-keys.wav", 20.0, 82))
    page.locator("#meeting-title:focus").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert here.text("#clock") == "0:10 / 0:20"
    page.keyboard.press("+")
    assert page.locator("#wider").is_enabled()
    page.keyboard.press("Space")
    page.locator("#clock").filter(has_text=re.compile(r"^0:1[1-9]")).wait_for()
    page.keyboard.press("Space")
    assert here.text("#play") == "Play"
    # Every control can be reached, and shows that it was.
    reached = []
    for _ in range(60):
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
    for wanted in ("play", "closer", "get-rttm", "alone small", "mute small", "position", "left", "right"):
        assert wanted in reached, (wanted, reached)


def test_a_recording_from_the_microphone(playwright, start, record, tmp_path: Path) -> None:
    server: Running = start()
    heard = record("page-microphone.wav", 5.0, 83, rate=48000)
    browser = launch(
        playwright,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    )
    try:
        here = Visitor(browser, server.url, permissions=["microphone"])
        page = here.page
        page.click("#record")
        page.locator("#recorded").filter(has_text="0:04").wait_for()
        page.screenshot(path=PICTURES / "microphone.png")
        page.click("#stop")
        page.locator("#meeting").wait_for()
        assert here.text("#meeting-title").startswith("Recording at ")
        assert re.search(r"0:0[3-9]", here.text("#clock").partition("/")[2])
        with page.expect_download() as coming:
            page.click("#get-wav")
        coming.value.save_as(tmp_path / "mixture.wav")
        wave_N, _ = audio.read(tmp_path / "mixture.wav")
        assert float(abs(wave_N).max()) > 0.02
        # What is discarded is sent to nobody.
        page.click("#record")
        page.locator("#recorded").filter(has_text="0:01").wait_for()
        page.click("#discard")
        page.locator("#record:focus").wait_for()
        assert here.complaints == [] and len(server.service.recordings) == 1
    finally:
        browser.close()


def test_bad_files_are_told_of_on_the_page(start, visit, record, tmp_path: Path) -> None:
    from separative.serve import Limits

    server: Running = start(Limits(minutes=0.2, megabytes=1))
    here = visit(server.url)
    (tmp_path / "<b>text.wav").write_text("no sound at all")
    (tmp_path / "large.wav").write_bytes(bytes(1_500_000))
    for path, words in (
        (tmp_path / "<b>text.wav", "<b>text.wav: not readable as WAV"),
        (tmp_path / "large.wav", "large.wav is too large"),
        (record("page-long.wav", 20.0, 84), "recordings up to 0.2 minutes are taken"),
    ):
        here.page.set_input_files("#file", path)
        here.page.locator("#problem").filter(has_text=words).wait_for()
        assert here.page.locator("#work").is_hidden()
    here.diarize(record("page-good.wav", 3.0, 85))
    assert here.page.locator("#problem").is_hidden()
    here.page.set_input_files("#left", tmp_path / "<b>text.wav")
    here.page.set_input_files("#right", tmp_path / "<b>text.wav")
    here.page.click("#compare")
    here.page.locator("#compare-problem").filter(has_text="not readable").wait_for()


def test_a_file_may_be_dropped(server: Running, visit, record) -> None:
    here = visit(server.url)
    data = list(record("page-drop.flac", 3.0, 88).read_bytes())
    dropped = here.page.evaluate_handle(
        "data => { const all = new DataTransfer();"
        " all.items.add(new File([new Uint8Array(data)], 'dropped.flac')); return all; }",
        data,
    )
    here.page.dispatch_event("#drop", "dragover", {"dataTransfer": dropped})
    assert "over" in here.page.locator("#drop").get_attribute("class")
    here.page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    here.page.locator("#meeting-title").filter(has_text="dropped.flac").wait_for()


def test_a_recording_that_the_server_gave_up_is_told_of(start, visit, record) -> None:
    server: Running = start()
    here = visit(server.url)
    here.diarize(record("page-here.wav", 3.0, 79))
    path = here.page.locator("#get-rttm").get_attribute("href").rpartition("/")[0]
    server.client.delete(f"/{path}")
    # Asked for anew, as a browser does that has not kept all of it.
    here.page.evaluate("() => { sounds[0].src += '?'; }")
    here.page.locator("#problem").filter(has_text="diarize it once more").wait_for()


def test_cancel_stops_the_job(start, visit, record) -> None:
    server: Running = start()
    here = visit(server.url)
    here.page.set_input_files("#file", record("page-cancel.wav", 300.0, 86))
    here.page.locator("#stage").filter(has_text=re.compile("Listening|Separating")).wait_for()
    here.page.screenshot(path=PICTURES / "progress.png")
    here.page.click("#cancel")
    here.page.locator("#said").filter(has_text="Cancelled").wait_for()
    assert here.page.locator("#meeting").is_hidden()
    until(lambda: not server.files())


def test_a_server_that_goes_away_is_told_of(start, visit, record) -> None:
    server: Running = start()
    here = visit(server.url)
    here.page.set_input_files("#file", record("page-gone.wav", 300.0, 87))
    here.page.locator("#stage").filter(has_text=re.compile("Listening|Separating")).wait_for()
    server.stop()
    here.page.locator("#problem").filter(has_text="the server cannot be reached").wait_for()
    assert here.page.locator("#cancel").is_hidden()


def test_two_recordings_are_compared(server: Running, visit, record) -> None:
    here = visit(server.url)
    assert here.page.locator("#compare").is_disabled()
    here.page.set_input_files("#left", record("page-one.wav", 3.0, 87))
    here.page.set_input_files("#right", record("page-one.wav", 3.0, 87))
    here.page.click("#compare")
    here.page.locator("#verdict b").filter(has_text="The same speaker").wait_for()
    assert "cosine 1.000" in here.text("#verdict") and "calibrated on clean" in here.text("#verdict")


def test_a_token_opens_the_page_and_leaves_the_address(start, visit) -> None:
    server: Running = start(token="s3cret")
    here = visit(f"{server.url}/?token=s3cret")
    assert here.page.url == f"{server.url}/" and here.complaints == []
    assert here.page.evaluate("() => document.cookie") == ""


def test_it_looks_right_and_axe_finds_no_fault(start, visit, record) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    server: Running = start()
    for number, name in enumerate(("Ada", "Émilie", "Grace Hopper", "Katherine Coleman Goble Johnson")):
        id_ = server.upload(record(f"page-look{number}.wav", 4.0, 90 + number))
        server.run("gallery", name=name, recordings=[id_], force=True)
    here = visit(server.url)
    page, faults = here.page, {}

    def look(what: str) -> None:
        for width, height in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": height})
            # All four of what matters most, two of the rest.
            for scheme in ("light", "dark") if what == "lanes" else ("light" if width > 1000 else "dark",):
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=PICTURES / f"{what}-{scheme}-{width}.png", full_page=True)
                assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), what
                found = axe.Axe().run(page).response
                # Behind an open dialog there is little to look at.
                assert len(found["passes"]) >= 10
                for fault in found["violations"]:
                    where = f"{what}, {scheme}, {width}: {fault['id']} ({fault['impact']})"
                    faults[where] = [node["html"] for node in fault["nodes"]][:3]

    look("empty")
    here.diarize(record("page-look.wav", 15.0, 95))
    page.locator("#position").fill("5")
    page.set_input_files("#left", record("page-look0.wav", 4.0, 90))
    page.set_input_files("#right", record("page-look1.wav", 4.0, 91))
    page.click("#compare")
    page.locator("#verdict b").wait_for()
    look("lanes")
    page.get_by_role("button", name="Delete Ada").click()
    look("question")
    page.keyboard.press("Escape")
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not a sound"})
    page.locator("#problem").wait_for()
    look("problem")
    assert faults == {}
