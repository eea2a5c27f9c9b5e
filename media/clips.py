"""Video files read: decoded to upright RGB frames with their times, the sound as packets.

The rotation that a phone notes beside the picture is applied to the pixels, because players differ in whether they obey it.
"""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.media.colour import FULL, SWSCALE_MATRIX, Colour

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".wmv",
        ".flv",
        ".ogv",
        ".vob",
        ".mxf",
        ".y4m",
        ".h264",
        ".h265",
    ]
)
_TIMEOUT = (20, 20)  # seconds to open a URL, and to wait for its next bytes


@dataclass(frozen=True)
class Frame:
    """One upright frame: `rgb` uint8 [H, W, 3], and its `start` and `duration` in units of the stream's time base."""

    rgb: np.ndarray
    start: int
    duration: int


class Clip:
    """An opened video: its picture stream as upright RGB frames of one size, its sound, if wanted, as packets.

    Raises AllaprimaError, with `source` named, when it is missing, no video, or has no picture stream.
    """

    def __init__(self, source, sound=False):
        self.source = source
        self.container = open_container(source)
        pictures = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures or pictures[0].codec_context is None:
            self.close()
            raise AllaprimaError(f"{source} has no video stream. Give a file with moving pictures.")
        self.video = pictures[0]
        self.video.thread_type = "AUTO"
        self.sound = [s for s in self.container.streams.audio if s.codec_context is not None] if sound else []
        self.rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        # Seconds and frames as the file says, the frames reckoned where it does not; None for a live source.
        self.duration = self._length()
        self.frame_count = self.video.frames or (round(self.duration * self.rate) if self.duration else None)
        self.damaged = 0  # packets and frames that could not be read or decoded
        self.reached = 0.0  # seconds: how far into the clip the last good packet lies
        self._converter = VideoReformatter()
        # Known with the first frame; a frame of another size later on is scaled to it.
        self._size = self.colour = self.aspect = self._lag = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.container.close()

    def _length(self) -> float | None:
        if self.video.duration:
            return float(self.video.duration * self.video.time_base)
        return self.container.duration / av.time_base if self.container.duration else None

    def read(self):
        """Yield the Frames and, as they lie between them in the file, the packets of the streams in `self.sound`.

        Times count from the start of the clip. What is damaged is left out and counted in `self.damaged`.
        """
        step = max(1, round(1 / (self.rate * self.video.time_base)))
        start = -step
        for item in self._decoded():
            if isinstance(item, av.Packet):
                yield item
                continue
            stamp = self._stamp(item)
            start = max(start + step if stamp is None else stamp, start + 1)  # an encoder wants times that rise
            yield Frame(self._upright(item), start, item.duration or step)

    def _stamp(self, frame) -> int | None:
        """When the frame is shown, counted from the start of the clip, in the stream's time base."""
        if self.container.format.name != "avi":
            return None if frame.pts is None else frame.pts - self._offset(self.video)
        # AVI stores no such times: its "pts" is the order of storage, which B-frames shuffle. "dts" is in order, late
        # by as many frames as the decoder holds back.
        if frame.dts is None:
            return None
        if self._lag is None:
            self._lag = frame.dts
        return frame.dts - self._lag

    def _decoded(self):
        for packet in self.packets([self.video, *self.sound]):
            if packet.pts is not None:
                end = packet.pts + (packet.duration or 0) - self._offset(packet.stream)
                self.reached = max(self.reached, float(end * packet.time_base))
            if packet.stream.index == self.video.index:
                yield from self._decode(packet)
            elif packet.dts is not None:
                offset = self._offset(packet.stream)
                packet.dts -= offset
                packet.pts = packet.dts if packet.pts is None else packet.pts - offset
                yield packet
        yield from self._decode(None)

    def packets(self, streams):
        """Packets with something in them, up to the end or the first place where reading fails."""
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                self.damaged += 1
                return
            self.damaged += packet.is_corrupt  # it may still be good enough for the decoder
            if packet.size:  # the empty ones ask decoders to flush, which _decoded does itself
                yield packet

    def _decode(self, packet):
        try:
            frames = self.video.codec_context.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self.damaged += 1
            else:
                yield frame

    def _offset(self, stream):
        """Where the clip begins, in the stream's time base: recordings of broadcasts begin hours after zero."""
        return round(Fraction(self.container.start_time or 0, av.time_base) / stream.time_base)

    def _upright(self, frame) -> np.ndarray:
        colour, matrix = Colour.of(frame), _display_matrix(frame)
        if self._size is None:
            self._size, self.colour = (frame.width, frame.height), colour
            aspect = self.video.sample_aspect_ratio or Fraction(1)
            self.aspect = 1 / aspect if _is_quarter_turn(matrix) else aspect
        rgb = self._converter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=SWSCALE_MATRIX[colour.matrix],
            src_color_range=colour.range,
            dst_color_range=FULL,
        ).to_ndarray()
        return _oriented(rgb, matrix)


def open_container(source):
    """PyAV's container of a path or URL; every way in which that fails is an AllaprimaError."""
    name = str(source)
    remote = "://" in name
    try:
        return av.open(name, timeout=_TIMEOUT if remote else None, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise AllaprimaError(f"{name} is not a video that can be read, or it is cut off. Check the file.") from error
    except av.FFmpegError as error:
        if isinstance(error, OSError) and not remote:
            raise explain_os_error(error, name) from error
        raise AllaprimaError(f"{name} can't be opened: {error.strerror}. Check the address.") from error


def _display_matrix(frame):
    """The 2x2 part of the frame's display matrix, entries -1, 0, 1; None when the frame stands as it is stored.

    It maps stored to shown coordinates, (x, y) M = (x', y'), as ISO 14496-12 says of the track header's matrix.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return None
    matrix = np.frombuffer(bytes(side), np.int32).reshape(3, 3)[:2, :2]
    return np.sign(np.where(np.abs(matrix) * 2 > np.abs(matrix).max(), matrix, 0))


def _is_quarter_turn(matrix) -> bool:
    return matrix is not None and matrix[0, 0] == 0  # x becomes y


def _oriented(rgb, matrix) -> np.ndarray:
    """Turn and flip a picture by quarter turns, as the display matrix says."""
    if matrix is None:
        return rgb
    if _is_quarter_turn(matrix):
        rgb, (flip_y, flip_x) = rgb.transpose(1, 0, 2), (matrix[0, 1], matrix[1, 0])
    else:
        flip_x, flip_y = matrix[0, 0], matrix[1, 1]
    return np.ascontiguousarray(rgb[:: -1 if flip_y < 0 else 1, :: -1 if flip_x < 0 else 1])


def sample_frames(source, count):
    """Yield `count` frames, uint8 [H, W, 3] RGB, upright, evenly spread over a video (a path or URL).

    One pass counts the frames, one decodes them in order; memory holds a few at a time. A clip with fewer gives all.
    Raises AllaprimaError when it is no video or none of it can be decoded.
    """
    with Clip(source) as clip:
        total = sum(1 for _ in clip.packets([clip.video]))
    # the middle of each of `count` equal parts
    wanted = {int((part + 0.5) * total / count) for part in range(count)} if total > count else range(total)
    with Clip(source) as clip:
        _, items = first_frame(clip)
        for index, picture in enumerate(items):
            if index in wanted:
                yield picture.rgb


def first_frame(clip):
    """(the first Frame, all items of the clip): what the output must look like is known from the first frame on."""
    items, head = clip.read(), []
    for item in items:
        head.append(item)
        if isinstance(item, Frame):
            return item, (item for part in (head, items) for item in part)
    raise AllaprimaError(f"{clip.source} has no frame that can be decoded. Check that it plays in a video player.")
