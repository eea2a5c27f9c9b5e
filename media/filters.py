"""FFmpeg's filters for frames that can't be painted as they are stored: combs of interlaced video, the light of HDR."""

import tempfile
from pathlib import Path

from av.error import BlockingIOError, EOFError
from av.filter import Graph

from allaprima.media.colour import BT2020, SWSCALE_MATRIX, is_hdr, write_cube


class Filters:
    """Deinterlaces (bwdif) and brings HDR to BT.709 (`to_sdr`), where a frame needs it; all others pass untouched.

    A frame may come out later than it went in, and its times in another time base than the stream's.
    """

    def __init__(self, deinterlace=True):
        self._deinterlace = deinterlace
        self._combed = False  # from the first interlaced frame on: bwdif looks at the frames around each
        self._graph: Graph | None = None
        self._shape = None

    def push(self, frame) -> list:
        """The frames that are ready when this one has gone in."""
        self._combed |= self._deinterlace and frame.interlaced_frame
        hdr = frame.color_trc if is_hdr(frame) else None
        shape = (frame.format.name, frame.width, frame.height, self._combed, hdr)
        ready = self.flush() if shape != self._shape else []
        if not (self._combed or hdr):
            return [*ready, frame]
        if hdr and frame.colorspace not in SWSCALE_MATRIX:
            frame.colorspace = BT2020
        if self._graph is None:
            self._graph, self._shape = _graph(frame, self._combed, hdr), shape
        self._graph.push(frame)
        return ready + _ready(self._graph)

    def flush(self) -> list:
        """The frames that were held back."""
        if self._graph is None:
            return []
        self._graph.push(None)
        ready, self._graph, self._shape = _ready(self._graph), None, None
        return ready


def _ready(graph) -> list:
    frames = []
    while True:
        try:
            frames.append(graph.pull())
        except (BlockingIOError, EOFError):
            return frames


def _graph(frame, combed, hdr):
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name="in"
    )
    steps = [graph.add("bwdif", "mode=send_frame:deint=interlaced")] if combed else []
    with tempfile.TemporaryDirectory() as folder:
        if hdr:
            cube = Path(folder) / "to_sdr.cube"
            write_cube(cube, hdr)
            # 16 bits: what FFmpeg converts to and looks up fastest, and no bands in the dark parts of PQ
            steps += [graph.add("format", "gbrp16le"), graph.add("lut3d", file=str(cube)), graph.add("format", "rgb24")]
        graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    return graph
