"""What a video may be besides plain: HDR, interlaced, with subtitles, chapters and flags, with a thumbnail, of any name."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

import clips
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Warned
from allaprima.infer.video import stylize_video
from allaprima.media.clips import Clip, is_video, sample_frames
from conftest import PHOTOS

PQ, HLG = 16, 18


def same(rgb, controls=None):
    return rgb


def stylized(source, output, **options) -> str:
    """The warnings."""
    events = []
    stylize_video(source, output, same, listener=events.append, **options)
    return " ".join(event.text for event in events if isinstance(event, Warned))


def hdr_clip(path, grey, transfer):
    """Three flat frames of a signal 0..1, 10-bit BT.2020, as phones write them."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        for _ in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p10le")
            for plane, level in zip(frame.planes, (64 + 876 * grey, 512, 512)):
                plane.update(np.full(plane.buffer_size // 2, round(level), np.uint16).tobytes())
            frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, transfer, 1
            out.mux(video.encode(frame))
        out.mux(video.encode())
    return path


# Signals from the tables of ITU-R BT.2100 and BT.2408, with their cd/m^2; shown, light/203 through the curve of sRGB by hand.
@pytest.mark.parametrize(
    "transfer, signal, shown",
    [
        (PQ, 0.0, 0),
        (PQ, 0.4403, 136),  # 50 cd/m^2
        (HLG, 0.5, 137),  # a twelfth of the scene's light, 1000 (1/12)^1.2 = 50.7 cd/m^2
        (PQ, 0.7518, 255),  # 1000 cd/m^2, the brightest
        (HLG, 1.0, 255),
    ],
)
def test_hdr_looks_as_bright_as_it_was(tmp_path, transfer, signal, shown):
    source = hdr_clip(tmp_path / "in.mp4", signal, transfer)
    assert stylized(source, tmp_path / "out.mp4") == ""
    with av.open(str(tmp_path / "out.mp4")) as clip:
        frame = next(clip.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
    assert np.abs(next(iter(sample_frames(tmp_path / "out.mp4", 1))).astype(int) - shown).max() <= 3


def test_hdr_white_leaves_room_for_what_is_brighter(tmp_path):
    levels = []
    for signal in (0.5807, 0.6515, 0.7518):  # 203, 400, 1000 cd/m^2
        source = hdr_clip(tmp_path / "in.mp4", signal, PQ)
        levels.append(next(iter(sample_frames(source, 1))).mean())
    assert 200 < levels[0] < levels[1] - 8 < levels[2] - 12


def test_a_phones_hdr_is_turned_too(tmp_path):
    source = clips.set_display_matrix(hdr_clip(tmp_path / "in.mp4", 0.5, HLG), clips.TURNED_RIGHT)
    stylized(source, tmp_path / "out.mp4")
    assert clips.decoded(tmp_path / "out.mp4")[0][0].shape == (64, 48, 3)


def combed(count):
    """Frames of two fields each: a bar that moves on from one field to the next."""
    for k in range(count):
        rgb = np.full((64, 96, 3), 40, np.uint8)
        for field in (0, 1):
            left = 8 + 8 * k + 4 * field
            rgb[field::2, left : left + 16] = 220
        yield rgb


def comb(rgb):
    """How much rows differ from the mean of their neighbours."""
    rows = rgb.astype(float).mean(-1)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


@pytest.mark.parametrize("ending", [".mp4", ".ts"])
def test_interlaced_frames_become_whole(tmp_path, ending):
    options = {"x264-params": "tff=1", "crf": "5"}
    source = clips.write_clip(tmp_path / f"in{ending}", combed(8), **options)
    stylized(source, tmp_path / "whole.mp4")
    stylized(source, tmp_path / "combed.mp4", deinterlace=False)
    (whole, times), (kept, _) = clips.decoded(tmp_path / "whole.mp4"), clips.decoded(tmp_path / "combed.mp4")
    assert len(whole) == len(kept) == 8 and times == pytest.approx([k / 25 for k in range(8)], abs=0.002)
    assert comb(kept[4]) > 4 * comb(whole[4])


def film(path, subtitles="subrip"):
    """A Matroska film: two languages, the second by default, longer subtitles, two chapters."""
    plain = clips.write_clip(
        path.with_name("plain.mkv"), clips.panned(25, 64, 48), sound=[("aac", 48000, "mono"), ("aac", 48000, "stereo")]
    )
    with av.open(str(plain)) as before, av.open(str(path), "w") as after:
        streams = {s.index: after.add_stream_from_template(s) for s in before.streams}
        text = after.add_stream(subtitles)
        text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        text.metadata["language"] = "spa"
        for stream in after.streams.audio:
            stream.disposition = Disposition.default if stream.index == 2 else Disposition(0)
            stream.metadata["language"] = "eng" if stream.index == 2 else "ger"
        halves = [(0, 500, "One"), (500, 1000, "Two")]
        after.set_chapters(
            [
                {"id": k, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for k, (a, b, title) in enumerate(halves)
            ]
        )
        after.start_encoding()
        for start, words in ((100, b"Hello"), (5000, b"The end")):
            packet = av.Packet(words)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 2000
            after.mux(packet)
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    return path


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".mov"])
def test_what_goes_along_with_a_film(tmp_path, ending):
    assert stylized(film(tmp_path / "in.mkv"), tmp_path / f"out{ending}") == ""  # nothing is left out, nor "damaged"
    with av.open(str(tmp_path / f"out{ending}")) as clip:
        assert [bool(s.disposition & Disposition.default) for s in clip.streams.audio] == [False, True]
        assert [s.language for s in clip.streams.audio] == ["ger", "eng"]
        (subtitles,) = clip.streams.subtitles
        assert subtitles.language == "spa"
        said = [(float(p.pts * p.time_base), bytes(p)) for p in clip.demux(subtitles) if p.size > 2]
        assert [time for time, _ in said] == pytest.approx([0.1, 5.0], abs=0.05)
        assert [words[-len(text) :] for (_, words), text in zip(said, (b"Hello", b"The end"))] == [b"Hello", b"The end"]
        assert [c["metadata"]["title"] for c in clip.chapters()] == ["One", "Two"]


def test_the_film_is_painted_and_not_the_thumbnail_before_it(tmp_path):
    thumbnail = clips.write_clip(tmp_path / "thumbnail.mkv", clips.panned(1, 32, 32))
    source = clips.write_clip(tmp_path / "film.mkv", clips.panned(20, 96, 64))
    with av.open(str(thumbnail)) as one, av.open(str(source)) as two, av.open(str(tmp_path / "in.mkv"), "w") as out:
        streams = [out.add_stream_from_template(clip.streams.video[0]) for clip in (one, two)]
        streams[0].disposition = Disposition.default  # as FFmpeg flags the first of two
        for clip, stream in zip((one, two), streams):
            for packet in clip.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    assert "further pictures" in stylized(tmp_path / "in.mkv", tmp_path / "out.mp4")
    frames, _ = clips.decoded(tmp_path / "out.mp4")
    assert len(frames) == 20 and frames[0].shape == (64, 96, 3)


@pytest.mark.parametrize("kind", ["pdf", "zip", "db", "txt"])
def test_a_document_with_photos_in_it_is_not_a_film(tmp_path, kind):
    """FFmpeg takes the photos of a document, and lines of text, for a film."""
    path, photo = tmp_path / f"document.{kind}", PHOTOS / "chelsea.jpg"
    if kind == "pdf":
        pages = [Image.open(photo).convert("RGB").resize((320, 240))] * 5
        pages[0].save(path, save_all=True, append_images=pages[1:])
    elif kind == "txt":
        path.write_text("a line of text\n" * 200)
    else:
        path.write_bytes(b"PK\x03\x04" + bytes(60) + 20 * photo.read_bytes())
    assert not is_video(path)
    with pytest.raises(AllaprimaError, match="is not a video"):
        Clip(path)


def test_transparency_that_is_lost_is_told(tmp_path):
    with av.open(str(tmp_path / "clear.mov"), "w") as out:
        video = out.add_stream("prores_ks", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuva444p10le"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 4), 90, np.uint8), "rgba").reformat(format="yuva444p10le")
        out.mux([*video.encode(frame), *video.encode()])
    assert "out.mp4 is not transparent, as" in stylized(tmp_path / "clear.mov", tmp_path / "out.mp4")


def test_what_is_a_video_is_judged_by_content(tmp_path):
    source = clips.write_clip(tmp_path / "in.mp4", clips.panned(3, 64, 48))
    for name in ("clip", "a.3g2", "b.f4v", "c.txt", "12:30:05.mp4"):
        (tmp_path / name).write_bytes(source.read_bytes())
        assert is_video(tmp_path / name)
        with Clip(tmp_path / name) as clip:
            assert next(clip.read()).rgb.shape == (48, 64, 3)
    (tmp_path / "index.ts").write_text("export const film: string = 'a';\n" * 50)  # TypeScript
    (tmp_path / "notes.txt").write_text("Nothing moves in here.\n" * 50)
    (tmp_path / "song.mp3").write_bytes(clips.write_song(tmp_path / "song.mp3").read_bytes())
    (tmp_path / "heic").write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"heic", 0))
    for name in ("index.ts", "notes.txt", "song.mp3", "heic", "none"):
        assert not is_video(tmp_path / name), name
    (tmp_path / "cut.mp4").write_bytes(source.read_bytes()[:300])
    assert is_video(tmp_path / "cut.mp4")  # the reason is told where it is opened
