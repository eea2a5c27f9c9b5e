"""`allaprima serve`: a real server on a port, asked as programs ask it."""

import asyncio
import io
import re
import socket
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial

import httpx
import numpy as np
import onnx
import psutil
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from uvicorn.server import ServerState

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.connections import SILENCE, Connection
from allaprima.serve.service import serve
from conftest import PHOTOS, make_model
from services import server

get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)
PHOTO = (PHOTOS / "chelsea.jpg").read_bytes()


@pytest.fixture(scope="module")
def address():
    with server() as (address, token, _):
        assert not token
        yield address


@pytest.fixture(scope="module")
def narrow():
    """A server for all addresses of this machine, with two places and small limits: (address, token, process)."""
    limits = ["--queue", "2", "--megabytes", "1", "--megapixels", "0.5", "--seconds", "3"]
    with server("--host", "0.0.0.0", "--name", "paint.example", *limits) as given:
        yield given


@pytest.fixture
def ask(narrow):
    """A client of the narrow server, with its token."""
    with httpx.Client(base_url=narrow[0], headers={"Authorization": f"Bearer {narrow[1]}"}, timeout=60) as client:
        yield client


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def encoded(image, format="PNG"):
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@contextmanager
def half_sent(narrow, count):
    """So many requests to stylize, of which a part has arrived."""
    url = httpx.URL(narrow[0])
    head = f"POST /api/stylize HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nAuthorization: Bearer {narrow[1]}\r\n"
    sockets = [socket.create_connection((url.host, url.port)) for _ in range(count)]
    for one in sockets:
        one.sendall(f"{head}Content-Length: 1000\r\n\r\nthe first bytes".encode())
    time.sleep(0.3)
    yield sockets
    for one in sockets:
        one.close()


@pytest.mark.parametrize("form", [False, True])
def test_a_picture_is_painted_as_python_paints_it(address, form):
    how = {"style": "wave", "strength": 0.5, "keep_colors": "True" if form else "true", "format": "png"}
    if form:
        sent = {"data": how, "files": {"picture": ("../../etc/passwd.onnx", PHOTO)}}
    else:
        sent = {"params": how, "content": PHOTO}
    answer = post(f"{address}api/stylize", **sent)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    photo = np.asarray(Image.open(io.BytesIO(PHOTO)).convert("RGB"))
    assert np.abs(pixels(answer.content) - Stylizer("wave")(photo, Controls(0.5, keep_colors=True))).max() <= 1


def test_the_answer_keeps_the_kind_and_what_is_transparent(address):
    image = Image.open(io.BytesIO(PHOTO)).convert("RGBA")
    image.putalpha(100)
    for format in ("PNG", "WEBP"):
        answer = Image.open(io.BytesIO(post(f"{address}api/stylize", content=encoded(image, format)).content))
        assert (answer.format, answer.mode, answer.getpixel((9, 9))[3]) == (format, "RGBA", 100)
    answer = post(f"{address}api/stylize", content=encoded(image, "TIFF"))
    assert answer.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    "how, said",
    [
        ({"style": "none"}, "no style 'none'"),
        ({"style": "../styles/wave"}, "no style"),
        ({"style": str(PHOTOS.parent / "x.onnx")}, "no style"),
        ({"strength": "2"}, "from 0 to 1"),
        ({"strength": "nan"}, "from 0 to 1"),
        ({"strength": "much"}, "a number"),
        ({"keep_colors": "perhaps"}, "True or False"),
        ({"strenght": "1"}, "no parameter 'strenght'"),
        ({"steady": "true"}, "no parameter 'steady'"),
        ({"format": "bmp"}, "jpeg, png, webp"),
    ],
)
def test_wrong_parameters_are_a_sentence(address, how, said):
    answer = post(f"{address}api/stylize", params=how, content=PHOTO)
    assert answer.status_code == 422 and said in answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"not a picture", PHOTO[:5000], b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_what_is_not_a_picture_is_a_sentence_without_a_path(address, content):
    answer = post(f"{address}api/stylize", content=content)
    assert answer.status_code == 422 and answer.json()["error"].startswith("The picture ")


def test_a_form_without_a_picture_or_of_nonsense_is_refused(address):
    kind = {"Content-Type": "multipart/form-data"}
    assert post(f"{address}api/stylize", files={"style": (None, "wave")}).status_code == 422
    assert post(f"{address}api/stylize", content=b"nonsense", headers=kind).status_code == 400
    kind["Content-Type"] += "; boundary=x"
    assert post(f"{address}api/stylize", content=b"nonsense", headers=kind).status_code == 400


def test_styles_health_metrics_and_method(address):
    styles = get(f"{address}api/styles").json()
    assert "starry_night" in [style["name"] for style in styles]
    assert all(style["thumbnail"].startswith("data:image/jpeg;base64,") for style in styles)
    assert get(f"{address}api/health").json() == {"status": "ok"}
    assert get(f"{address}api/stylize").status_code == 405
    post(f"{address}api/stylize", content=PHOTO)
    metrics = get(f"{address}metrics").text
    assert re.search(r'^allaprima_pictures_total\{status="200"\} [1-9]', metrics, re.M)
    assert re.search(r"^process_resident_memory_bytes ", metrics, re.M)
    assert "Paint" in get(address).text  # the page


def test_broken_styles_are_not_listed_and_where_they_lie_is_not_told(own_styles_folder):
    (own_styles_folder / "junk.onnx").write_bytes(b"not a model")
    (own_styles_folder / "gone.onnx").symlink_to("nowhere.onnx")
    (own_styles_folder / "folder.onnx").mkdir()
    small = onnx.load(make_model(own_styles_folder / "small.onnx"))  # opens, and paints pictures of 64x64 alone
    (grey,) = (each for each in small.graph.initializer if each.name == "grey")
    grey.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 3, 64, 64), 110, np.float32), "grey"))
    onnx.save(small, own_styles_folder / "small.onnx")
    with server() as (address, _, _):
        for listed in ("api/styles", "styles.json"):
            names = {each["name"] for each in get(f"{address}{listed}").json()}
            assert "wave" in names and not names & {"junk", "gone", "folder"}
        for name in ("junk", "gone", "folder", "small"):
            answer = post(f"{address}api/stylize", params={"style": name}, content=PHOTO)
            said = answer.json()["error"]
            assert answer.status_code == 422 and said.startswith(f"{name}.onnx ") and str(own_styles_folder) not in said
        for name in ("gone", "folder"):
            assert get(f"{address}styles/{name}.onnx").status_code == 404


def test_a_full_server_says_so_at_once_and_is_free_again_in_time(narrow, ask):
    with half_sent(narrow, 2) as sockets:
        began = time.perf_counter()
        answer = ask.post("api/stylize", content=PHOTO)
        assert time.perf_counter() - began < 1
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert ask.get("api/health").status_code == 200
        assert all(b" 503 " in one.recv(1000) for one in sockets)  # their time is over
    assert ask.post("api/stylize", content=encoded(Image.new("RGB", (64, 64)))).status_code == 200
    with half_sent(narrow, 2):
        pass
    time.sleep(0.5)  # who hangs up gives the place back, long before the time is over
    assert ask.post("api/stylize", content=encoded(Image.new("RGB", (64, 64)))).status_code == 200


def test_too_many_bytes_or_pixels_are_refused_before_decoding(narrow, ask):
    def memory():
        server = psutil.Process(narrow[2].pid)
        return sum(process.memory_info().rss for process in [server, *server.children()])

    assert ask.post("api/stylize", content=encoded(Image.new("RGB", (64, 64)))).status_code == 200
    before = memory()
    answer = ask.post("api/stylize", content=bytes(1_000_001))
    assert answer.status_code == 413 and "1 megabytes" in answer.json()["error"]
    bomb = encoded(Image.new("1", (10_000, 10_000)))
    assert len(bomb) < 20_000
    answer = ask.post("api/stylize", content=bomb)
    assert answer.status_code == 422 and "10000x10000" in answer.json()["error"]
    answer = ask.post("api/stylize", content=encoded(Image.new("1", (40_000, 1))))  # which is padded to 16 rows
    assert answer.status_code == 422 and "40000x1" in answer.json()["error"]
    icon = encoded(Image.new("RGB", (16, 16)), "ICO")
    assert "the format ICO" in ask.post("api/stylize", content=icon).json()["error"]
    assert memory() - before < 50e6


def test_connections_that_say_nothing_take_nobodys_place():
    """More than the process may have files, some with half of a request."""
    resource = pytest.importorskip("resource")
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (512, 512))
    with server(begin=few) as (address, _, _), ExitStack() as silent:
        url = httpx.URL(address)
        for k in range(700):
            one = silent.enter_context(socket.create_connection((url.host, url.port)))
            with suppress(OSError):
                one.sendall(b"GET /api/health HTTP/1.1\r\n" * (k % 2))
        began = time.monotonic()
        assert get(f"{address}api/health").status_code == 200 and time.monotonic() - began < SILENCE


@asynccontextmanager
async def connected(app):
    """A reader and a writer of one connection to an ASGI application."""
    config = uvicorn.Config(app, lifespan="off")
    serve = asyncio.get_running_loop().create_server
    async with await serve(lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    """At the beginning, with half of a request, and after a request that was answered."""
    monkeypatch.setattr("allaprima.serve.connections.SILENCE", 0.2)

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask(said):
        async with connected(answer) as (reader, writer):
            writer.write(said)
            return await asyncio.wait_for(reader.read(), 30)

    assert asyncio.run(ask(b"")) == asyncio.run(ask(b"GET / HTTP/1.1\r\nHost: x\r\n")) == b""
    assert asyncio.run(ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET")).startswith(b"HTTP/1.1 204")


def test_a_connection_whose_answer_is_not_read_is_closed(monkeypatch):
    """An answer that is read, however slowly, arrives whole."""
    monkeypatch.setattr("allaprima.serve.connections.UNREAD", 0.5)
    answer, sent = bytes(32_000_000), []

    async def send_much(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"32000000")]})
        await send({"type": "http.response.body", "body": answer, "more_body": True})
        await send({"type": "http.response.body"})  # waits until the client has taken what came before
        sent.append((await receive())["type"])

    async def ask(read):
        async with connected(send_much) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = 0
            while read and (part := await reader.read(4_000_000)):
                got += len(part)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0 if read else 3)
            return got

    assert asyncio.run(ask(read=True)) > len(answer)
    asyncio.run(ask(read=False))
    assert sent == ["http.disconnect"] * 2


def test_only_who_has_the_token_is_served(narrow):
    address, token, _ = narrow
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        assert client.get("api/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            for path in ("", "api/styles", "metrics", "styles/wave.onnx", "?token=wrong"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401 and "token" in answer.json()["error"]
        assert client.get("metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        page = client.get(f"?token={token}")  # as a browser: once, and then by a cookie
        assert page.status_code == 200 and page.url == address
        assert client.get("styles.json").status_code == 200


def test_other_names_and_origins_are_refused(address, narrow):
    host = address.removeprefix("http://").strip("/")
    for name in ("evil.example", "evil.example:80", "localhost.evil.example", "[", ""):
        assert get(address, headers={"Host": name}).status_code == 400
    for origin in ("http://evil.example", "null", f"http://{host}.evil.example"):
        answer = post(f"{address}api/stylize", content=PHOTO, headers={"Origin": origin})
        assert answer.status_code == 403
    assert get(f"{address}api/styles", headers={"Origin": f"http://{host}"}).status_code == 200
    assert get(f"{narrow[0]}api/health", headers={"Host": "Paint.example:8018"}).status_code == 200


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"token": "short"}, "16 letters"),
        ({"token": "with a space and more"}, "16"),
        ({"port": 99999}, "65535"),
        ({"provider": "none"}, "no provider 'none'"),
        ({"host": "192.0.2.1"}, "can't be listened at"),
    ],
)
def test_wrong_settings_are_a_sentence(wrong, said):
    with pytest.raises(AllaprimaError, match=said):
        serve(**wrong)


def test_nothing_in_its_openapi_document_makes_the_server_stumble(address):
    """Requests made from the document, right and wrong ones: no 5xx but 503, and answers as the document says."""
    document = get(f"{address}openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    wanted = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 4
    seen = set()
    for operation in operations:
        right, wrong = (operation.as_strategy(mode) for mode in schemathesis.GenerationMode)

        @given(case=right | wrong, real=st.booleans())
        @settings(max_examples=25, suppress_health_check=list(HealthCheck))
        def check(case, real):
            if real and case.method == "POST":
                case.body, case.media_type = PHOTO, "application/octet-stream"
            answer = case.call(base_url=address)
            seen.add(answer.status_code)
            if answer.status_code != 503:
                case.validate_response(answer, checks=wanted)

        check()
    assert seen >= {200, 422} and not {code for code in seen if code >= 500 and code != 503}
