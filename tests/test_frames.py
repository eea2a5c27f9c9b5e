"""The server engine: frames over a WebSocket of a real server."""

import json
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from allaprima.core.contract import Controls
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.infer.stylizer import Stylizer
from services import server


@pytest.fixture(scope="module")
def address():
    """Of a server that paints for three pages at a time."""
    with server("--clients", "3") as (address, _, _):
        yield address


@pytest.fixture
def page(address):
    """page() is a connection as a page opens it."""
    url, how = address.replace("http", "ws") + "api/frames", {"max_size": None, "compression": None}
    with ExitStack() as opened:
        yield lambda: opened.enter_context(connect(url, origin=address.strip("/"), **how))


def message(frame, **about):
    head = {"id": 1, "style": "wave", "width": frame.shape[1], "height": frame.shape[0]} | about
    return json.dumps(head).encode() + b"\n" + frame.tobytes()


def parts(answer):
    """(what the line says, the pixels)."""
    head, _, pixels = answer.partition(b"\n")
    return json.loads(head), pixels


def test_a_frame_is_painted_as_python_paints_it(page, photo):
    connection, how = page(), {"strength": 0.5, "keep_colors": True}
    wanted = Stylizer("wave")(photo, Controls(**how)).astype(int)
    clear = np.dstack([photo, np.full(photo.shape[:2], 7, np.uint8)])
    for number, frame in enumerate([photo, clear]):
        connection.send(message(frame, id=number, **how))
        head, pixels = parts(connection.recv())
        assert head == {"id": number, "width": 320, "height": 240}
        painted = np.frombuffer(pixels, np.uint8).reshape(frame.shape)
        assert np.abs(painted[..., :3] - wanted).max() <= 1
    assert (painted[..., 3] == 255).all()


def test_what_is_wrong_is_a_sentence_and_the_next_frame_is_painted(page, photo):
    connection = page()
    wrong = {
        "no style": message(photo, style="../wave"),
        "of the type str": message(photo, style=7),
        "from 0 to 1": message(photo, strength=2),
        "no parameter 'colour'": message(photo, colour=1),
        "320x241": message(photo, height=241),
        "width must be": message(photo, width=None),
        "line of JSON": photo.tobytes(),
        "must be an object": b"[]\n",
        "object of numbers": b'{"id": [[7]], "width": 8, "height": 8}\n',
        "is one line of JSON": b"[" * 990 + b"\n",
    }
    for said, sent in wrong.items():
        connection.send(sent)
        head, pixels = parts(connection.recv())
        assert said in head["error"] and not pixels
    connection.send(message(photo))
    assert "error" not in parts(connection.recv())[0]
    connection.send("a text")
    with pytest.raises(ConnectionClosed, match="binary"):
        connection.recv()


def test_a_frame_without_a_style_is_painted_in_the_default_one(page, photo):
    connection = page()
    wanted = Stylizer(DEFAULT_STYLE)(photo).astype(int)
    for sent in (message(photo, style=None), message(photo).replace(b' "style": "wave",', b"")):
        connection.send(sent)
        painted = np.frombuffer(parts(connection.recv())[1], np.uint8)
        assert np.abs(painted.reshape(photo.shape) - wanted).max() <= 1


def test_the_newest_frame_wins(page, photo):
    connection = page()
    connection.send(message(photo))  # the style is open
    connection.recv()
    for number in range(30):
        connection.send(message(photo, id=number))
    seen = []
    while 29 not in seen:
        seen.append(parts(connection.recv(timeout=30))[0]["id"])
    assert seen == sorted(seen) and len(seen) < 30


def test_of_two_frames_at_once_none_gives_way_while_nothing_is_painted(page, photo):
    connection, small = page(), np.ascontiguousarray(photo[:16, :16])
    for number in range(0, 200, 2):
        pair = [message(small, id=number + k) for k in range(2)]
        with connection.protocol_mutex:  # both in one write
            for data in pair:
                connection.protocol.send_binary(data)
            connection.socket.sendall(b"".join(connection.protocol.data_to_send()))
        assert [parts(connection.recv(timeout=10))[0]["id"] for _ in pair] == [number, number + 1]


def test_who_does_not_read_delays_nobody(page, photo):
    lazy, busy = page(), page()
    large = np.tile(photo, (4, 4, 1))  # more than the buffers between the two hold
    for number in range(6):
        lazy.send(message(large, id=number))
    for number in range(5):
        began = time.perf_counter()
        busy.send(message(photo, id=number))
        assert parts(busy.recv(timeout=10))[0]["id"] == number
    assert time.perf_counter() - began < 2


def accepted(page, photo):
    """A connection that has a place: one is free once the server has seen that its page is gone."""
    for _ in range(100):
        with suppress(ConnectionClosed):
            connection = page()
            connection.send(message(photo))
            assert parts(connection.recv())[0]["id"] == 1
            return connection
        time.sleep(0.2)
    pytest.fail("No place became free.")


def test_who_is_one_too_many_is_told_to_come_again(page, photo):
    kept = [accepted(page, photo) for _ in range(3)]
    with pytest.raises(ConnectionClosed, match="1013"):
        page().recv(timeout=10)
    kept[0].close()
    accepted(page, photo)


def test_pages_of_others_and_those_without_a_token_are_refused(address, photo):
    url = address.replace("http", "ws") + "api/frames"
    for wrong in ({"origin": "http://evil.example"}, {"additional_headers": {"Host": "evil.example"}}):
        with pytest.raises(InvalidStatus, match="40[03]"), connect(url, **wrong):
            pass
    with server("--token", "a-token-of-24-characters") as (guarded, _, _):
        url = guarded.replace("http", "ws") + "api/frames"
        with pytest.raises(InvalidStatus, match="401"), connect(url):
            pass
        with connect(url, additional_headers={"Cookie": "allaprima-token=a-token-of-24-characters"}) as connection:
            connection.send(message(photo))
            assert parts(connection.recv())[0]["width"] == 320
