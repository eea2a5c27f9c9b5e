"""Frames painted for a page as they come, over one WebSocket: the server engine.

A message either way is binary: one line of JSON, a line feed, and the pixels, uint8 [H, W, 4] RGBA or [H, W, 3] RGB.

    {"id": 7, "width": 640, "height": 480, "style": "wave", "strength": 0.8}    a frame; each of CONTROLS may be in it
    {"id": 7, "width": 640, "height": 480}                                      it, painted: the same kind of pixels
    {"id": 7, "error": "There is no style ..."}                                 no pixels follow

A frame without a style is painted in the default one, as over HTTP. The newest frame wins: one that waits while an older
one is painted gives way to a newer, and is never answered.
"""

import asyncio
import json

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from allaprima.core.checks import check_kind, check_whole
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer import tiles
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.serve.line import Full, Line
from allaprima.serve.parameters import controls_of

HEAD = 1000  # bytes of the line of JSON, at most
LONGEST = HEAD + 4 * tiles.WHOLE  # bytes of a message, at most
UPLINK = {"ws_max_size": LONGEST, "ws_max_queue": 2, "ws_per_message_deflate": False}  # settings of uvicorn
TEXT, OVERLOADED = 1003, 1013  # why a WebSocket is closed, as https://www.iana.org/assignments/websocket numbers it


async def answer_frames(websocket: WebSocket, line: Line, paint) -> None:
    """Paint what comes over one WebSocket until it closes; it has a place in `line` for so long.

    paint(style, photo, controls) is the photo in the style of that name, or raises AllaprimaError. A client that takes
    its pictures slowly waits for itself alone.
    """
    await websocket.accept()
    try:
        async with line.place() as run, asyncio.TaskGroup() as tasks:
            newest = asyncio.Queue(1)
            tasks.create_task(_paint_newest(websocket, newest, run, paint))
            while True:
                message = await websocket.receive_bytes()
                if newest.full():
                    newest.get_nowait()
                newest.put_nowait(message)
                await asyncio.sleep(0)  # whoever waits for it has it before the next comes, which may be here already
    except* WebSocketDisconnect:
        pass
    except* KeyError:
        await websocket.close(TEXT, "Messages are binary.")
    except* Full:
        await websocket.close(OVERLOADED, "All places are taken: try again in a moment.")


async def _paint_newest(websocket, newest, run, paint):
    sent = asyncio.Semaphore()  # a picture is on its way while the next one is painted

    async def send(answer):
        await websocket.send_bytes(answer)
        sent.release()

    async with asyncio.TaskGroup() as tasks:
        while True:
            answer = await run(_answer, await newest.get(), paint)
            await sent.acquire()
            tasks.create_task(send(answer))


def _answer(message, paint) -> bytes:
    """In a thread: the answer to one message."""
    about = {}
    try:
        about, pixels = _parsed(message)
        frame, style, controls = _frame(about, pixels)
        photo = frame if frame.shape[2] == 3 else cv2.cvtColor(frame, cv2.COLOR_RGBA2RGB)
        painted = paint(style, photo, controls)
        if frame.shape[2] == 4:
            painted = cv2.cvtColor(painted, cv2.COLOR_RGB2RGBA)
        head = {"id": about.get("id"), "width": frame.shape[1], "height": frame.shape[0]}
        return b"".join((json.dumps(head).encode(), b"\n", np.ascontiguousarray(painted).data))
    except AllaprimaError as error:
        return json.dumps({"id": about.get("id"), "error": str(error)}).encode() + b"\n"


def _parsed(message):
    end = message.find(b"\n", 0, HEAD)
    try:
        about = json.loads(message[: max(end, 0)])
    except (ValueError, RecursionError) as error:
        raise AllaprimaError("A message is one line of JSON, a line feed, and pixels.") from error
    if not isinstance(about, dict) or any(isinstance(value, list | dict) for value in about.values()):
        raise AllaprimaError("The line of JSON must be an object of numbers, texts, true and false.")
    return about, memoryview(message)[end + 1 :]


def _frame(about, pixels) -> tuple[np.ndarray, str, Controls]:
    """(uint8 [H, W, 3 or 4], the style's name, Controls)."""
    style, width, height = (about.get(name) for name in ("style", "width", "height"))
    check_whole(1, width=width, height=height)
    style = DEFAULT_STYLE if style is None else style
    check_kind(str, style=style)
    if len(pixels) not in (3 * width * height, 4 * width * height):
        raise AllaprimaError(f"{width}x{height} pixels are {4 * width * height} bytes of RGBA, not {len(pixels)}.")
    others = {name: value for name, value in about.items() if name not in ("id", "style", "width", "height")}
    return np.frombuffer(pixels, np.uint8).reshape(height, width, -1), style, controls_of(others)
