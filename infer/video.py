"""Videos stylized: decoded, painted and encoded in three threads, with everything but the pixels kept.

    stylize_video("holiday.mp4", "painted.mp4", Stylizer("starry.onnx"))

Kept: every frame's time stamp (a variable frame rate too), the sound, subtitles and chapters, the colour range and matrix,
the shape of the pixels, the metadata. HDR becomes BT.709, interlaced frames become whole ones.
"""

import os
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from av.error import FFmpegError

from allaprima.core.checks import check_switch
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore, passing
from allaprima.core.files import atomic
from allaprima.infer.canvas import Camera
from allaprima.infer.steady import Steady
from allaprima.infer.stylizer import Stylizer
from allaprima.media.clips import Clip, Frame, first_frame
from allaprima.media.parts import read_span
from allaprima.media.writer import VideoWriter, check_video_output

_AHEAD = 4  # frames that a stage may be ahead of the next one: enough to smooth, few enough for 4K in memory


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


def stylize_video(
    source, output, stylizer, controls=Controls(), *, deinterlace=True, overwrite=False, listener: Listener = ignore
) -> Path:
    """Write `source` as `stylizer` paints it to `output`, which appears whole or not at all.

    source: a path or URL of anything that FFmpeg reads. output: a path ending in .mp4, .m4v, .mov or .mkv.
    stylizer: a Stylizer, or anything called as stylizer(rgb uint8 [H, W, 3], controls) that returns the same
    shape. deinterlace: make whole frames of interlaced ones.
    overwrite: replace a file that allaprima did not make.
    Memory stays the same however long the clip is. What is damaged in the source is left out, with a warning.
    Raises AllaprimaError when the source can't be read or has no pictures, and when the output can't be written.
    """
    check_switch(overwrite=overwrite, deinterlace=deinterlace)
    output = check_video_output(output, [source], overwrite=overwrite, listener=listener)
    with passing(listener) as told:
        return paint_video(source, output, stylizer, controls, deinterlace=deinterlace, listener=told)


def paint_video(source, output, stylizer, controls, *, deinterlace=True, listener: Listener = ignore) -> Path:
    """`stylize_video` to an output that is checked already."""
    with Clip(source, tracks=True, deinterlace=deinterlace) as clip, atomic(output) as part:
        frames = _convert(clip, part, output, stylizer, controls, listener)
    _warn_of_damage(clip, frames, listener)
    listener(Wrote(output))
    return output


def paint_part(source, output, stylizer, controls, span, *, deinterlace=True) -> int:
    """Write the pictures of a part of a video, painted, to `output`, an .mp4 for `parts.join_parts`; how many they are.

    span: of `parts.find_spans`. The painted frames are those of `stylize_video`; the encoder has as many threads as
    `stylizer`, so that the file is the same on every machine.
    """
    with Clip(source, deinterlace=deinterlace) as clip, _explained(source, output):
        first, items = first_frame(clip, read_span(clip, span))
        with VideoWriter.of_part(clip, first, output, stylizer.threads) as writer:
            return sum(1 for _ in _painted(writer, items, stylizer, controls))


def _convert(clip, part, output, stylizer, controls, listener):
    """Write the clip, painted, to `part`; the number of frames."""
    frames, task = 0, f"Stylizing {Path(clip.source).name}"
    with _explained(clip.source, output):
        first, items = first_frame(clip)
        listener(Started(task, clip.frame_count, "frames", _about(clip, first.rgb, output)))
        with VideoWriter.like(clip, first.rgb, part) as writer:
            for _ in _painted(writer, items, stylizer, controls):
                frames += 1
                listener(Advanced(task, frames))
    listener(Advanced(task, frames, frames))  # the file's own count was a guess, or it was cut off
    if clip.transparent:
        listener(Warned(f"{output} is not transparent, as {clip.source} is: videos are painted without it."))
    if writer.left_out:
        listener(Warned(f"Left out of {output}: {'; '.join(writer.left_out)}."))
    return frames


def _painted(writer, items, stylizer, controls):
    """Write the items, their pictures painted; yields after each picture."""
    with closing(background(_stylized(background(items), stylizer, controls))) as painted:
        for item in painted:
            if isinstance(item, Frame):
                writer.write(item.rgb, item.start, item.duration)
                yield
            else:
                writer.write_packet(item)


@contextmanager
def _explained(source, output):
    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):  # the disk: a sentence of its own
            raise
        raise AllaprimaError(
            f"FFmpeg can't make {output} of {source}: {error.strerror}. Check that it plays in a video player."
        ) from error


def _stylized(items, stylizer, controls):
    """The items with their pictures stylized, in order.

    On a CPU, several frames at a time by one thread each: more frames a second than one at a time by all threads, which
    wait for each other in every layer. What needs the frame before comes after them, one frame at a time.
    """
    ours = isinstance(stylizer, Stylizer)
    steady, camera = (Steady(), Camera() if ours else None) if controls.steady else (None, None)
    workers, ahead = 1, 0
    if ours and stylizer.provider == "cpu":
        workers = ahead = stylizer.threads or os.cpu_count() or 1
        stylizer = stylizer.for_video()

    def paint(picture, step=(0, 0), **place):
        return picture, step, stylizer(picture.rgb, controls, **place)

    def begin(picture):
        where = {"place": camera(picture.rgb), "step": camera.step} if camera else {}
        return pool.submit(paint, picture, **where)

    def finished(entry):
        if not isinstance(entry, Future):
            return entry
        picture, step, painted = entry.result()
        return replace(picture, rgb=steady(picture.rgb, painted, step) if steady else painted)

    with closing(items), ThreadPoolExecutor(workers, "allaprima video") as pool:
        waiting, at_work = deque(), 0  # pictures in the making, and the packets that come between them
        for item in items:
            picture = isinstance(item, Frame)
            waiting.append(begin(item) if picture else item)
            at_work += picture
            while waiting and (at_work > ahead or not isinstance(waiting[0], Future)):
                first = waiting.popleft()
                at_work -= isinstance(first, Future)
                yield finished(first)
        for last in waiting:
            yield finished(last)


def _about(clip, rgb, output) -> str:
    """What will be written, to be said before the work starts."""
    height, width = rgb.shape[:2]
    length = f", {clip.duration:.1f} s" if clip.duration else ""
    tracks = len(clip.sound)
    sound = f", {tracks} sound track{'s'[: tracks > 1]}" if tracks else ", no sound"
    about = f"{clip.source}: {width}x{height}, {float(clip.rate):.4g} frames/s{length}{sound} -> {output}"
    if width % 2 or height % 2:
        about += f" (H.264 4:2:0 needs an even size: {width + width % 2}x{height + height % 2}, the edge repeated)"
    return about


def _warn_of_damage(clip, frames, listener):
    """Say what was lost, when packets were bad or the clip ends before the time that its index tells."""
    missing = (clip.duration or 0) - clip.reached if clip.indexed else 0
    if not clip.damaged and missing < 0.5:
        return
    stops = f"it stops at {clip.reached:.1f} of {clip.duration or 0:.1f} seconds"
    where = stops if missing >= 0.5 else "some of it is lost"
    listener(Warned(f"{clip.source} is damaged: {where}; {frames} frames were kept."))
