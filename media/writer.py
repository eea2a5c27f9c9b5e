"""Video files written: H.264 4:2:0, which every browser plays, with the sound and subtitles of a clip beside it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from allaprima.core.checks import check_file
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import MARK, check_output
from allaprima.media.colour import FULL, SWSCALE_MATRIX, Colour
from allaprima.media.tracks import add_tracks, shifted

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
OUTPUT_SUFFIXES = frozenset(CONTAINERS)
PART = "comment"  # the metadata of a part of a video that say where it begins, in seconds

# x264's "superfast" leaves the processor to the network: on brush strokes it takes half the time of "veryfast", for files
# 7 % larger. 20 is where the loss can't be seen in a stylized picture.
_ENCODER = {"preset": "superfast", "crf": "20"}


class _Output:
    """A container of the kind that the path's ending names, with the tracks of a clip beside the pictures.

    `left_out` says of each track that the file does not get why.
    """

    def __init__(self, path):
        name = CONTAINERS[Path(path).suffix.lower()]
        # Faststart puts the index in front, so that a browser plays before it has the whole file.
        options = {} if name == "matroska" else {"movflags": "+faststart"}
        self._container = av.open(f"file:{path}", "w", format=name, container_options=options)
        self._tracks, self.left_out = {}, []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._container.mux(self._last_pictures())
                for index in list(self._tracks):
                    self._mux_track(index, lambda track: track.finish())
            self._container.close()
        except FFmpegError:
            if kind is None:  # else the first error is the one to tell
                raise

    def _last_pictures(self) -> list:
        return []

    def _accompany(self, clip, stream):
        """Take over the clip's metadata, chapters and tracks. stream: that of the pictures."""
        stream.metadata["handler_name"] = MARK  # the one place near the beginning of an MP4, a MOV and an MKV
        if clip is None:
            return
        about_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        metadata = clip.container.metadata.items()
        self._container.metadata.update({k: v for k, v in metadata if k.lower() not in about_the_file})
        stream.disposition = clip.video.disposition
        self._container.set_chapters([shifted(chapter, clip.start) for chapter in clip.container.chapters()])
        self._tracks, self.left_out = add_tracks(self._container, clip.tracks)

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


class VideoWriter(_Output):
    """H.264 4:2:0 into the container that the path's ending names.

    width, height: of the frames to come; an odd one gets its last column or row twice, since 4:2:0 wants even sizes.
    time_base: seconds per unit of the times given to `write`. threads: of the encoder; as it likes when None.
    """

    def __init__(self, path, width, height, rate, time_base, colour=Colour(), aspect=None, clip=None, threads=None):
        super().__init__(path)
        options = _ENCODER | ({"threads": str(threads)} if threads else {})
        self._stream = stream = self._container.add_stream("libx264", rate=rate, options=options)
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.time_base = time_base
        context.sample_aspect_ratio = aspect or Fraction(1)
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        self._colour, self._time_base, self._begin = colour, time_base, 0
        self._converter = VideoReformatter()
        self._accompany(clip, stream)

    @classmethod
    def like(cls, clip, rgb, path):
        """A writer for frames of the shape of `rgb`, with the clip's rate, colour, metadata, chapters and tracks."""
        height, width = rgb.shape[:2]
        return cls(path, width, height, clip.rate, clip.video.time_base, clip.colour, clip.aspect, clip)

    @classmethod
    def of_part(cls, clip, first, path, threads):
        """A writer for the pictures of a clip from the Frame `first` on: `parts.join_parts` puts them in their place."""
        height, width = first.rgb.shape[:2]
        base = clip.video.time_base
        writer = cls(path, width, height, clip.rate, base, clip.colour, clip.aspect, threads=threads)
        writer._begin, writer._container.metadata[PART] = first.start, str(first.start * base)
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
        frame.pts, frame.time_base, frame.duration = start - self._begin, self._time_base, duration
        self._container.mux(self._stream.encode(frame))

    def _last_pictures(self):
        return self._stream.encode()


class VideoJoiner(_Output):
    """Pictures that are encoded already, copied as they are, with the metadata, chapters and tracks of a clip.

    pictures: the stream that the first of them is from.
    """

    def __init__(self, clip, pictures, path):
        super().__init__(path)
        self._stream = self._container.add_stream_from_template(pictures)
        self._stream.codec_context.framerate = clip.rate
        self._accompany(clip, self._stream)

    def write_picture(self, packet):
        """Write a packet of the pictures, with times of the clip."""
        packet.stream = self._stream
        self._container.mux(packet)


def check_video_output(output, inputs=(), **how) -> Path:
    """`files.check_output`, and the ending must be that of a container which can be written."""
    output = check_file("output", output)
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise AllaprimaError(f"{output} can't be written as a video. Let its name end in .mp4, .mov or .mkv.")
    return check_output(output, inputs, **how)
