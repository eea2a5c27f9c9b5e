"""Train and Convert in a real browser."""

import base64
import zipfile
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

import clips
from browsers import is_held, needs_chromium, until_cameras, watch_cameras
from conftest import PHOTOS
from studios import Studio
from test_studio import as_bytes
from training import STYLE

pytestmark = needs_chromium
MOMENT = "**/moment.onnx*"  # the network of the moment


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


@pytest.fixture
def studio(library):
    studio = Studio(library)
    yield studio
    studio.end(kill=True)


def drop(page, target, files):
    """Drop files, {name: bytes}, onto an element of the page."""
    listed = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    page.evaluate(
        """([target, files]) => {
            const dropped = new DataTransfer();
            for (const [name, text] of files)
                dropped.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
            document.querySelector(target).dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
        }""",
        [target, listed],
    )


def shown(page, view):
    page.click(f"nav a[href='#{view}']")
    page.set_default_timeout(300_000)
    page.wait_for_selector(f"#{view}:not([hidden])")


def serious(page):
    """What axe finds serious on the page, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = Axe().run(page).response["violations"]
        found += [violation["id"] for violation in violations if violation["impact"] in ("serious", "critical")]
    return found


def painted_photo(page):
    """The first held-out photo as the network of the moment paints it, RGBA."""
    size = page.evaluate(
        """() => { const c = document.querySelector("#moments canvas");
            return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data] }"""
    )
    return np.array(size)


def test_a_painting_becomes_a_style_on_the_wall(opened, studio, library):
    page = opened(studio.address)
    styles = page.locator(".style").count()
    shown(page, "train")
    drop(page, "#train", {"my wave.jpg": STYLE.read_bytes()})
    page.wait_for_selector("#train-start:not([disabled])")
    assert "my wave.jpg" in page.text_content("#painting-name") and "5 minutes" in page.text_content("#train-time")
    page.evaluate("document.getElementById('minutes').add(new Option('short', '0.06', true, true))")
    held = []
    page.route(MOMENT, lambda route: held.append(route))  # else the hint may be gone before it is seen
    with page.expect_request(MOMENT):
        page.click("#train-start")
    page.wait_for_selector("#moment-hint")
    held[0].continue_()
    page.unroute(MOMENT)
    page.wait_for_selector("#moments[data-moment]")
    assert page.is_hidden("#moment-hint")
    assert painted_photo(page).std() > 20
    page.click("#live-camera")
    page.wait_for_function("document.querySelector('#live canvas').getContext('2d').getImageData(9, 9, 1, 1).data[3]")

    page.reload()
    page.wait_for_selector(".card h3")
    assert page.text_content(".card h3") == "my wave"
    port = studio.address.rsplit(":")[-1].strip("/")
    studio.end(kill=True)
    page.wait_for_function("document.getElementById('train-message').textContent.includes('does not answer')")
    again = Studio(library, "--port", port)
    try:
        page.wait_for_selector(".card .paint:not([hidden])")
        page.wait_for_selector("#train-message", state="hidden")
        page.click("#curves summary")
        page.wait_for_selector("#curves-drawn polyline")
        with page.expect_download() as waiting:
            page.click(".download")
        assert waiting.value.suggested_filename == "my_wave.onnx"
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert serious(page) == []
        page.click(".paint")
        page.wait_for_function("document.getElementById('said').textContent === 'Style: my wave'")
        assert page.locator(".style").count() == styles + 1
    finally:
        again.end(kill=True)


def test_a_painting_with_faults_is_told_and_keys_reach_everything(opened, studio):
    page = opened(studio.address)
    shown(page, "train")
    drop(page, "#train", {"broken.jpg": b"not a picture"})
    page.wait_for_selector("#train-message:not([hidden])")
    assert "This file" in page.text_content("#train-message") and page.is_disabled("#train-start")
    drop(page, "#train", {"red.png": as_bytes(Image.new("RGB", (300, 200), "red"))})
    page.wait_for_selector("#painting-faults li")
    assert "single colour" in page.text_content("#painting-faults")
    drop(page, "#train", {"broken.jpg": b"not a picture"})
    page.wait_for_selector("#painting-shown", state="hidden")  # what was refused is not what is seen
    assert "Drop a painting" in page.text_content("#painting-name") and page.text_content("#painting-faults") == ""
    drop(page, "#train", {"red.png": as_bytes(Image.new("RGB", (300, 200), "red"))})
    page.wait_for_selector("#train-start:not([disabled])")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.hash"))
    assert {"#paint", "#train", "painting", "minutes", "style-size", "train-start"} <= reached


def test_a_double_click_is_one_training_and_leaves_no_camera_on(opened, studio):
    page = opened(studio.address)
    watch_cameras(page)
    shown(page, "train")
    camera = "document.getElementById('live-camera').click()"  # it is hidden until there is something to paint with
    page.evaluate(camera)
    page.evaluate(camera)
    page.evaluate(camera)
    shown(page, "convert")
    page.evaluate("answer()")
    until_cameras(page, 0, of=2)
    shown(page, "train")
    asked = []
    page.route("**/studio/trainings?*", lambda route: (asked.append(route), route.fulfill(json={"id": "one"})))
    drop(page, "#train", {"my wave.jpg": STYLE.read_bytes()})
    page.wait_for_selector("#train-start:not([disabled])")
    page.dblclick("#train-start")
    page.wait_for_selector("#painting-shown", state="hidden")
    assert len(asked) == 1

    page.route(
        "**/studio/trainings", lambda route: route.fulfill(json={"trainings": [], "photos": [], "possible": False})
    )
    page.reload()
    page.wait_for_selector("#train-missing")
    sent = []
    page.on("request", lambda request: sent.append(request.url.split("/")[-1].split("?")[0]))
    drop(page, "#train", {"my wave.jpg": STYLE.read_bytes()})
    page.wait_for_timeout(1000)
    assert "paintings" not in sent and page.is_disabled("#train-start")


def test_a_lot_is_painted_as_it_was_dropped_and_is_not_left_by_mistake(opened, studio):
    page = opened(studio.address)
    shown(page, "convert")
    asked = []
    page.route("**/studio/conversions?*", lambda route: asked.append(route))
    page.select_option("#convert-style", "wave")
    drop(page, "#convert", {"a.jpg": b"a", "b.jpg": b"b"})
    page.wait_for_function("document.getElementById('queue-about').textContent.includes('on its way')")
    assert is_held(page)
    page.select_option("#convert-style", "starry_night")
    for number in (0, 1):
        while len(asked) <= number:
            page.wait_for_timeout(50)
        asked[number].fulfill(json=None)
    page.wait_for_function("!document.getElementById('queue-about').textContent.includes('on its way')")
    assert [parse_qs(urlsplit(route.request.url).query)["style"] for route in asked] == [["wave"], ["wave"]]
    assert not is_held(page)
    drop(page, "#convert", {".DS_Store": b"hidden"})
    assert "no files" in page.text_content("#convert-message")
    studio.end(kill=True)
    page.wait_for_function(
        "document.getElementById('convert-message').textContent.includes('drop the files once more')"
    )


def test_two_pictures_and_a_clip_are_converted_and_taken(opened, studio, tmp_path):
    clips.write_clip(tmp_path / "clip.mp4", clips.panned(12, 160, 120), rate=12)
    page = opened(studio.address)
    shown(page, "convert")
    page.select_option("#convert-style", "wave")
    photos = {f"{name}.jpg": (PHOTOS / f"{name}.jpg").read_bytes() for name in ("chelsea", "china")}
    drop(page, "#convert", photos | {"notes.txt": b"words", ".DS_Store": b"hidden"})
    page.wait_for_selector("#convert-message:not([hidden])")
    assert page.text_content("#convert-message") == "notes.txt is neither a picture nor a video."
    page.reload()  # what is in the queue stays there
    page.wait_for_selector("#files .card")
    page.select_option("#convert-style", "wave")
    page.set_input_files("#pick-files", tmp_path / "clip.mp4")
    page.wait_for_function("document.querySelectorAll('#files .open:not([hidden])').length == 3")
    page.wait_for_function("document.getElementById('queue-about').textContent.startsWith('3 of 3 done')")
    page.wait_for_function("[...document.querySelectorAll('#files img')].every((image) => image.naturalWidth > 0)")
    with page.expect_download() as waiting:
        page.click("#take-all")
    waiting.value.save_as(tmp_path / "all.zip")
    names = zipfile.ZipFile(tmp_path / "all.zip").namelist()
    assert names == ["chelsea-wave.jpg", "china-wave.jpg", "clip-wave.mp4"]
    with page.expect_download() as waiting:
        page.locator(".take").first.click()
    assert waiting.value.suggested_filename == "chelsea-wave.jpg"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious(page) == []
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    page.wait_for_selector("#queue-none:not([hidden])")
    assert list((tmp_path / "library" / "conversions").iterdir()) == []
