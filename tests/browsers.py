"""The browser of the tests: Debian's Chromium, driven by Playwright, with a real clip as its camera."""

import base64
import functools
import http.server
import io
import shutil
import threading
from contextlib import contextmanager

import av
import numpy as np
import pytest
from PIL import Image

import clips

MOVING = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # Chromium's own camera
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")


@contextmanager
def plain_host(folder):
    """The address of a plain web host that serves a folder: it sends none of the headers that threads need."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser whose camera plays a clip."""
    from playwright.sync_api import sync_playwright

    clip = tmp_path_factory.mktemp("camera") / "clip.mjpeg"
    with av.open(str(clip), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for rgb in clips.panned(25, 320, 240):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip}"]
    with sync_playwright() as playwright:
        # WebGPU on the processor, which the page takes for no graphics card
        webgpu = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera, *webgpu])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """opened(address, ...) is a page that has painted its example; it fails for what the page threw."""
    contexts, thrown = [], []

    def open_page(address, **options):
        context = chromium.new_context(**{"permissions": ["camera"], "accept_downloads": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.goto(address)
        painted(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert thrown == [], thrown


def painted(page, how=" ms at"):
    page.wait_for_function(
        "how => document.getElementById('status').textContent.includes(how)", arg=how, timeout=60_000
    )


def watch_cameras(page):
    """In the page: `streams`, the cameras from now on, each of which waits for `gate`, which `answer()` opens."""
    page.evaluate(
        """() => {
            const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
            window.streams = [];
            window.gate = new Promise((resolve) => (window.answer = resolve));
            devices.getUserMedia = async (wanted) => {
                const stream = await open(wanted);
                await gate;
                streams.push(stream);
                return stream;
            };
        }"""
    )


def until_cameras(page, on, of):
    """Wait until so many cameras were opened, and so many of them are on."""
    page.wait_for_function(
        "([on, of]) => streams.length === of && streams.filter((stream) => stream.active).length === on", arg=[on, of]
    )


def is_held(page):
    """Whether the page asks before it is left."""
    return page.evaluate(
        """() => {
            const leaving = new Event("beforeunload", { cancelable: true });
            window.dispatchEvent(leaving);
            return leaving.defaultPrevented;
        }"""
    )


def pixels(page, canvas):
    """What a canvas of the page shows, uint8 [H, W, 3]."""
    url = page.evaluate("id => document.getElementById(id).toDataURL()", canvas)
    return from_base64(url.split(",")[1])


def from_base64(text):
    """A picture file in base64, decoded: uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
