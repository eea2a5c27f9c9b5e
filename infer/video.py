"""Video files: decoded, stylized and encoded in three threads, with everything but the pixels kept.

    stylize_video("holiday.mp4", "painted.mp4", Stylizer("starry.onnx"))

Kept: every frame's time stamp (a variable frame rate too), the sound, the colour range and matrix, the shape of the
pixels, the metadata. The rotation that a phone notes beside the picture is applied to the pixels, because players
differ in whether they obey it. What comes out is H.264 4:2:0, which every browser plays.
"""

import os
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from allaprima.errors import AllaprimaError, explain_os_error
from allaprima.files import atomic, check_output
from allaprima.infer.stylizer import Stylizer
from allaprima.progress import console, progress_bar

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .3gp .wmv .flv .ogv .vob .mxf .y4m .h264 .h265".split()
)
# output ending -> (container format, sound codecs that it and the players of such files take as they are)
_MP4_SOUND = frozenset("aac mp3 ac3 eac3 alac opus flac".split())
_CONTAINERS = {
    ".mp4": ("mp4", _MP4_SOUND),
    ".m4v": ("mp4", _MP4_SOUND),
    ".mov": ("mov", frozenset("aac mp3 ac3 eac3 alac pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_f32le".split())),
    ".mkv": ("matroska", _MP4_SOUND | frozenset("vorbis dts truehd mp2 pcm_s16le pcm_s24le pcm_f32le".split())),
}
OUTPUT_SUFFIXES = frozenset(_CONTAINERS)

_TIMEOUT = (20, 20)  # seconds to open a URL, and to wait for its next bytes
_AHEAD = 4  # frames that a stage may be ahead of the next one: enough to smooth, few enough for 4K in memory
# x264's "superfast" leaves the processor to the network: on brush strokes it takes half the time of "veryfast", for files
# 7 % larger. 20 is where the loss can't be seen in a stylized picture.
_ENCODER = {"preset": "superfast", "crf": "20"}

# Numbers of ITU-T H.273, which FFmpeg and every container use. Matrix coefficients: how YUV is made from RGB.
_RGB, _BT709, _UNSPECIFIED, _FCC, _BT470BG, _SMPTE170M, _SMPTE240M, _BT2020 = 0, 1, 2, 4, 5, 6, 7, 9
_LIMITED, _FULL = 1, 2  # AVColorRange: 16..235, 0..255
# The colour matrices that swscale knows, by the numbers it gives them; 5 is BT.601 under all of its names.
_SWSCALE_MATRIX = {_BT709: 1, _FCC: 4, _BT470BG: 5, _SMPTE170M: 5, _SMPTE240M: 7, _BT2020: 9}


@dataclass(frozen=True)
class Colour:
    """How a video's YUV stands for RGB: matrix, primaries, transfer as numbered in H.273; range 1 limited, 2 full."""

    matrix: int = _SMPTE170M
    range: int = _LIMITED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED

    @classmethod
    def of(cls, frame):
        """The frame's own tags; an untagged matrix is what players assume: BT.709 from 720 lines on, BT.601 below."""
        matrix = frame.colorspace
        if matrix not in _SWSCALE_MATRIX:
            matrix = _BT709 if max(frame.height, frame.width * 9 // 16) >= 720 else _SMPTE170M
        full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
        return cls(matrix, _FULL if full else _LIMITED, frame.color_primaries, frame.color_trc)


@dataclass(frozen=True)
class Picture:
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
        """Yield the Pictures and, as they lie between them in the file, the packets of the streams in `self.sound`.

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
            yield Picture(self._upright(item), start, item.duration or step)

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
            frame, width=self._size[0], height=self._size[1], format="rgb24",
            src_colorspace=_SWSCALE_MATRIX[colour.matrix], src_color_range=colour.range, dst_color_range=_FULL,
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


class VideoWriter:
    """H.264 4:2:0 into the container that the path's ending names, with sound streams beside it.

    width, height: of the frames to come; an odd one gets its last column or row twice, since 4:2:0 wants even sizes.
    time_base: seconds per unit of the times given to `write`.
    """

    def __init__(self, path, width, height, rate, time_base, colour=Colour(), aspect=None):
        name, self._sound_codecs = _CONTAINERS[Path(path).suffix.lower()]
        # Faststart puts the index in front, so that a browser plays before it has the whole file.
        options = {} if name == "matroska" else {"movflags": "+faststart"}
        self._container = av.open(str(path), "w", format=name, container_options=options)
        self._stream = stream = self._container.add_stream("libx264", rate=rate, options=dict(_ENCODER))
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.time_base = time_base
        context.sample_aspect_ratio = aspect or Fraction(1)
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        self._colour, self._time_base = colour, time_base
        self._converter = VideoReformatter()
        self._sound = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                for flush in [self._stream.encode, *(sound.finish for sound in self._sound.values())]:
                    self._container.mux(flush())
            self._container.close()
        except av.FFmpegError:
            if kind is None:  # else the first error is the one to tell
                raise

    @classmethod
    def like(cls, clip, rgb, path):
        """A writer for frames of the shape of `rgb`, with the clip's rate, colour, metadata and sound streams."""
        height, width = rgb.shape[:2]
        writer = cls(path, width, height, clip.rate, clip.video.time_base, clip.colour, clip.aspect)
        about_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        metadata = clip.container.metadata.items()
        writer._container.metadata.update({k: v for k, v in metadata if k.lower() not in about_the_file})
        for stream in clip.sound:
            copied = stream.codec_context.codec.canonical_name in writer._sound_codecs
            writer._sound[stream.index] = (_CopiedSound if copied else _EncodedSound)(writer._container, stream)
        return writer

    def write(self, rgb, start, duration=0):
        """Write a frame, uint8 [height, width, 3], that is shown from `start` on (units of the time base, rising)."""
        if any(after for _, after in self._padding):
            rgb = np.pad(rgb, self._padding, mode="edge")
        colour = self._colour
        frame = self._converter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb)), format="yuv420p", src_color_range=_FULL,
            dst_colorspace=_SWSCALE_MATRIX[colour.matrix], dst_color_range=colour.range,
        )
        frame.colorspace, frame.color_range = colour.matrix, colour.range
        frame.pts, frame.time_base, frame.duration = start, self._time_base, duration
        self._container.mux(self._stream.encode(frame))

    def write_sound(self, packet):
        """Write a packet of one of the clip's sound streams."""
        self._container.mux(self._sound[packet.stream.index].take(packet))


class _CopiedSound:
    """A sound stream whose packets go over bit by bit."""

    def __init__(self, container, source):
        self._stream = container.add_stream_from_template(source)
        self._stream.metadata.update(source.metadata)

    def take(self, packet):
        packet.stream = self._stream
        return [packet]

    def finish(self):
        return []


class _EncodedSound:
    """A sound stream that the container or its players would not take: decoded, and encoded as AAC."""

    _LAYOUTS = {1: "mono", 6: "5.1"}  # the rest is mixed to stereo

    def __init__(self, container, source):
        self._decoder = source.codec_context
        layout = self._LAYOUTS.get(self._decoder.layout.nb_channels, "stereo")
        self._stream = container.add_stream("aac", rate=min(self._decoder.sample_rate, 48000), layout=layout)
        self._stream.bit_rate = 80_000 * self._stream.codec_context.layout.nb_channels
        self._stream.metadata.update(source.metadata)

    def take(self, packet):
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            frames = []  # a damaged packet is a moment of silence
        return [encoded for frame in frames for encoded in self._stream.encode(frame)]

    def finish(self):
        return self.take(None) + self._stream.encode(None)


def background(items, ahead=_AHEAD):
    """Run a generator in a thread of its own, at most `ahead` items before its reader.

    An exception in it comes out here. Whoever reads must close it (`contextlib.closing`) before what the generator
    reads from is closed: an exception in the reader alone would leave the thread at work for as long as the traceback
    lives.
    """
    ready, stopped = queue.Queue(ahead), threading.Event()

    def put(entry):
        while not stopped.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                pass

    def work():
        error = None
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    break
        except BaseException as caught:
            error = caught
        finally:
            items.close()
        put((None, error or StopIteration()))

    thread = threading.Thread(target=work, daemon=True, name="allaprima video")
    thread.start()
    try:
        while True:
            try:
                item, error = ready.get(timeout=0.2)  # the time-out lets Ctrl-C through on Windows
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join(timeout=30)


def stylize_video(source, output, stylizer, strength=1.0) -> Path:
    """Write `source` as `stylizer` paints it to `output`, which appears whole or not at all.

    source: a path or URL of anything that FFmpeg reads. output: a path ending in .mp4, .m4v, .mov or .mkv.
    stylizer: a Stylizer, or anything called as stylizer(rgb uint8 [H, W, 3], strength=float) that returns the same
    shape. strength: 0 (the photo) to 1 (the full style).
    Memory stays the same however long the clip is. What is damaged in the source is left out, with a warning.
    Raises AllaprimaError when the source can't be read or has no pictures, and when the output can't be written.
    """
    output = check_video_output(output)
    if Path(str(source)).exists() and output.exists() and os.path.samefile(source, output):
        raise AllaprimaError(f"{output} is the source itself. Give the result another name.")
    with Clip(source, sound=True) as clip, atomic(output) as part:
        first, items = first_picture(clip)
        _announce(clip, first.rgb, output)
        with VideoWriter.like(clip, first.rgb, part) as writer, progress_bar() as bar:
            task = bar.add_task("Stylizing", total=clip.frame_count, unit="frames", note="")
            frames = 0
            with closing(background(_stylized(background(items), stylizer, strength))) as painted:
                for item in painted:
                    if isinstance(item, Picture):
                        writer.write(item.rgb, item.start, item.duration)
                        frames += 1
                        bar.update(task, completed=frames)
                    else:
                        writer.write_sound(item)
            bar.update(task, total=frames)  # the file's own count was a guess, or it was cut off
    _warn_of_damage(clip, frames)
    return output


def check_video_output(output) -> Path:
    """The path, proved writable; AllaprimaError when it is not, or when its ending names no container of ours."""
    output = Path(output)
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise AllaprimaError(f"{output} can't be written as a video. Let its name end in .mp4, .mov or .mkv.")
    return check_output(output)


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
        _, items = first_picture(clip)
        for index, picture in enumerate(items):
            if index in wanted:
                yield picture.rgb


def first_picture(clip):
    """(the first Picture, all items of the clip): what the output must look like is known from the first frame on."""
    items, head = clip.read(), []
    for item in items:
        head.append(item)
        if isinstance(item, Picture):
            return item, (item for part in (head, items) for item in part)
    raise AllaprimaError(f"{clip.source} has no frame that can be decoded. Check that it plays in a video player.")


def _stylized(items, stylizer, strength):
    """The items with their pictures stylized, in order.

    On a CPU, several frames at a time by one thread each: more frames a second than one at a time by all threads, which
    wait for each other in every layer.
    """
    workers, ahead = 1, 0
    if isinstance(stylizer, Stylizer) and stylizer.provider == "cpu":
        workers = ahead = stylizer.threads or os.cpu_count()
        stylizer = stylizer.for_video()

    def paint(picture):
        return replace(picture, rgb=stylizer(picture.rgb, strength=strength))

    with closing(items), ThreadPoolExecutor(workers, "allaprima video") as pool:
        waiting, at_work = deque(), 0  # pictures in the making, and the sound that comes between them
        for item in items:
            picture = isinstance(item, Picture)
            waiting.append(pool.submit(paint, item) if picture else item)
            at_work += picture
            while waiting and (at_work > ahead or not isinstance(waiting[0], Future)):
                first = waiting.popleft()
                at_work -= isinstance(first, Future)
                yield first.result() if isinstance(first, Future) else first
        for last in waiting:
            yield last.result() if isinstance(last, Future) else last


def _announce(clip, rgb, output):
    """Say what will be written before the work starts."""
    height, width = rgb.shape[:2]
    length = f", {clip.duration:.1f} s" if clip.duration else ""
    sound = f", {len(clip.sound)} sound stream{'s'[:len(clip.sound) > 1]}" if clip.sound else ", no sound"
    console.print(f"{clip.source}: {width}x{height}, {float(clip.rate):.4g} frames/s{length}{sound} -> {output}",
                  highlight=False, soft_wrap=True, markup=False)
    if width % 2 or height % 2:
        console.print(f"An odd size is not possible in H.264 4:2:0: the edge is repeated to give "
                      f"{width + width % 2}x{height + height % 2}.", highlight=False, soft_wrap=True)


def _warn_of_damage(clip, frames):
    """Say what was lost, when packets were bad or the clip ends before the time that its header tells."""
    missing = (clip.duration or 0) - clip.reached
    if not clip.damaged and missing < 0.5:
        return
    where = f"it stops at {clip.reached:.1f} of {clip.duration:.1f} seconds" if missing >= 0.5 else "some of it is lost"
    console.print(f"[yellow]warning:[/yellow] {clip.source} is damaged: {where}; {frames} frames were kept.",
                  highlight=False, soft_wrap=True)
