"""Video files read: decoded to upright RGB frames with their times, the other tracks as packets.

The rotation that a phone notes beside the picture is applied to the pixels, because players differ in whether they obey it.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.format import Flags
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.remote import is_store, is_url, open_store
from allaprima.media.clock import OF_FILES, OF_TRANSPORT, Clock
from allaprima.media.colour import FULL, SWSCALE_MATRIX, Colour
from allaprima.media.filters import Filters

_ENDINGS = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts 3gp 3g2 f4v wmv flv ogv vob mxf y4m h264 h265"
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
# What FFmpeg opens as "video" beside films: single pictures, picture animations, and text drawn as pictures.
_STILLS = re.compile(r"image2|.*_pipe|gif|apng|ico|jpegxl_anim|webp_anim|tty|bin|xbin|adf|idf")
# How films without a container begin: FFmpeg takes for one whatever has such a beginning somewhere in it, as documents with
# photos have
_BARE = {"mjpeg": b"\xff\xd8"} | dict.fromkeys(["h264", "hevc", "m4v", "mpegvideo", "vc1"], b"\0+\1")
_PICTURE_BRANDS = re.compile(r"heic|heix|heim|heis|mif1|msf1|avif|avis|crx ")  # of ISO 23008-12 files, and a RAW photo
STANDARD_INPUT = "-"  # in the place of a path
_TIMEOUT = (20, 20)  # seconds to open a URL, and to wait for its next bytes
_RTSP = {"rtsp_flags": "prefer_tcp"}  # FFmpeg's own preference, UDP, loses packets, and a frame with each
# Formats that are lists of other files or addresses
_LISTS = {"concat", "dash", "hls", "image2", "imf", "mlv", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True)
class Frame:
    """One upright frame: `rgb` uint8 [H, W, 3], and its `start` and `duration` in units of the stream's time base."""

    rgb: np.ndarray
    start: int
    duration: int


class Clip:
    """An opened video: its picture stream as upright RGB frames of one size and, if wanted, its other tracks as packets.

    tracks: read the sound and the subtitles too. deinterlace: interlaced frames become whole ones.
    source: a path, a URL, or STANDARD_INPUT, for whatever FFmpeg writes into a pipe.
    Raises AllaprimaError, with `source` named, when it is missing, not a video, or has no picture stream.
    """

    def __init__(self, source, tracks=False, deinterlace=True):
        self.source = source
        self.container = open_container(source)
        local = source != STANDARD_INPUT and not is_url(source) and not is_store(source)
        if local and not _holds_film(self.container, source):
            self.close()
            raise AllaprimaError(f"{source} is not a video. Give a file with moving pictures.")
        pictures = _main_pictures(self.container, source)
        if pictures is None:
            self.close()
            raise AllaprimaError(f"{source} has no video stream. Give a file with moving pictures.")
        self.video = pictures
        self.tracks = [s for s in self.container.streams if s.index != self.video.index] if tracks else []
        self.rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        # Seconds and frames as the file says, the frames reckoned where it does not; None for a live source.
        self.duration = self._length()
        self.frame_count = self.video.frames or (round(self.duration * self.rate) if self.duration else None)
        # Decoding several frames at once holds back as many, which is a delay in what is live.
        self.video.thread_type = "SLICE" if self.endless else "AUTO"
        self._bad = self._corrupt = 0  # what could not be read or decoded; packets that may still be good enough for it
        self.reached = 0.0  # seconds: how far into the clip the last good packet of any track lies
        self.start = Fraction(self.container.start_time or 0, av.time_base)  # broadcasts begin hours after zero
        self.indexed = not self.container.format.flags & Flags.ts_discont.value
        self._clock = Clock(self.start, OF_FILES if self.indexed else OF_TRANSPORT)
        self._step = max(1, round(1 / (self.rate * self.video.time_base)))
        self._deinterlace, self._filters = deinterlace, Filters(deinterlace)
        self._converter = VideoReformatter()
        # Known with the first frame; a frame of another size later on is scaled to it.
        self._size, self.colour, self.aspect = (0, 0), Colour(), Fraction(1)
        self._lag = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.container.close()

    @property
    def damaged(self) -> int:
        """Packets and frames that were lost. Where clips were joined, a packet of each track only looks so."""
        return self._bad + max(0, self._corrupt - self._clock.jumps * (1 + len(self.tracks)))

    @property
    def jumps(self) -> int:
        """Places so far at which the file's clock jumped."""
        return self._clock.jumps

    @property
    def transparent(self) -> bool:
        """Whether its pictures have transparency, which painted ones do not keep."""
        pixels = self.video.codec_context.format
        return bool(pixels and any(part.is_alpha for part in pixels.components)) or "alpha_mode" in self.video.metadata

    @property
    def sound(self):
        return [s for s in self.tracks if s.type == "audio"]

    @property
    def endless(self) -> bool:
        """A stream from the net that comes at its own pace, and not a file."""
        name = self.container.format.name
        return is_url(self.source) and not self.duration and (self.container.size <= 0 or name == "hls")

    def _length(self) -> float | None:
        if self.video.duration:
            length = float(self.video.duration * self.video.time_base)
            # of an AVI that was cut off, FFmpeg reckons it by the size; its frames, which lie evenly, are in its header
            return max(length, float(self.video.frames / self.rate)) if self.container.format.name == "avi" else length
        said = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", self.video.metadata.get("DURATION", ""))  # Matroska
        if said:
            hours, minutes, seconds = said.groups()
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return self.container.duration / av.time_base if self.container.duration else None

    def read(self):
        """Yield the Frames and, as they lie between them in the file, the packets of the sound and subtitle tracks.

        Times count from the start of the clip, and jumps of its clock are bridged. What is damaged is left out and
        counted in `self.damaged`.
        """
        start = -self._step
        for item in self._decoded():
            if isinstance(item, av.Packet):
                yield item
                continue
            stamp, duration = self._ticks(item, item.pts), self._ticks(item, item.duration)
            start = max(start + self._step if stamp is None else stamp, start + 1)  # an encoder wants times that rise
            yield Frame(self._upright(item), start, duration or self._step)

    def _ticks(self, frame, time):
        """A time of the frame in units of the stream's time base; the filters may have one of their own."""
        if time is None or frame.time_base == self.video.time_base:
            return time
        return round(time * frame.time_base / self.video.time_base)

    def _stamp(self, frame) -> int | None:
        """When the frame is shown, in the stream's time base."""
        if self.container.format.name != "avi":
            return frame.pts
        # AVI stores no such times: its "pts" is the order of storage, which B-frames shuffle. "dts" is in order, late
        # by as many frames as the decoder holds back.
        if frame.dts is None:
            return None
        if self._lag is None:
            self._lag = frame.dts
        return frame.dts - self._lag

    def seek(self, time):
        """Go on reading at a keyframe at `time`, in units of the stream's time base, or before it.

        What the first frame tells, the size say, is what it would be without. For files with an index alone.
        """
        first_frame(self)
        self.container.seek(time + round(self.start / self.video.time_base), stream=self.video)
        self._filters, self._clock = Filters(self._deinterlace), Clock(self.start, OF_FILES)

    def placed_packets(self):
        """Yield the packets of the picture stream and of the tracks, with times of the clip's clock."""
        for packet in self.packets([self.video, *self.tracks]):
            self._place(packet)
            if packet.pts is not None:
                length = packet.duration or (self._step if packet.stream.index == self.video.index else 0)
                self.reached = max(self.reached, float((packet.pts + length) * packet.time_base))
            yield packet

    def _decoded(self):
        for packet in self.placed_packets():
            if packet.stream.index == self.video.index:
                yield from self._decode(packet)
            elif packet.stream.type in ("audio", "subtitle"):
                yield packet
        yield from self._decode(None)
        yield from self._filters.flush()

    def _place(self, packet):
        """Put the packet's times on the clip's own clock."""
        base, time = packet.time_base, packet.dts if packet.dts is not None else packet.pts
        if time is None:
            return
        duration = packet.duration or (self._step if packet.stream.index == self.video.index else 0)
        shift = round(self._clock.shift(packet.stream.index, time * base, duration * base) / base)
        if packet.pts is not None and not self.indexed and abs(packet.pts - time) * base > 10:
            packet.pts = None  # at a jump FFmpeg's parser gives a packet one time of either clock
        else:
            packet.pts = time + shift if packet.pts is None else packet.pts + shift
        packet.dts = time + shift

    def packets(self, streams):
        """Packets with something in them, up to the end or the first place where reading fails."""
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self._bad += 1
                return
            self._corrupt += packet.is_corrupt
            if packet.size:  # the empty ones ask decoders to flush, which _decoded does itself
                yield packet

    def _decode(self, packet):
        try:
            frames = self.video.codec_context.decode(packet)
        except FFmpegError:
            self._bad += 1
            return
        for frame in frames:
            if frame.is_corrupt:
                self._bad += 1
                continue
            if self._size == (0, 0):
                self._size, self.colour = (frame.width, frame.height), Colour.painted(frame)
                aspect = self.video.sample_aspect_ratio or Fraction(1)
                self.aspect = 1 / aspect if _is_quarter_turn(_display_matrix(frame)) else aspect
            frame.pts, frame.time_base = self._stamp(frame), self.video.time_base
            yield from self._filters.push(frame)

    def _upright(self, frame) -> np.ndarray:
        colour = Colour.of(frame)
        rgb = self._converter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=SWSCALE_MATRIX[colour.matrix],
            src_color_range=colour.range,
            dst_color_range=FULL,
        ).to_ndarray()
        return _oriented(rgb, _display_matrix(frame))


def open_container(source) -> InputContainer:
    """PyAV's container of a path or URL; every way in which that fails is an AllaprimaError."""
    remote = is_url(source)
    try:
        if source == STANDARD_INPUT:
            return av.open("pipe:0", options=_no_lists(), metadata_errors="replace")
        if is_store(source):
            return av.open(open_store(str(source)), mode="r", options=_no_lists(), metadata_errors="replace")
        name = str(source) if remote else f"file:{source}"  # a path is not a URL, whatever is in it
        timeout = _TIMEOUT if remote else None
        return av.open(name, options=_RTSP if remote else _no_lists(), timeout=timeout, metadata_errors="replace")
    except InvalidDataError as error:
        source = "Standard input" if source == STANDARD_INPUT else source
        raise AllaprimaError(f"{source} is not a video that can be read, or it is cut off. Check the file.") from error
    except FFmpegError as error:
        if source == STANDARD_INPUT:
            raise AllaprimaError(f"Standard input can't be read ({error.strerror}): pipe a video into it.") from error
        if isinstance(error, OSError) and not remote:
            raise explain_os_error(error, source) from error
        if isinstance(error, ArgumentError) and not remote:  # what FFmpeg says of a format that is not wanted
            reason = "it seems to be a picture, or a list of other files"
            raise AllaprimaError(f"{source} is not a video that can be read: {reason}. Give a video.") from error
        raise AllaprimaError(f"{source} can't be opened: {error.strerror}. Check the address.") from error


def _no_lists() -> dict[str, str]:
    """The option that keeps FFmpeg from lists of other files: a stranger's would have it read whatever it names."""
    return {"format_whitelist": ",".join(sorted(av.formats_available - _LISTS))}


def is_video(path) -> bool:
    """Does the file hold moving pictures? Judged by what is in it.

    A file that can't be opened but ends like a video is one too, so that the reason is told and it isn't passed over;
    but not .ts and .mts, which are TypeScript as often, and as video can be opened wherever they are cut.
    """
    try:
        with open_container(path) as container:
            return _holds_film(container, path) and bool(_films(container))
    except AllaprimaError:
        return Path(path).suffix.lower() in VIDEO_SUFFIXES - {".ts", ".mts"}


def _holds_film(container, path) -> bool:
    """Is the file of a kind that can hold moving pictures?"""
    name = container.format.name
    if _STILLS.fullmatch(name) or _PICTURE_BRANDS.fullmatch(container.metadata.get("major_brand", "")):
        return False
    if name not in _BARE:
        return True
    with open(path, "rb") as file:
        return bool(re.match(_BARE[name], file.read(16)))


def _films(container):
    """The picture tracks that are not a cover or a thumbnail."""
    return [s for s in container.streams.video if s.codec_context is not None and not s.disposition & _NO_FILM]


def _main_pictures(container, source):
    """The track that a player would show; None when there is no moving picture.

    A track of one frame is a thumbnail, whatever its flags say, when another one moves.
    """
    tracks = _films(container)
    best = container.streams.best("video")
    tracks.sort(key=lambda stream: best is None or stream.index != best.index)  # the others in the file's order
    if len(tracks) > 1 and source != STANDARD_INPUT and not is_url(source):  # those can't be read twice
        moving = _moving([stream.index for stream in tracks], source)
        tracks = [stream for stream in tracks if stream.index in moving] or tracks
    return tracks[0] if tracks else None


def _moving(indices, source):
    """Which of the streams have more than one packet."""
    counts = dict.fromkeys(indices, 0)
    with open_container(source) as container:
        try:
            for packet in container.demux([container.streams[index] for index in indices]):
                counts[packet.stream_index] += packet.size > 0
                if min(counts.values()) > 1 or sum(counts.values()) > 1000:
                    break
        except FFmpegError:
            pass  # what was seen so far decides
    return {index for index, count in counts.items() if count > 1}


def _display_matrix(frame):
    """The 2x2 part of the frame's display matrix, entries -1, 0, 1; None when the frame stands as it is stored.

    It maps stored to shown coordinates, (x, y) M = (x', y'), as ISO 14496-12 says of the track header's matrix.
    """
    # Not frame.side_data: that and the frame would hold each other until the next garbage collection.
    side = SideDataContainer(frame).get("DISPLAYMATRIX")  # pyright: ignore[reportCallIssue]
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
    Raises AllaprimaError when it is not a video or none of it can be decoded.
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


def first_frame(clip, items=None):
    """(the first Frame, all items of the clip): what the output must look like is known from the first frame on.

    items: of the clip, where not all are meant.
    """
    items, head = items or clip.read(), []
    for item in items:
        head.append(item)
        if isinstance(item, Frame):
            return item, (item for part in (head, items) for item in part)
    raise AllaprimaError(f"{clip.source} has no frame that can be decoded. Check that it plays in a video player.")
