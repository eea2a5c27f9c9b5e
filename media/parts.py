"""A long video in parts: cut at keyframes, read one by one, and joined again once each is painted.

The parts of a clip, one after another, are the frames that the whole of it gives: the same pixels, the same times.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av

from allaprima.core.errors import AllaprimaError
from allaprima.media.clips import Clip, Frame
from allaprima.media.writer import PART, VideoJoiner

_INDEXED = ("mov,mp4", "matroska")  # FFmpeg's names of the formats in which it finds a keyframe by its time
_REORDERED = 64  # pictures: more than any codec stores out of their order


@dataclass(frozen=True)
class Span:
    """The frames of a clip that start from `begin` on and before `end`, in units of its stream's time base.

    None: from the first, to the last. key: a keyframe before `begin`, at which decoding begins: what is shown before a
    keyframe and stored behind it needs the pictures of before (an "open GOP"). frames: so many are in the file.
    """

    begin: int | None = None
    end: int | None = None
    key: int | None = None
    frames: int = 0


def find_spans(source, seconds) -> list[Span]:
    """Cut a clip into spans of `seconds`, and what is missing to the next keyframe; no span where it can't be cut.

    It can't where it is shorter than two, and where frames might not be the same: in formats without an exact index,
    where times are missing or double, where the clock jumps, and in a damaged file.
    """
    with Clip(source, tracks=True) as clip:
        if not clip.container.format.name.startswith(_INDEXED) or (clip.duration or 0) < 2 * seconds:
            return []
        length = seconds / clip.video.time_base
        cuts, counts, key, recent = [], [0], None, deque(maxlen=_REORDERED)
        for packet in clip.placed_packets():
            if packet.stream.index != clip.video.index or packet.is_discard:
                continue
            time = packet.pts
            if time is None or time in recent:
                return []
            recent.append(time)
            if packet.is_keyframe:
                if key is not None and time - (cuts[-1][0] if cuts else 0) >= length:
                    cuts.append((time, key))
                    counts.append(0)
                key = time
            counts[-2 if cuts and time < cuts[-1][0] else -1] += 1
        if clip.jumps or clip.damaged or not cuts:
            return []
    begins, ends = [(None, None), *cuts], [*(time for time, _ in cuts), None]
    return [Span(begin, end, key, count) for (begin, key), end, count in zip(begins, ends, counts)]


def read_span(clip, span) -> Iterator[Frame]:
    """Yield the Frames of a clip, opened without its tracks, that are in the span."""
    if span.begin is not None:
        clip.seek(span.key)
    for frame in clip.read():
        if span.end is not None and frame.start >= span.end:
            return
        if span.begin is None or frame.start >= span.begin:
            yield frame


def join_parts(source, parts: Iterable[Path], output) -> tuple[int, list[str]]:
    """Write the pictures of `parts` one after another, as they are encoded, with all else of `source` beside them.

    parts: files that `VideoWriter.of_part` wrote; each is opened when its turn comes. Returns how many pictures there are,
    and what was left out and why. Raises AllaprimaError where the parts are of encoders that differ.
    """
    pictures, count = _pictures(parts), 0
    first = next(pictures)
    with Clip(source, tracks=True) as clip, VideoJoiner(clip, first.stream, output) as joiner:
        tracks = (packet for packet in clip.placed_packets() if packet.stream.type in ("audio", "subtitle"))
        for packet in heapq.merge(chain([first], pictures), tracks, key=_time):
            if packet.stream.type == "video":
                joiner.write_picture(packet)
                count += 1
            else:
                joiner.write_packet(packet)
    return count, joiner.left_out


def _time(packet):
    return (packet.dts or 0) * packet.time_base


def _pictures(parts):
    """The packets of the parts' pictures, with times of the clip."""
    last = header = None
    for path in parts:
        with av.open(f"file:{path}") as part:
            stream = part.streams.video[0]
            begin = round(Fraction(part.metadata[PART]) / (stream.time_base or 1))
            header = header or stream.codec_context.extradata
            if header != stream.codec_context.extradata:
                raise AllaprimaError(
                    "The parts of a video come from encoders that differ: install one version everywhere."
                )
            for packet in part.demux(stream):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + begin, packet.dts + begin
                    if last is not None:  # a decoding time lies before the time of showing, and so before the part
                        packet.dts = max(packet.dts, last + 1)
                    last = packet.dts
                    yield packet
