"""Video files written: H.264 4:2:0, which every browser plays, with the sound and subtitles of a clip beside it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from allaprima.core.checks import check_path
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import MARK, check_output
from allaprima.media.colour import FULL, SWSCALE_MATRIX, Colour
from allaprima.media.tracks import add_tracks, shifted

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
OUTPUT_SUFFIXES = frozenset(CONTAINERS)

# x264's "superfast" leaves the processor to the network: on brush strokes it takes half the time of "veryfast", for files
# 7 % larger. 20 is where the loss can't be seen in a stylized picture.
_ENCODER = {"preset": "superfast", "crf": "20"}


class VideoWriter:
    """H.264 4:2:0 into the container that the path's ending names, with the tracks of a clip beside it.

    width, height: of the frames to come; an odd one gets its last column or row twice, since 4:2:0 wants even sizes.
    time_base: seconds per unit of the times given to `write`.
    """

    def __init__(self, path, width, height, rate, time_base, colour=Colour(), aspect=None):
        name = CONTAINERS[Path(path).suffix.lower()]
        # Faststart puts the index in front, so that a browser plays before it has the whole file.
        options = {} if name == "matroska" else {"movflags": "+faststart"}
        self._container = av.open(f"file:{path}", "w", format=name, container_options=options)
        self._stream = stream = self._container.add_stream("libx264", rate=rate, options=dict(_ENCODER))
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        stream.metadata["handler_name"] = MARK  # the one place near the beginning of an MP4, a MOV and an MKV
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.time_base = time_base
        context.sample_aspect_ratio = aspect or Fraction(1)
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        self._colour, self._time_base = colour, time_base
        self._converter = VideoReformatter()
        self._tracks, self.left_out = {}, []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
                for index in list(self._tracks):
                    self._mux_track(index, lambda track: track.finish())
            self._container.close()
        except FFmpegError:
            if kind is None:  # else the first error is the one to tell
                raise

    @classmethod
    def like(cls, clip, rgb, path):
        """A writer for frames of the shape of `rgb`, with the clip's rate, colour, metadata, chapters and tracks.

        `left_out` says of each track that the file does not get why.
        """
        height, width = rgb.shape[:2]
        writer = cls(path, width, height, clip.rate, clip.video.time_base, clip.colour, clip.aspect)
        about_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        metadata = clip.container.metadata.items()
        writer._container.metadata.update({k: v for k, v in metadata if k.lower() not in about_the_file})
        writer._stream.disposition = clip.video.disposition
        writer._container.set_chapters([shifted(chapter, clip.start) for chapter in clip.container.chapters()])
        writer._tracks, writer.left_out = add_tracks(writer._container, clip.tracks)
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

    def write_packet(self, packet):
        """Write a packet of one of the clip's tracks. A track that can't go on is left out from there."""
        index = packet.stream.index
        if index in self._tracks:
            self._mux_track(index, lambda track: track.take(packet))

    def _mux_track(self, index, work):
        try:
            self._container.mux(work(self._tracks[index]))
        except (FFmpegError, ValueError) as error:
            if isinstance(error, OSError):  # the disk, and not the track
                raise
            self.left_out.append(f"{self._tracks.pop(index).name} in part ({getattr(error, 'strerror', error)})")


def check_video_output(output, inputs=(), **how) -> Path:
    """`files.check_output`, and the ending must be that of a container which can be written."""
    output = check_path("output", output)
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise AllaprimaError(f"{output} can't be written as a video. Let its name end in .mp4, .mov or .mkv.")
    return check_output(output, inputs, **how)
