"""Videos in parts: what is read, painted and joined part by part is what the whole gives, frame for frame."""

from fractions import Fraction
from itertools import accumulate, cycle, islice

import av
import numpy as np
import pytest

import clips
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import is_ours
from allaprima.infer.stylizer import Stylizer
from allaprima.infer.video import paint_part, stylize_video
from allaprima.media import writer
from allaprima.media.clips import Clip
from allaprima.media.parts import find_spans, join_parts, read_span

OPEN_GOPS = {"x264-params": "open-gop=1:bframes=3:keyint=20:min-keyint=20:scenecut=0"}
UNEVEN = list(accumulate(islice(cycle([1500, 3000, 3003, 9000, 45000]), 129), initial=0))
KINDS = {
    "h264": ("clip.mp4", {}),
    "open groups of pictures": ("clip.mp4", OPEN_GOPS),
    "variable frame rate": ("clip.mp4", {"times": UNEVEN, "time_base": Fraction(1, 90000)}),
    "matroska": ("clip.mkv", {"codec": "mpeg4"}),
    "begins late": ("clip.mov", {"first": 1.5}),
    "interlaced": ("clip.mp4", {"x264-params": "tff=1:keyint=20"}),
    "vp9": ("clip.webm", {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}),
}

ANEW = Controls(steady=False)  # each frame: then a video can be cut into parts


def clip_of(kind, folder, frames=130):
    name, how = KINDS[kind]
    sound = () if name.endswith("webm") else [("aac", 48000, "stereo")]
    return clips.write_clip(folder / name, clips.panned(frames, 64, 48), sound=sound, **how)


def frames_of(clip, items):
    return [(frame.start, frame.duration, frame.rgb) for frame in items]


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_clip_are_its_frames(tmp_path, kind):
    source = clip_of(kind, tmp_path)
    spans, parts = find_spans(source, 1), []
    assert len(spans) > 2 and spans[0].begin is None and spans[-1].end is None
    for span in spans:
        with Clip(source) as clip:
            parts.append(frames_of(clip, read_span(clip, span)))
        assert len(parts[-1]) == span.frames
    with Clip(source) as clip:
        whole = frames_of(clip, clip.read())
    joined = sum(parts, [])
    assert [frame[:2] for frame in joined] == [frame[:2] for frame in whole]
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(joined, whole))


def painted_in_parts(source, output, stylizer, seconds=1):
    files = []
    for number, span in enumerate(find_spans(source, seconds)):
        files.append(output.with_name(f"part-{number}.mp4"))
        assert paint_part(source, files[-1], stylizer, ANEW, span) == span.frames
    return join_parts(source, files, output)


def about(path):
    """All that a player and `allaprima` know of a video, but its pictures and packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        names = ("average_rate", "base_rate", "time_base", "start_time", "duration", "frames", "disposition")
        of_context = ("colorspace", "color_range", "color_primaries", "color_trc", "sample_aspect_ratio", "pix_fmt")
        tracks = [(s.type, s.codec_context.name, s.language, s.disposition) for s in container.streams]
        told = [container.duration, container.metadata, container.chapters(), stream.metadata, tracks]
        return told + [getattr(stream, name) for name in names] + [getattr(context, name) for name in of_context]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("kind", ["open groups of pictures", "variable frame rate", "begins late"])
def test_a_joined_video_is_the_one_that_is_painted_at_once(tmp_path, tiny_model, monkeypatch, kind, ending):
    """Without a loss in the encoder, what is decoded is what was painted: equal in every pixel."""
    monkeypatch.setitem(writer._ENCODER, "crf", "0")
    source, stylizer = clip_of(kind, tmp_path), Stylizer(tiny_model, threads=1)
    whole, joined = tmp_path / f"whole.{ending}", tmp_path / f"joined.{ending}"
    stylize_video(source, whole, stylizer, ANEW)
    assert painted_in_parts(source, joined, stylizer) == (130, [])
    (expected, times), (found, found_times) = clips.decoded(whole), clips.decoded(joined)
    assert found_times == times and len(found) == len(expected) == 130
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    assert clips.sound_packets(joined) == clips.sound_packets(whole)
    assert about(joined) == about(whole) and is_ours(joined)


def test_colour_tags_and_sound_that_is_encoded_anew_go_along(tmp_path, tiny_model):
    bands = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (240, 240, 240)]
    source = clips.flat_clip(tmp_path / "flat.mp4", bands, 1, full=True, frames=600)
    stylizer = Stylizer(tiny_model, threads=1)
    stylize_video(source, tmp_path / "whole.mp4", stylizer)
    painted_in_parts(source, tmp_path / "joined.mp4", stylizer, seconds=8)
    assert about(tmp_path / "joined.mp4") == about(tmp_path / "whole.mp4")
    assert about(tmp_path / "joined.mp4")[-6:-4] == [1, 2]  # BT.709, 0..255


def test_what_can_not_be_cut_is_not(tmp_path):
    """A short clip, formats without an exact index, clocks that jump, a damaged file."""
    frames = list(clips.panned(130, 64, 48))
    assert find_spans(clips.write_clip(tmp_path / "a.mp4", frames[:40]), 1) == []
    for name in ("a.ts", "a.avi"):
        assert find_spans(clips.write_clip(tmp_path / name, frames), 1) == []
    one = clips.write_clip(tmp_path / "one.mp4", frames, g="200")
    assert find_spans(one, 1) == []  # one keyframe
    whole = clips.write_clip(tmp_path / "whole.mp4", frames, index_in_front=True)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
    assert len(find_spans(whole, 1)) > 2 and find_spans(cut, 1) == []


def test_parts_of_other_encoders_are_not_joined(tmp_path, tiny_model, monkeypatch):
    source, stylizer = clip_of("h264", tmp_path), Stylizer(tiny_model, threads=1)
    spans, files = find_spans(source, 2), []
    for number, span in enumerate(spans):
        monkeypatch.setitem(writer._ENCODER, "preset", ["superfast", "ultrafast"][number % 2])
        files.append(tmp_path / f"part-{number}.mp4")
        paint_part(source, files[-1], stylizer, ANEW, span)
    with pytest.raises(AllaprimaError, match="encoders that differ"):
        join_parts(source, files, tmp_path / "out.mp4")
