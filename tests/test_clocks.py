"""Time stamps that can't be trusted: joined clips, jumps, equal and missing times; and sound that is not as it should be."""

import time
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clips
from allaprima.core.events import Warned
from allaprima.infer.video import stylize_video
from allaprima.media.clock import OF_TRANSPORT, Clock
from allaprima.media.sources import Player


def same(rgb, controls=None):
    return rgb


def stylized(source, output) -> str:
    """The warnings."""
    events = []
    stylize_video(source, output, same, listener=events.append)
    return " ".join(event.text for event in events if isinstance(event, Warned))


def evenly(path, count, rate=25):
    _, times = clips.decoded(path)
    assert len(times) == count
    assert np.diff(times) == pytest.approx([1 / rate] * (count - 1), abs=0.002)


def sound_of(path, stream=0):
    """(samples [channels, n], seconds) of a sound track."""
    with av.open(str(path)) as clip:
        frames = [frame.to_ndarray() for frame in clip.decode(audio=stream)]
        rate = clip.streams.audio[stream].rate
    samples = np.concatenate(frames, axis=1)
    return samples, samples.shape[1] / rate


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("ending", [".ts", ".vob"])
@pytest.mark.parametrize("second", [0.0, 3600.0])  # the clock begins again, or jumps by an hour
def test_joined_clips_play_on(tmp_path, ending, second):
    sound = [("mp2", 48000, "stereo")]
    codec = "libx264" if ending == ".ts" else "mpeg2video"
    one, two = (
        clips.write_clip(
            tmp_path / f"{k}{ending}", clips.panned(20, 64, 48, photo=k), sound=sound, first=first, codec=codec
        )
        for k, first in enumerate((0.0, second))
    )
    assert stylized(joined(tmp_path / f"in{ending}", one, two), tmp_path / "out.mp4") == ""
    evenly(tmp_path / "out.mp4", 40)
    assert sound_of(tmp_path / "out.mp4")[1] == pytest.approx(1.6, abs=0.1)


def test_a_slide_that_stands_for_a_minute_in_a_file_with_an_index_does(tmp_path):
    starts = [0, 1, 61, 62]
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(4, 64, 48), rate=1, times=starts)
    stylize_video(source, tmp_path / "out.mp4", same)
    assert clips.decoded(tmp_path / "out.mp4")[1] == starts


@settings(max_examples=200)
@given(
    jumps=st.lists(st.tuples(st.integers(1, 30), st.integers(-100_000, 100_000)), min_size=1, max_size=6),
    first=st.integers(0, 90_000),
)
def test_two_tracks_stay_together_over_any_jumps(jumps, first):
    """Independent: the true time is known; whatever the file's clock does, both tracks must run on with it."""
    clock, offset, now = Clock(Fraction(first), OF_TRANSPORT), Fraction(first), Fraction(0)
    step, placed = Fraction(1, 25), {"picture": [], "sound": []}
    for frames, jump in jumps:
        for _ in range(frames):
            for track in placed:
                placed[track].append(clock.shift(track, now + offset, step) + now + offset)
            now += step
        offset += jump
    for times in placed.values():
        steps = {later - earlier for earlier, later in zip(times, times[1:])}
        # a jump that lands within what may be a pause is a pause
        assert all(step == s or step < s <= step + 10 for s in steps)
    assert placed["picture"] == placed["sound"]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_sound_packets_of_one_time_are_kept(tmp_path, ending):
    source = clips.write_clip(tmp_path / "a.mkv", clips.panned(20, 64, 48), sound=[("aac", 48000, "mono")])
    with av.open(str(source)) as before, av.open(str(tmp_path / "in.mkv"), "w") as after:
        streams = {s.index: after.add_stream_from_template(s) for s in before.streams}
        number = last = 0
        for packet in before.demux():
            if packet.size:
                if packet.stream.type == "audio":
                    number += 1
                    packet.pts = packet.dts = packet.dts if number % 5 else last
                    last = packet.dts
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    assert stylized(tmp_path / "in.mkv", tmp_path / f"out{ending}") == ""
    evenly(tmp_path / f"out{ending}", 20)
    assert clips.sound_packets(tmp_path / f"out{ending}") == clips.sound_packets(tmp_path / "in.mkv")


def test_a_sound_track_without_packets_is_named_and_the_picture_kept(tmp_path):
    source = clips.write_clip(tmp_path / "a.ts", clips.panned(20, 64, 48), sound=[("aac", 48000, "mono")])
    data = source.read_bytes()
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    (tmp_path / "in.ts").write_bytes(b"".join(p for p in packets if (p[1] & 31) << 8 | p[2] != 0x101))  # its PID
    assert "sound track (nothing is in it)" in stylized(tmp_path / "in.ts", tmp_path / "out.mp4")
    evenly(tmp_path / "out.mp4", 20)


@pytest.mark.parametrize("codec", ["mp2", "aac"])  # encoded anew in an MP4, copied into it
def test_stereo_that_becomes_mono(tmp_path, codec):
    parts = [
        clips.write_clip(
            tmp_path / f"{layout}.ts", clips.panned(50, 64, 48), sound=[(codec, 48000, layout)], first=k * 2
        )
        for k, layout in enumerate(("stereo", "mono", "stereo"))
    ]
    stylize_video(joined(tmp_path / "in.ts", *parts), tmp_path / "out.mp4", same)
    evenly(tmp_path / "out.mp4", 150)
    if codec == "mp2":
        samples, seconds = sound_of(tmp_path / "out.mp4")
        assert samples.shape[0] == 2 and seconds == pytest.approx(6, abs=0.2)
        assert min(np.abs(part).max() for part in np.array_split(samples, 12, axis=1)) > 0.1  # and is heard throughout


@pytest.mark.parametrize("rate", [6000, 11025, 96000])
def test_odd_rates_are_heard(tmp_path, rate):
    source = clips.write_clip(tmp_path / "in.mkv", clips.panned(25, 64, 48), sound=[("pcm_s16le", rate, "mono")])
    assert stylized(source, tmp_path / "out.mp4") == ""
    evenly(tmp_path / "out.mp4", 25)
    samples, seconds = sound_of(tmp_path / "out.mp4")
    assert seconds == pytest.approx(1, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples[0]))
    assert spectrum.argmax() / seconds == pytest.approx(220, abs=3)


@settings(max_examples=25)
@given(
    codec=st.sampled_from(["mp2", "aac", "ac3", "libmp3lame", "pcm_s16le", "flac", "libopus"]),
    layout=st.sampled_from(["mono", "stereo", "5.1"]),
    rate=st.sampled_from([8000, 22050, 32000, 44100, 48000]),
    container=st.sampled_from(["mkv", "ts", "mov", "avi"]),
    output=st.sampled_from(["mp4", "mov", "mkv"]),
    frame_rate=st.sampled_from([1, 10, Fraction(30000, 1001), 50]),
    first=st.sampled_from([0.0, 0.5, 7.0]),
)
def test_sound_never_costs_the_picture(tmp_path_factory, codec, layout, rate, container, output, frame_rate, first):
    folder = tmp_path_factory.mktemp("clip")
    try:
        source = clips.write_clip(
            folder / f"in.{container}", clips.panned(6, 64, 48), frame_rate, sound=[(codec, rate, layout)], first=first
        )
    except (ValueError, av.error.FFmpegError):
        return  # not a combination that there are files of
    stylize_video(source, folder / f"out.{output}", same)
    evenly(folder / f"out.{output}", 6, float(frame_rate))
    with av.open(str(source)) as before, av.open(str(folder / f"out.{output}")) as after:
        assert len(after.streams.audio) == len(before.streams.audio)


def test_the_last_frame_stays_as_long_as_the_others(tmp_path):
    clips.write_clip(tmp_path / "slides.mp4", clips.panned(2, 64, 48), rate=1)
    player = Player(tmp_path / "slides.mp4", loop=True)
    seen = [(player.read(), time.perf_counter())[1] for _ in range(4)]
    player.close()
    assert min(np.diff(seen)) > 0.5
