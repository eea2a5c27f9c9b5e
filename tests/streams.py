"""Streams over the net, from this machine to one viewer: an HTTP and an RTSP server, with FFmpeg's encoder behind them."""

import shutil
import socket
import struct
import subprocess
import threading
from contextlib import contextmanager

import pytest

# At its pace of 25 frames a second; frame n is of the grey level 4 (n mod 50), about.
_SOURCE = "color=black:s=160x96:r=25,geq=lum='16+3.43*mod(N,50)':cb=128:cr=128"
_ENCODER = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "5"]

_DESCRIPTION = "\r\n".join(
    [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=live",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 packetization-mode=1",
        "",
    ]
)
_ANSWERS = {  # to the requests that a viewer makes, with their headers and bodies
    "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", ""),
    "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Length: {len(_DESCRIPTION)}", _DESCRIPTION),
    "SETUP": ("Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1", ""),
    "PLAY": ("Session: 1", ""),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def http(port):
    """http://127.0.0.1:port/live, a transport stream, until the block ends."""
    with _encoder("-f", "mpegts", "-listen", 1, f"http://127.0.0.1:{port}/live"):
        yield


@contextmanager
def rtsp(port):
    """rtsp://127.0.0.1:port/live until the block ends (RFC 2326, packets in the connection of the requests)."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=_serve, args=(listening, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _encoder(*output):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    command = ["ffmpeg", "-v", "quiet", "-re", "-f", "lavfi", "-i", _SOURCE, *_ENCODER, *map(str, output)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _serve(listening, ended):
    while not ended.is_set():
        try:
            viewer, _ = listening.accept()
        except TimeoutError:
            continue
        with viewer:
            _answer(viewer)
            _send(viewer, ended)


def _answer(viewer):
    """Answer requests up to the one that wants the pictures."""
    lines = viewer.makefile("r", newline="\r\n")
    request = ""
    while request != "PLAY" and (line := lines.readline()):
        request, number = line.split()[0], ""
        while line.strip():
            line = lines.readline()
            number = line if line.startswith("CSeq") else number
        headers, body = _ANSWERS[request]
        viewer.sendall(f"RTSP/1.0 200 OK\r\n{number}{headers}\r\n\r\n{body}".encode())


def _send(viewer, ended):
    with socket.socket(type=socket.SOCK_DGRAM) as packets:
        packets.bind(("127.0.0.1", 0))
        packets.settimeout(0.1)
        with _encoder("-f", "rtp", f"rtp://127.0.0.1:{packets.getsockname()[1]}?pkt_size=1200"):
            while not ended.is_set():
                try:
                    packet = packets.recv(2048)
                    viewer.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                except TimeoutError:
                    continue
                except OSError:  # the viewer has gone
                    return
