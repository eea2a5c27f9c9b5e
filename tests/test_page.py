"""The page in a real browser: Debian's Chromium, driven by Playwright, with a real clip as its camera."""

import json
import re
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import av
import numpy as np
import pytest
from PIL import Image

import clips
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.site import export_web
from browsers import from_base64, is_held, needs_chromium, painted, pixels, plain_host, until_cameras, watch_cameras
from conftest import PHOTOS, ROOT

STYLES = ["starry_night", "wave"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An exported page with two styles."""
    return export_web(STYLES, tmp_path_factory.mktemp("web") / "site")


@pytest.fixture(scope="module")
def hosted(site):
    """The address of a plain web host that serves the page."""
    with plain_host(site) as address:
        yield address


@pytest.fixture(scope="module")
def studio():
    """The address of `allaprima studio`."""
    command = [sys.executable, "-m", "allaprima", "studio", "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = re.search(r"http://\S+/", process.stderr.readline())
    assert address
    yield address[0]
    process.terminate()
    process.wait(10)


def set_strength(page, percent):
    page.locator("#strength").fill(str(percent))
    page.wait_for_function("value => document.getElementById('after').dataset.strength === value", arg=str(percent))


@needs_chromium
@pytest.mark.parametrize("percent", [100, 50, 0])
def test_the_page_paints_as_python_does(opened, studio, percent):
    page = opened(studio)
    set_strength(page, percent)
    photo, picture = pixels(page, "before"), pixels(page, "after")
    wanted = Stylizer("contrast_of_forms")(photo, strength=percent / 100).astype(int)
    assert photo.std() > 20 and np.abs(picture - wanted).max() <= 1


@needs_chromium
def test_camera_styles_mirror_and_divider_act_at_once(opened, studio):
    page = opened(studio)
    page.click("#camera")
    painted(page, "frames/s")
    first = page.text_content("#said")
    assert pixels(page, "after").shape == (240, 320, 3)
    page.keyboard.press("n")
    page.wait_for_function(
        "before => !['L', before].some((text) => document.getElementById('said').textContent.startsWith(text))",
        arg=first,
    )
    painted(page, "frames/s")
    changes = """async () => {
        let count = 0;
        const options = { subtree: true, childList: true, characterData: true };
        new MutationObserver(() => count++).observe(document.querySelector("header [role=status]"), options);
        await new Promise((resolve) => setTimeout(resolve, 2000));
        return count;
    }"""
    assert 0 in (page.evaluate(changes) for _ in range(10))  # who listens hears what happens, and not the speed
    page.keyboard.press("o")
    assert page.evaluate("getComputedStyle(document.getElementById('after')).clipPath") == "inset(0px 0px 0px 50%)"
    page.click("#example")
    page.wait_for_function("document.getElementById('before').width == 512")
    photo = pixels(page, "before")
    page.check("#mirror")
    for _ in range(50):
        mirrored = np.abs(pixels(page, "before")[:, ::-1].astype(int) - photo).mean() < 2
        if mirrored:
            break
        page.wait_for_timeout(200)
    assert mirrored


@needs_chromium
def test_strokes_change_by_slider_and_key_on_photos_and_the_camera(opened, studio):
    page = opened(studio)
    trained = pixels(page, "after").astype(int)
    assert page.text_content("#stroke-value") == "as trained"
    page.focus("#stroke")
    page.keyboard.press("End")
    page.wait_for_function("document.getElementById('after').dataset.stroke === '2'")
    assert page.text_content("#stroke-value") == page.get_attribute("#stroke", "aria-valuetext") == "× 2"
    assert np.abs(pixels(page, "after") - trained).mean() > 3
    page.click("#camera")
    painted(page, "frames/s")
    for shown in ("null", "0.5", "0.7", "1", "1.4", "2"):  # after the last come the network's own
        page.keyboard.press("b")
        page.wait_for_function("shown => document.getElementById('after').dataset.stroke === shown", arg=shown)
    page.reload()
    painted(page)
    kept = page.input_value("#stroke")
    assert page.text_content("#stroke-value") == ("as trained" if kept == "0.4" else f"× {kept}")
    assert page.get_attribute("#after", "data-stroke") == ("null" if kept == "0.4" else kept)


@needs_chromium
def test_the_wall_is_painted_on_the_users_photo(opened, hosted, tmp_path):
    page = opened(hosted)
    assert page.locator(".style img[src^='blob:']").count() == 0  # the example is not the user's
    photo = Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((200, 132))
    photo.save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.wait_for_function(
        f"document.querySelectorAll('.style img[src^=\"blob:\"]').length == {len(STYLES)}", timeout=90_000
    )
    for number, style in enumerate(STYLES):
        thumbnail = page.evaluate(
            """async (number) => {
                const answer = await fetch(document.querySelectorAll(".style img")[number].src);
                const bytes = new Uint8Array(await answer.arrayBuffer());
                return btoa(String.fromCharCode(...bytes));
            }""",
            number,
        )
        seen = from_base64(thumbnail).astype(int)
        off = {each: np.abs(seen - Stylizer(each)(np.asarray(photo))).mean() for each in STYLES}
        assert off.pop(style) < 8 and min(off.values()) > 16  # a JPEG of it, and not of another


@needs_chromium
def test_snapshot_and_recording_can_be_opened(opened, studio, tmp_path):
    page = opened(studio)
    page.click("#camera")
    painted(page, "frames/s")
    with page.expect_download() as waiting:
        page.click("#snapshot")
    waiting.value.save_as(tmp_path / "snapshot.png")
    assert Image.open(tmp_path / "snapshot.png").size == (320, 240)
    page.click("#record")
    page.wait_for_timeout(1500)
    with page.expect_download() as waiting:
        page.click("#record")
    name = waiting.value.suggested_filename
    waiting.value.save_as(tmp_path / name)
    frames, _ = clips.decoded(tmp_path / name)
    assert len(frames) >= 3 and frames[-1].std() > 10


@needs_chromium
def test_a_refused_camera_and_a_broken_file_are_said_in_words(opened, studio, tmp_path):
    page = opened(studio, permissions=[])
    page.click("#camera")
    page.wait_for_function("!document.getElementById('message').hidden")
    assert "Allow it" in page.text_content("#message")
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    page.set_input_files("#file", tmp_path / "broken.jpg")
    page.wait_for_function("document.getElementById('message').textContent.includes('broken.jpg')")
    page.locator(".style").nth(1).click()
    page.wait_for_function("document.getElementById('message').hidden")
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
    page.set_input_files("#file", tmp_path / "song.mp4")
    page.wait_for_function("document.getElementById('message').textContent.includes('no picture')")
    assert page.evaluate("document.getElementById('before').width") == 512


@needs_chromium
def test_the_newest_source_is_shown_and_the_camera_ends_with_its_view(opened, studio, tmp_path):
    page = opened(studio)
    watch_cameras(page)
    page.click("#camera")
    assert "allow it" in page.text_content("#said")
    Image.new("RGB", (200, 132), "red").save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.wait_for_function("document.getElementById('before').width == 200")
    page.evaluate("answer()")
    until_cameras(page, 0, of=1)
    assert pixels(page, "before").shape == (132, 200, 3) and page.is_disabled("#record")
    assert "allow it" not in page.text_content("#said")

    assert page.input_value("#file") == ""  # so the same photo can be chosen again
    Image.new("RGBA", (200, 132), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    page.set_input_files("#file", tmp_path / "glass.png")
    page.wait_for_function("document.getElementById('before').getContext('2d').getImageData(9, 9, 1, 1).data[1] == 255")

    page.click("#camera")
    painted(page, "frames/s")
    page.click("#record")
    assert is_held(page)
    page.wait_for_timeout(1500)
    with page.expect_download() as waiting:
        page.click("nav a[href='#train']")
    assert re.fullmatch(r"allaprima-contrast_of_forms-\d+\.mp4", waiting.value.suggested_filename)
    assert not is_held(page)
    until_cameras(page, 0, of=2)
    page.click("nav a[href='#paint']")
    until_cameras(page, 1, of=3)
    page.evaluate("streams[2].getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    assert "press Camera again" in page.text_content("#message")


HOLD = """() => {
    window.held = [];
    const { set } = Object.getOwnPropertyDescriptor(Worker.prototype, "onmessage");
    Object.defineProperty(Worker.prototype, "onmessage", {
        set(answer) { set.call(this, (event) => window.held.push(() => answer(event))); },
    });
}"""


@needs_chromium
def test_a_picture_that_an_engine_has_finished_late_covers_no_newer_one(opened, studio, tmp_path):
    page = opened(studio)
    page.wait_for_function(
        "[...document.querySelectorAll('#engine option')].filter((o) => o.text.includes('ms')).length > 1"
    )

    def show(width):
        Image.new("RGB", (width, 132), "red").save(tmp_path / f"{width}.png")
        page.set_input_files("#file", tmp_path / f"{width}.png")

    def until_shown(width):
        page.wait_for_function("width => document.getElementById('before').width == width", arg=width)

    page.select_option("#engine", "browser")
    show(200)
    until_shown(200)
    page.evaluate(HOLD)  # what this browser paints waits
    show(210)
    page.wait_for_function("held.length == 1")
    page.select_option("#engine", "server")
    until_shown(210)
    show(220)
    until_shown(220)
    page.evaluate("held[0]()")
    page.wait_for_timeout(300)
    until_shown(220)


@needs_chromium
def test_a_folder_on_any_host_is_isolated_and_works_offline(opened, hosted):
    page = opened(hosted)
    page.wait_for_function("crossOriginIsolated")
    painted(page)
    page.context.set_offline(True)
    page.reload()
    painted(page)
    assert page.locator(".style").count() == len(STYLES)
    assert page.locator("#engine").is_hidden()  # there is no server that paints


@needs_chromium
def test_the_page_fits_a_phone_and_axe_finds_nothing_serious(opened, studio):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(studio, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    for view, sliders in {"paint": ("Strength", "Strokes"), "convert": ("Strength",)}.items():
        page.click(f"nav a[href='#{view}']")
        assert [page.get_by_role("slider", name=name, exact=True).count() for name in sliders] == [1] * len(sliders)


@needs_chromium
def test_the_picture_keeps_its_shape_in_low_windows_and_in_full_screen(opened, studio):
    page = opened(studio)
    shape = page.evaluate("document.getElementById('after').width / document.getElementById('after').height")

    def box(name):
        return page.locator(name).bounding_box()

    for width, height, least in ((844, 390, 290), (667, 375, 290), (800, 240, 170), (1280, 800, 500)):
        page.set_viewport_size({"width": width, "height": height})
        seen = box("#after")
        assert least <= seen["height"] < height and seen["width"] / seen["height"] == pytest.approx(shape, rel=0.01)
    page.set_viewport_size({"width": 1000, "height": 800})
    page.click("#fullscreen")
    page.wait_for_function("document.fullscreenElement")
    seen, divider = box("#after"), box("#divider")
    assert seen["width"] / seen["height"] == pytest.approx(shape, rel=0.01)
    assert max(seen["width"] / 1000, seen["height"] / 800) == pytest.approx(1, rel=0.01)
    assert [divider["x"], divider["width"]] == pytest.approx([seen["x"], seen["width"]])


def test_the_studio_answers_this_machine_alone(studio):
    def ask(path, host=None):
        request = urllib.request.Request(studio + path, headers={"Host": host} if host else {})
        return urllib.request.urlopen(request, timeout=10)

    names = [style["name"] for style in json.load(ask("styles.json"))]
    assert names == sorted(names) and "wave" in names
    assert ask("styles/wave.onnx").headers["Cross-Origin-Opener-Policy"] == "same-origin"
    for path in ("styles/none.onnx", "styles/..%2fsite.py", "../studio.py"):
        with pytest.raises(HTTPError, match="404"):
            ask(path)
    with pytest.raises(HTTPError, match="400"):
        ask("", host="evil.example")


def test_the_page_of_the_docs_paints_the_camera(chromium, site, hosted):
    (page_of_docs,) = re.findall(r"^```html\n(.*?)^```", (ROOT / "docs" / "deploy.md").read_text(), re.M | re.S)
    (site / "booth.html").write_text(page_of_docs)
    page = chromium.new_page()
    page.context.grant_permissions(["camera"], origin=hosted.rstrip("/"))
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    # what is drawn is the frame; it is painted once a next one is asked for
    page.add_init_script(
        """const draw = CanvasRenderingContext2D.prototype.drawImage;
        CanvasRenderingContext2D.prototype.drawImage = function (...order) {
            draw.apply(this, order);
            window.drawn = this.canvas.toDataURL();
        };
        window.requestAnimationFrame = () => (window.done = document.querySelector("canvas").toDataURL());"""
    )
    page.goto(f"{hosted}booth.html")
    page.wait_for_function("window.done", timeout=60_000, polling=100)
    drawn, done = (from_base64(page.evaluate(f"window.{name}").split(",")[1]) for name in ("drawn", "done"))
    assert thrown == []
    assert np.abs(done.astype(int) - Stylizer("wave")(drawn)).max() <= 1
    page.close()
