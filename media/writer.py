"""Video files written: H.264 4:2:0, which every browser plays, with sound streams beside it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from allaprima.core.errors import AllaprimaError
from allaprima.core.files import check_output
from allaprima.media.colour import FULL, SWSCALE_MATRIX, Colour

# output ending -> (container format, sound codecs that it and the players of such files take as they are)
_MP4_SOUND = frozenset(["aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"])
_CONTAINERS = {
    ".mp4": ("mp4", _MP4_SOUND),
    ".m4v": ("mp4", _MP4_SOUND),
    ".mov": (
        "mov",
        frozenset(
            ["aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"]
        ),
    ),
    ".mkv": (
        "matroska",
        _MP4_SOUND | frozenset(["vorbis", "dts", "truehd", "mp2", "pcm_s16le", "pcm_s24le", "pcm_f32le"]),
    ),
}
OUTPUT_SUFFIXES = frozenset(_CONTAINERS)

# x264's "superfast" leaves the processor to the network: on brush strokes it takes half the time of "veryfast", for files
# 7 % larger. 20 is where the loss can't be seen in a stylized picture.
_ENCODER = {"preset": "superfast", "crf": "20"}


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
            av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb)),
            format="yuv420p",
            src_color_range=FULL,
            dst_colorspace=SWSCALE_MATRIX[colour.matrix],
            dst_color_range=colour.range,
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


def check_video_output(output) -> Path:
    """The path, proved writable; AllaprimaError when it is not, or when its ending names no container of ours."""
    output = Path(output)
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise AllaprimaError(f"{output} can't be written as a video. Let its name end in .mp4, .mov or .mkv.")
    return check_output(output)
