"""Videos: what goes in comes out, but for the pixels."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

import clips
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer
from allaprima.infer.video import background, stylize_video
from allaprima.media.clips import Clip, sample_frames
from allaprima.media.writer import VideoWriter
from memory import PEAK


def same(rgb, controls=None):
    return rgb


def negative(rgb, controls=None):
    return 255 - rgb


def test_a_model_paints_every_frame(tmp_path, tiny_model):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(7, 96, 64))
    stylizer = Stylizer(tiny_model)
    stylize_video(source, tmp_path / "out.mp4", stylizer)
    before, after = clips.decoded(source)[0], clips.decoded(tmp_path / "out.mp4")[0]
    assert len(after) == 7
    for photo, painted in zip(before, after):
        wanted = stylizer(photo).astype(int)
        assert np.abs(painted - wanted).mean() < 12  # what H.264 4:2:0 costs a picture this small
        assert np.abs(painted - wanted).mean() < np.abs(painted.astype(int) - photo).mean()


def test_frame_count_times_and_duration_are_kept(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(30, 128, 96), rate=Fraction(30000, 1001))
    stylize_video(source, tmp_path / "out.mp4", negative)
    (before, times), (after, new_times) = clips.decoded(source), clips.decoded(tmp_path / "out.mp4")
    assert new_times == times
    assert max(np.abs(255 - a.astype(int) - b).mean() for a, b in zip(after, before)) < 6
    with av.open(str(source)) as one, av.open(str(tmp_path / "out.mp4")) as two:
        assert one.duration == two.duration
        assert one.streams.video[0].average_rate == two.streams.video[0].average_rate
        assert two.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_variable_frame_rate_keeps_every_time_stamp(tmp_path, ending):
    starts = [0, 40, 73, 173, 174, 500, 540, 1210, 1250, 3000]
    source = clips.write_clip(tmp_path / "in.mkv", clips.panned(10, 64, 64), times=starts, time_base=Fraction(1, 1000))
    stylize_video(source, tmp_path / f"out{ending}", same)
    assert clips.decoded(tmp_path / f"out{ending}")[1] == [start / 1000 for start in starts]


def test_a_clip_that_starts_late_starts_at_zero_with_its_sound(tmp_path):
    source = clips.write_clip(tmp_path / "in.ts", clips.panned(25, 64, 64), sound=[("aac", 48000, "stereo")], first=9.0)
    stylize_video(source, tmp_path / "out.mp4", same)
    assert clips.decoded(tmp_path / "out.mp4")[1] == pytest.approx([k / 25 for k in range(25)], abs=0.03)

    def lead(path):  # of the sound over the picture, in seconds
        with av.open(str(path)) as clip:
            starts = {s.type: s.start_time * s.time_base for s in clip.streams}
        return float(starts["audio"] - starts["video"])

    assert lead(tmp_path / "out.mp4") == pytest.approx(lead(source), abs=0.03)


@pytest.mark.parametrize(
    "ending, sound",
    [
        (".mp4", [("aac", 48000, "stereo")]),
        (".mp4", [("aac", 44100, "mono"), ("libmp3lame", 48000, "stereo")]),
        (".mov", [("pcm_s16le", 22050, "stereo")]),
        (".mkv", [("libopus", 48000, "stereo"), ("flac", 44100, "mono")]),
    ],
)
def test_sound_is_copied_bit_by_bit(tmp_path, ending, sound):
    origin = ".mkv" if ending == ".mkv" else ".mov" if "pcm" in sound[0][0] else ".mp4"
    source = clips.write_clip(tmp_path / f"in{origin}", clips.panned(50, 64, 48), sound=sound)
    stylize_video(source, tmp_path / f"out{ending}", negative)
    before = clips.sound_packets(source)
    assert len(before) == len(sound) and all(packets for _, packets in before)
    assert clips.sound_packets(tmp_path / f"out{ending}") == before


def test_sound_that_browsers_do_not_play_becomes_aac(tmp_path):
    source = clips.write_clip(
        tmp_path / "in.mkv", clips.panned(50, 64, 48), sound=[("pcm_s16le", 44100, "stereo"), ("aac", 44100, "mono")]
    )
    stylize_video(source, tmp_path / "out.mp4", same)
    (first, packets), second = clips.sound_packets(tmp_path / "out.mp4")
    assert first == "aac" and second == clips.sound_packets(source)[1]
    with av.open(str(tmp_path / "out.mp4")) as clip:
        samples = np.concatenate([frame.to_ndarray() for frame in clip.decode(audio=0)], axis=1)
    assert samples.shape[0] == 2 and samples.shape[1] == pytest.approx(2 * 44100, rel=0.03)
    spectrum = np.abs(np.fft.rfft(samples[0, 4096 : 4096 + 44100]))
    assert abs(int(spectrum.argmax()) - 220) <= 1  # the tone that went in


@pytest.mark.parametrize(
    "matrix, turn",
    [
        (clips.UPRIGHT, lambda x: x),
        (clips.TURNED_RIGHT, lambda x: np.rot90(x, -1)),
        (clips.UPSIDE_DOWN, lambda x: np.rot90(x, 2)),
        (clips.TURNED_LEFT, lambda x: np.rot90(x, 1)),
        (clips.MIRRORED, lambda x: x[:, ::-1]),
    ],
)
def test_the_rotation_note_of_a_phone_is_applied(tmp_path, matrix, turn):
    frames = list(clips.panned(3, 96, 64))
    source = clips.set_display_matrix(clips.write_clip(tmp_path / "in.mp4", frames, crf="1"), matrix)
    stylize_video(source, tmp_path / "out.mp4", same)
    after, _ = clips.decoded(tmp_path / "out.mp4")
    assert after[0].shape == turn(frames[0]).shape
    assert np.abs(after[0].astype(int) - turn(frames[0])).mean() < 8
    with av.open(str(tmp_path / "out.mp4")) as clip:
        assert next(clip.decode(video=0)).side_data.get("DISPLAYMATRIX") is None
    assert next(iter(sample_frames(source, 1))).shape == turn(frames[0]).shape


def test_a_decoded_frame_is_freed_when_it_was_used(tmp_path):
    """Not by the next garbage collection, before which two hundred of them, 12 MB each in 4K, could lie there."""
    source = clips.set_display_matrix(
        clips.write_clip(tmp_path / "in.mp4", clips.panned(20, 96, 64)), clips.TURNED_RIGHT
    )
    gc.collect()
    gc.disable()
    try:
        with Clip(source) as clip:
            for _ in clip.read():
                pass
        kept = [each for each in gc.get_objects() if type(each) is av.VideoFrame]  # isinstance asks the objects
    finally:
        gc.enable()
    assert len(kept) <= 1, len(kept)


BANDS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (200, 120, 40),
    (30, 90, 160),
    (128, 128, 128),
]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [6, 1])
def test_colours_come_back_in_every_range_and_matrix(tmp_path, matrix, full):
    source = clips.flat_clip(tmp_path / "in.mp4", BANDS, matrix, full)
    seen = []
    stylize_video(source, tmp_path / "out.mp4", lambda rgb, controls: seen.append(rgb) or rgb)
    with av.open(str(tmp_path / "out.mp4")) as clip:
        frame = next(clip.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1)
    with Clip(tmp_path / "out.mp4") as clip:
        again = next(clip.read()).rgb
    for rgb, tolerance in ((seen[0], 4), (again, 8)):  # rounding; rounding and H.264. A wrong matrix is 20 off and more
        assert np.abs(rgb[24, 4::8].astype(int) - BANDS).max() <= tolerance


def test_an_untagged_clip_is_read_as_players_read_it_and_tagged(tmp_path):
    for size, matrix in (((64, 48), 6), ((1280, 720), 1)):
        source = clips.flat_clip(tmp_path / "in.mp4", BANDS, matrix, False, tagged=False, size=size)
        seen = []
        stylize_video(source, tmp_path / "out.mp4", lambda rgb, controls, seen=seen: seen.append(rgb) or rgb)
        band = size[0] // 8
        assert np.abs(seen[0][24, band // 2 :: band].astype(int) - BANDS).max() <= 5
        with av.open(str(tmp_path / "out.mp4")) as clip:
            assert next(clip.decode(video=0)).colorspace == matrix


def test_an_odd_size_keeps_every_pixel(tmp_path):
    frames = list(clips.panned(3, 65, 47))
    source = clips.write_clip(tmp_path / "in.mp4", frames, crf="1")
    stylize_video(source, tmp_path / "out.mp4", same)
    after, _ = clips.decoded(tmp_path / "out.mp4")
    assert after[0].shape == (48, 66, 3)
    assert np.abs(after[0][:47, :65].astype(int) - frames[0]).mean() < 8
    assert np.abs(after[0][47, :65].astype(int) - frames[0][46]).mean() < 16


def test_pixels_that_are_not_square_stay_so(tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for rgb in clips.panned(3, 96, 64):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb))))
        out.mux(video.encode())
    stylize_video(source, tmp_path / "out.mp4", same)
    with av.open(str(tmp_path / "out.mp4")) as clip:
        assert clip.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_the_index_lies_in_front_so_that_browsers_start_at_once(tmp_path):
    stylize_video(clips.write_clip(tmp_path / "in.mkv", clips.panned(3, 64, 48)), tmp_path / "out.mp4", same)
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_change_of_size_is_scaled_to_the_first(tmp_path):
    one = clips.write_clip(tmp_path / "one.ts", clips.panned(10, 96, 64))
    two = clips.write_clip(tmp_path / "two.ts", clips.panned(10, 64, 96, photo=3), first=0.4)
    source = tmp_path / "in.ts"
    source.write_bytes(one.read_bytes() + two.read_bytes())
    stylize_video(source, tmp_path / "out.mp4", same)
    after, times = clips.decoded(tmp_path / "out.mp4")
    assert len(after) == 20 and {rgb.shape for rgb in after} == {(64, 96, 3)}
    assert times == sorted(set(times))


def test_sample_frames_are_evenly_spread(tmp_path):
    # a clip whose brightness tells the time
    source = clips.write_clip(tmp_path / "in.mp4", (np.full((48, 64, 3), k * 2, np.uint8) for k in range(100)), crf="1")
    levels = [rgb.mean() / 2 for rgb in sample_frames(source, 5)]
    assert levels == pytest.approx([10, 30, 50, 70, 90], abs=2.5)
    assert len(list(sample_frames(source, 100))) == len(list(sample_frames(source, 1000))) == 100


def test_an_error_in_the_stylizer_stops_everything_and_comes_out(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(60, 64, 48))
    calls = []

    def breaks(rgb, controls):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("no more paint")
        return rgb

    with pytest.raises(RuntimeError, match="no more paint"):
        stylize_video(source, tmp_path / "out.mp4", breaks)
    assert len(calls) == 5 and sorted(tmp_path.iterdir()) == [source]


def test_background_is_bounded_and_ends_with_its_reader():
    made = []
    closed = []

    def numbers():
        try:
            for k in range(1000):
                made.append(k)
                yield k
        finally:
            closed.append(True)

    reader = background(numbers(), ahead=3)
    assert [next(reader) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.3)
    assert len(made) <= 5 + 3 + 1
    reader.close()
    assert closed == [True] and len(made) <= 10
    assert list(background(iter_of(range(50)))) == list(range(50))


def iter_of(items):
    yield from items


RUN = (
    PEAK
    + """
import sys, time
from allaprima.infer.video import stylize_video
def slow(rgb, controls):
    time.sleep(float(sys.argv[3]))
    return rgb
stylize_video(sys.argv[1], sys.argv[2], slow)
print(round(peak_megabytes()))
"""
)


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak(count):  # MB
        source = clips.write_clip(tmp_path / f"{count}.mp4", clips.panned(count, 640, 360), preset="ultrafast")
        command = [sys.executable, "-c", RUN, source, tmp_path / "out.mp4", "0.004"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # 400 frames more are 276 MB of RGB
    assert peak(500) - peak(100) < 80


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_leaves_nothing(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(200, 64, 48), sound=[("aac", 44100, "mono")])
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, source, tmp_path / "out.mp4", "0.05"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while not any(p.stat().st_size for p in tmp_path.glob(".out.*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.glob(".out.*")), "it never began to write"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("stage", ["stylizer", "writer"])
def test_an_error_ends_all_threads_before_the_clip_is_closed(tmp_path, monkeypatch, stage):
    """While the exception, and with it every frame of its traceback, is still held: reading a closed clip crashes."""
    clips.write_clip(tmp_path / "clip.mp4", clips.panned(60, 160, 120))

    def fail(*arguments, **options):
        raise AllaprimaError("stop here")

    if stage == "writer":
        monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(AllaprimaError, match="stop here") as held:
        stylize_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", fail if stage == "stylizer" else same)
    # by name: the progress bar's own thread ends in its own time
    assert not [t for t in threading.enumerate() if t.name == "allaprima video"], held
    assert not (tmp_path / "out.mp4").exists()
