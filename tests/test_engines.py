"""The two engines of the page, in Chromium: this browser, and the server that the page is from."""

import itertools
import shutil

import numpy as np
from PIL import Image

import clips
from allaprima.core.contract import Controls
from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from browsers import needs_chromium, painted, pixels
from services import server
from studios import Studio

pytestmark = needs_chromium
# Stroke, and whether colours are kept: for the strokes the picture is enlarged, and reduced.
CONTROLS = [(None, False), (None, True), (0.7, False), (2, True)]


def measured(page):
    """Wait until the page has measured both engines: their labels, by value."""
    options = "[...document.querySelectorAll('#engine option')]"
    page.wait_for_function(f"{options}.every((option) => option.textContent.endsWith(' ms'))", timeout=120_000)
    return page.evaluate(f"Object.fromEntries({options}.map((option) => [option.value, option.textContent]))")


def shown(page, percent, stroke, colors):
    """Wait until the picture with these controls is there."""
    wanted = [str(percent), "null" if stroke is None else str(stroke), str(colors).lower()]
    page.wait_for_function(
        """wanted => {
            const { strength, stroke, colors } = document.getElementById("after").dataset;
            return String([strength, stroke, colors]) === String(wanted);
        }""",
        arg=wanted,
    )


def test_the_faster_engine_goes_on_and_both_paint_what_python_paints(opened, tmp_path):
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    times = {name: float(label.split(", ")[1].removesuffix(" ms")) for name, label in measured(page).items()}
    assert times[page.input_value("#engine")] <= min(times.values()) + 1
    style = Stylizer("contrast_of_forms")
    for number, (engine, (stroke, colors)) in enumerate(itertools.product(["server", "browser"], CONTROLS)):
        page.select_option("#engine", engine)
        page.locator("#stroke").fill(str(stroke or 0.4))
        page.set_checked("#colors", colors)
        percent = 50 + number  # so that the picture is a new one
        page.locator("#strength").fill(str(percent))
        shown(page, percent, stroke, colors)
        wanted = style(pixels(page, "before"), Controls(percent / 100, stroke, colors)).astype(int)
        apart = np.abs(pixels(page, "after") - wanted)
        if stroke is None:
            assert apart.max() <= 1 + colors  # a sum of two values is rounded twice
        else:  # and what a network gets that is resized may be a grey level apart
            assert apart.mean() < 0.2 and np.mean(apart > 2) < 0.001
    assert page.locator("#message").is_hidden()
    studio.end()


def test_a_camera_that_is_asked_for_at_once_stays(chromium, tmp_path):
    """Before the page is ready; and it does not give way to the example, which comes once the wall is there."""
    studio = Studio(tmp_path / "library")
    page = chromium.new_context(permissions=["camera"]).new_page()
    page.add_init_script(
        """const workers = navigator.serviceWorker, register = workers.register.bind(workers);
        workers.register = (file) => new Promise((resolve) => setTimeout(resolve, 2000)).then(() => register(file));"""
    )
    page.goto(studio.address)
    page.click("#camera")
    painted(page, "frames/s")
    page.context.close()
    studio.end()


def test_a_graphics_card_paints_what_python_paints_and_may_give_up(opened, tmp_path, photo):
    """WebGPU on the processor, which the page takes for a graphics card here: seconds for a picture, so it is a small one."""
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    photo = np.ascontiguousarray(photo[:24, :32])
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    labels, painted, words, left = page.evaluate(
        """async (rgba) => {
            Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
            const { Engines } = await import("./engines.js");
            const field = document.createElement("label");
            const names = ["server", "browser", "graphics"];
            field.innerHTML = `<select>${names.map((name) => `<option value=${name}>${name}</option>`)}</select>`;
            document.body.append(field);
            const [select] = field.children;
            const engines = new Engines(select, { changed() {}, warn() {} });
            const style = (await (await fetch("styles.json")).json()).find(({ name }) => name === "wave");
            await engines.load(style, 32, 24);
            const labels = () => [...select.options].map(({ textContent }) => textContent);
            while (!labels().every((label) => label.endsWith(" ms"))) await new Promise((resolve) => setTimeout(resolve, 100));
            const found = labels();
            engines.use("graphics");
            const { painted } = await engines.paint(new Uint8Array(rgba).buffer, 32, 24, { strength: 1 });
            engines.graphics.worker.postMessage = () => engines.graphics.worker.onmessage({ data: { failed: "lost" } });
            const words = await engines.paint(new ArrayBuffer(4 * 32 * 24), 32, 24, { strength: 1 }).catch(String);
            const again = await engines.paint(new Uint8Array(rgba).buffer, 32, 24, { strength: 1 });
            return [found, [...new Uint8Array(painted)], words, [select.value, select.length, again.painted.byteLength]];
        }""",
        rgba.ravel().tolist(),
    )
    studio.end()
    assert [label.split(",")[0] for label in labels] == ["server", "browser", "graphics"]
    painted = np.array(painted).reshape(24, 32, 4)[..., :3]
    assert np.abs(painted - Stylizer("wave")(photo).astype(int)).max() <= 1
    assert "graphics card has given up" in words and left == ["browser", 2, rgba.size]


def test_the_browser_paints_with_kernels_and_leaves_other_networks_to_the_runtime(opened, tmp_path, photo):
    """With one thread, and with those that share memory; the runtime is loaded for the networks that need it alone."""
    (tmp_path / "library").mkdir()
    shutil.copy(BUNDLED.parent / "reference" / "johnson.onnx", tmp_path / "library")
    studio = Studio(tmp_path / "library")
    photo = np.ascontiguousarray(photo[:47, :65])
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    page = opened(studio.address)
    asked = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    for threads, style, code in [
        (1, "wave", "relaxed.wasm"),
        (3, "wave", "relaxed.shared.wasm"),
        (1, "johnson", "ort"),
    ]:
        asked.clear()
        painted = page.evaluate(
            """async ([rgba, threads, style]) => {
                const { Engine } = await import("./engine.js");
                const engine = new Engine();
                engine.threads = threads;
                const { file } = (await (await fetch("styles.json")).json()).find(({ name }) => name === style);
                await engine.load(file, 65, 47);
                const { painted } = await engine.paint(new Uint8Array(rgba).buffer, 65, 47, { strength: 1 });
                engine.worker.terminate();
                return [...new Uint8Array(painted)];
            }""",
            [rgba.ravel().tolist(), threads, style],
        )
        painted = np.array(painted).reshape(rgba.shape)[..., :3]
        model = tmp_path / "library" / "johnson.onnx" if style == "johnson" else style
        assert np.abs(painted - Stylizer(model)(photo).astype(int)).max() <= 1
        assert any(name.startswith(code) for name in asked), asked
        assert any(name.startswith("ort") for name in asked) == (code == "ort"), asked
    studio.end()


def test_orders_that_come_all_at_once_are_all_answered(opened, tmp_path):
    """A server leaves out what waits behind a newer order: a style that is to be loaded must not be among that."""
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    answered = page.evaluate(
        """async () => {
            const { Remote } = await import("./remote.js");
            const remote = new Remote(() => {});
            const pixels = () => new Uint8Array(4 * 320 * 240);
            const orders = Array.from({ length: 12 }, (_, k) => remote.order("wave", pixels(), 320, 240, { strength: k / 12 }));
            const late = new Promise((resolve) => setTimeout(resolve, 30_000, []));
            return (await Promise.race([Promise.all(orders), late])).length;
        }"""
    )
    studio.end()
    assert answered == 12


def test_every_order_is_answered_whenever_the_connection_is_closed(opened, tmp_path):
    """A page waits for each of its orders, and closes the connection at any moment when another engine is faster."""
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    answered = page.evaluate(
        """async () => {
            const { Remote } = await import("./remote.js");
            const late = new Promise((resolve) => setTimeout(resolve, 30_000, "late"));
            for (let turns = 0; turns < 12; turns++) {
                const remote = new Remote(() => {});
                const order = () => remote.order("wave", new Uint8Array(4 * 320 * 240), 320, 240, { strength: 1 });
                const orders = Array.from({ length: 3 }, order);
                orders[0].then(async () => {
                    for (let k = 0; k < turns; k++) await null; // whatever the page does between two of its steps
                    remote.close();
                });
                if ((await Promise.race([Promise.all(orders), late])) === "late") return turns;
                if ((await Promise.race([order(), late])) === "late") return turns;
                remote.close();
                if (remote.opening || remote.waiting.size) return "open";
            }
            return "all";
        }"""
    )
    studio.end()
    assert answered == "all"


def test_when_the_server_is_killed_the_page_says_so_and_the_browser_paints(opened, tmp_path):
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    measured(page)
    page.select_option("#engine", "server")
    page.click("#camera")
    painted(page, "frames/s")
    studio.end(kill=True)
    page.wait_for_function("document.getElementById('message').textContent.includes('server has stopped')")
    assert page.input_value("#engine") == "browser"
    before = pixels(page, "after")
    page.wait_for_function("document.getElementById('status').textContent.includes('frames/s')")
    page.locator("#strength").fill("0")  # by the browser alone: the photo
    page.wait_for_function("document.getElementById('after').dataset.strength === '0'")
    assert (pixels(page, "after") != before).any()
    page.keyboard.press("n")
    page.wait_for_function("document.getElementById('message').textContent.includes('does not answer')")


def test_a_connection_that_breaks_comes_back_and_a_recording_outlives_the_server(opened, tmp_path):
    studio = Studio(tmp_path / "library")
    page = opened(studio.address)
    measured(page)
    page.evaluate(
        "() => { window.WebSocket = class extends WebSocket { constructor(at) { super(at); window.socket = this; } } }"
    )
    for engine in ("browser", "server"):
        page.select_option("#engine", engine)
    page.click("#camera")
    page.keyboard.press("n")  # a style that this browser has not loaded
    page.wait_for_function("document.getElementById('after').dataset.style?.startsWith('delaunay')")
    page.evaluate("() => { window.broken = window.socket; window.broken.close(); }")
    page.wait_for_function("window.socket !== window.broken && window.socket.readyState === 1")
    page.click("#record")
    page.wait_for_timeout(2000)
    assert page.input_value("#engine") == "server" and page.is_hidden("#message")
    studio.end(kill=True)
    page.wait_for_function("document.getElementById('message').textContent.includes('does not answer')")
    assert "choose one" in page.text_content("#said")
    for button, suffix in (("snapshot", "png"), ("record", "mp4")):
        with page.expect_download() as waiting:
            page.click(f"#{button}")
        assert waiting.value.suggested_filename.startswith("allaprima-delaunay")
        waiting.value.save_as(tmp_path / f"kept.{suffix}")
    assert Image.open(tmp_path / "kept.png").size == (320, 240)
    assert len(clips.decoded(tmp_path / "kept.mp4")[0]) >= 3


def test_the_page_of_a_service_paints_once_the_token_was_given(opened):
    with server("--token", "a-token-of-24-characters") as (address, _, _):
        page = opened(f"{address}?token=a-token-of-24-characters")
        assert page.url == address and measured(page)
        assert "keeps no picture" in page.text_content("#promise")
        page.reload()
        painted(page)
