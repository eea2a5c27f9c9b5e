"""Bad videos and bad places for them: one sentence each, and nothing half-written."""

import os
import subprocess
import sys

import av
import pytest

import clips
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Started, Warned, Wrote
from allaprima.infer.video import stylize_video
from allaprima.media.clips import sample_frames


def same(rgb, controls=None):
    return rgb


def one_sentence(error):
    text = str(error)
    assert "\n" not in text and text.endswith(".") and len(text) < 300, text
    return text


def refused(source, output, stylizer=same):
    """The sentence; the output's folder is as it was."""
    before = sorted(output.parent.iterdir()) if output.parent.is_dir() else None
    with pytest.raises(AllaprimaError) as caught:
        stylize_video(source, output, stylizer)
    assert (sorted(output.parent.iterdir()) if output.parent.is_dir() else None) == before
    return one_sentence(caught.value)


def warnings_of(source, output) -> str:
    events = []
    stylize_video(source, output, same, listener=events.append)
    return " ".join(one_sentence(event.text) for event in events if isinstance(event, Warned))


@pytest.fixture
def clip(tmp_path):
    return clips.write_clip(tmp_path / "in.mp4", clips.panned(50, 96, 64), sound=[("aac", 44100, "mono")])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("This is no video. " * 100)


def headless(path):
    """An MP4 whose index, at its end, is cut off: what a crashed recorder leaves."""
    clips.write_clip(path, clips.panned(20, 64, 48))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def song(path):
    clips.write_song(path)


def sound_only(path):
    clips.write_song(path, cover=False)


def no_frames(path):
    """A picture track without a single picture."""
    with av.open(str(path), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()


def noise_frames(path):
    """A good container round pictures that are noise."""
    clips.write_clip(path.with_suffix(".mkv"), clips.panned(10, 64, 48))
    data = bytearray(path.with_suffix(".mkv").read_bytes())
    with av.open(str(path.with_suffix(".mkv"))) as clip:
        packets = [bytes(packet) for packet in clip.demux(video=0) if packet.size]
    for packet in packets:
        place = data.index(packet)
        data[place : place + len(packet)] = b"\x5a" * len(packet)
    path.write_bytes(data)
    path.with_suffix(".mkv").unlink()


@pytest.mark.parametrize(
    "make, words",
    [
        (empty, "not a video"),
        (text, "not a video"),
        (headless, "cut off"),
        (song, "no video stream"),
        (sound_only, "no video stream"),
        (no_frames, "no frame|no video stream|not a video"),
        (noise_frames, "no frame"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, make, words):
    source = tmp_path / "source.mp4"
    make(source)
    sentence = refused(source, tmp_path / "out.mp4")
    assert any(word in sentence for word in words.split("|")), sentence
    with pytest.raises(AllaprimaError) as caught:
        list(sample_frames(source, 3))
    assert one_sentence(caught.value) == sentence


def test_missing_folder_and_unreachable_sources(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.mp4", tmp_path / "out.mp4")
    assert "folder" in refused(tmp_path, tmp_path / "out.mp4")
    assert "can't be opened" in refused("http://127.0.0.1:9/clip.mp4", tmp_path / "out.mp4")
    assert "can't be opened" in refused("gopherish://somewhere/clip.mp4", tmp_path / "out.mp4")


def test_outputs_that_can_not_be(tmp_path, clip):
    assert ".mp4" in refused(clip, tmp_path / "out.txt")
    assert ".mp4" in refused(clip, tmp_path / "out")
    assert "is an input" in refused(clip, clip)
    (tmp_path / "folder.mp4").mkdir()
    assert "folder" in refused(clip, tmp_path / "folder.mp4")
    one_sentence(refused(clip, clip / "out.mp4"))  # a file where a folder should be


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path, clip):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "permission" in refused(clip, closed / "out.mp4")


FULL = """
import resource, signal, sys
from allaprima.core.errors import AllaprimaError
from allaprima.infer.video import stylize_video
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    stylize_video(sys.argv[1], sys.argv[2], lambda rgb, controls: rgb)
except AllaprimaError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files as POSIX does")
@pytest.mark.parametrize("room", [20_000, 100])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, room):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(50, 320, 240))
    assert source.stat().st_size > 40_000
    command = [sys.executable, "-c", FULL, source, tmp_path / "out.mp4", str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "out.mp4" in one_sentence(done.stdout.strip()), done.stderr
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("ending", [".mkv", ".ts", ".mp4", ".avi"])
def test_a_broken_tail_is_left_out_with_a_warning(tmp_path, ending):
    source = clips.write_clip(
        tmp_path / f"in{ending}",
        clips.panned(100, 160, 120),
        sound=[("libmp3lame", 44100, "mono")],
        index_in_front=True,
        threads="2",  # of the encoder: the same file on every machine
    )
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    warned = warnings_of(source, tmp_path / "out.mp4")
    frames, times = clips.decoded(tmp_path / "out.mp4")
    assert 40 <= len(frames) <= 75 and times == pytest.approx([k / 25 for k in range(len(frames))], abs=0.03)
    if ending != ".ts":  # a transport stream has no header that would tell how long it was
        assert "damaged" in warned and f"{len(frames)} frames" in warned
    if ending in (".mkv", ".mp4"):
        assert "of 4.0 seconds" in warned


def test_an_avi_that_ends_between_two_frames_is_told_by_its_header(tmp_path):
    """FFmpeg finds nothing wrong with it, and takes it for a shorter one."""
    source = clips.write_clip(tmp_path / "in.avi", clips.panned(100, 160, 120), threads="1")
    with av.open(str(source)) as whole:
        ends = [packet.pos + packet.size + packet.size % 2 for packet in whole.demux(video=0) if packet.size]
    source.write_bytes(source.read_bytes()[: ends[59]])
    assert "stops at 2.4 of 4.0 seconds; 60 frames" in warnings_of(source, tmp_path / "out.mp4")


def test_a_hole_in_the_middle_costs_only_what_lay_there(tmp_path):
    source = clips.write_clip(tmp_path / "in.ts", clips.panned(100, 160, 120))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 20] = bytes(188 * 20)
    source.write_bytes(data)
    warned = warnings_of(source, tmp_path / "out.mp4")
    frames, times = clips.decoded(tmp_path / "out.mp4")
    assert 60 <= len(frames) <= 100 and times[-1] > 3.8 and times == sorted(set(times))
    assert "damaged" in warned


def test_a_whole_clip_goes_without_a_warning(tmp_path, clip):
    assert warnings_of(clip, tmp_path / "out.mp4") == ""


def test_the_library_prints_nothing_and_tells_a_listener(tmp_path, clip, capfd):
    events = []
    stylize_video(clip, tmp_path / "out.mp4", same, listener=events.append)
    assert capfd.readouterr() == ("", "")
    assert isinstance(events[0], Started) and events[0].total == 50 and "96x64" in events[0].about
    assert [event.done for event in events[1:-2]] == list(range(1, 51))
    assert events[-1] == Wrote(tmp_path / "out.mp4")
