"""Small real clips for the tests, made with PyAV from the bundled photos: sound, rotation, odd sizes, damage."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

PHOTOS = sorted((Path(__file__).parent.parent / "src" / "allaprima" / "train" / "photos").glob("*.jpg"))


def panned(count, width, height, photo=0):
    """Yield `count` frames, uint8 [height, width, 3]: a window that wanders over a bundled photo and back."""
    image = Image.open(PHOTOS[photo % len(PHOTOS)]).convert("RGB")
    zoom = 1.5 * max(width / image.width, height / image.height)
    canvas = np.asarray(image.resize((round(image.width * zoom), round(image.height * zoom))))
    way_y, way_x = canvas.shape[0] - height, canvas.shape[1] - width
    for index in range(count):
        part = 1 - abs(1 - index / 50 % 2)  # 0 .. 1 .. 0 in a hundred frames
        top, left = round(way_y * part), round(way_x * part)
        yield canvas[top : top + height, left : left + width]


def filmed(photo, count, size, step, start=(0, 0), nearer=1.0, noise=1.0):
    """Yield `count` frames, uint8 [height, width, 3], of a camera that moves over a photo, and has noise of its own.

    photo: its file. size: (width, height). start: (x, y) of the first frame in the photo. step: how far it goes from frame to
    frame, px. nearer: how many times as large the photo gets. noise: standard deviation, grey levels.
    """
    picture, random = np.asarray(Image.open(photo).convert("RGB")), np.random.default_rng(0)
    for k in range(count):
        corner = [
            first + k * by + (1 - nearer**-k) * side / 2 for first, by, side in zip(start, step, size, strict=True)
        ]
        matrix = np.array([[nearer**-k, 0, corner[0]], [0, nearer**-k, corner[1]]])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(picture, matrix, size, flags=how, borderMode=cv2.BORDER_REFLECT)
        yield (frame + random.normal(0, noise, frame.shape)).clip(0, 255).round().astype(np.uint8)


def write_clip(
    path,
    frames,
    rate=25,
    times=None,
    time_base=None,
    sound=(),
    first=0.0,
    index_in_front=False,
    codec="libx264",
    aspect=None,
    **options,
):
    """Encode frames to `path`.

    times: the start of each frame in units of time_base, for a variable frame rate. sound: one (codec, rate, layout)
    per stream, each a tone as long as the pictures. first: seconds at which everything starts. index_in_front:
    of an MP4, which can then be played though its end is cut off. aspect: of the pixels. options: the codec's.
    """
    frames = [np.ascontiguousarray(frame) for frame in frames]
    time_base = time_base or 1 / Fraction(rate)
    times = list(times or range(len(frames)))
    with av.open(str(path), "w", container_options={"movflags": "+faststart"} if index_in_front else {}) as out:
        video = out.add_stream(codec, rate=rate, options={"g": "10", **options})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv444p" if video.height % 2 or video.width % 2 else "yuv420p"
        video.codec_context.time_base = time_base
        video.codec_context.sample_aspect_ratio = aspect or Fraction(1)
        voices = [
            (out.add_stream(name, rate=hertz, layout=layout), 220 * (k + 1))
            for k, (name, hertz, layout) in enumerate(sound)
        ]
        for rgb, start in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb).reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = start + round(first / time_base), time_base
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for stream, pitch in voices:
            for frame in _tone(stream.codec_context, pitch, float((times[-1] + 1) * time_base), first):
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return Path(path)


def write_streamed(path, frames):
    """A WebM as a browser's MediaRecorder leaves it: streamed out, without a length and an index."""
    with open(path, "wb") as file:
        pipe = type("Pipe", (), {"write": file.write})()  # nothing to seek in
        with av.open(pipe, "w", format="webm") as out:
            video = out.add_stream("libvpx", rate=25, options={"deadline": "realtime"})
            frames = [np.ascontiguousarray(frame) for frame in frames]
            video.height, video.width = frames[0].shape[:2]
            for rgb in frames:
                out.mux(video.encode(av.VideoFrame.from_ndarray(rgb).reformat(format="yuv420p")))
            out.mux(video.encode())
    return Path(path)


def _tone(context, pitch, seconds, first):
    step = 1024
    for start in range(0, int(seconds * context.sample_rate), step):
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(start, start + step) / context.sample_rate)
        samples = np.tile(wave.astype(np.float32), (context.layout.nb_channels, 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=context.layout.name)
        frame.sample_rate, frame.time_base = context.sample_rate, Fraction(1, context.sample_rate)
        frame.pts = start + round(first * context.sample_rate)
        yield frame


def flat_clip(path, colours, matrix, full, tagged=True, size=(64, 48), frames=3):
    """A clip of vertical bands of flat colours (RGB rows), turned to YUV by the formulas of ITU-T H.273.

    matrix: 6 for BT.601, 1 for BT.709. full: 0..255, otherwise 16..235. tagged: say so in the file.
    """
    red, blue = {6: (0.299, 0.114), 1: (0.2126, 0.0722)}[matrix]
    rgb = np.repeat(np.asarray(colours) / 255, size[0] // len(colours), axis=0)
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = [(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)]
    if full:
        rows = [luma * 255, *(128 + 255 * c for c in chroma)]
    else:
        rows = [16 + 219 * luma, *(128 + 224 * c for c in chroma)]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = len(rgb), size[1], "yuv420p"
        if tagged:
            video.codec_context.colorspace, video.codec_context.color_range = matrix, 2 if full else 1
        for _ in range(frames):
            frame = av.VideoFrame(len(rgb), size[1], "yuv420p")
            for plane, row, shrink in zip(frame.planes, rows, (1, 2, 2)):
                line = np.zeros(plane.line_size, np.uint8)
                line[: len(rgb) // shrink] = np.clip(np.round(row[::shrink]), 0, 255)
                plane.update(np.tile(line, plane.height).tobytes())
            if tagged:
                frame.colorspace, frame.color_range = matrix, 2 if full else 1
            out.mux(video.encode(frame))
        out.mux(video.encode())
    return Path(path)


# What phones write: the 2x2 part (a, b, c, d) of the display matrix for each way to hold them.
UPRIGHT, TURNED_RIGHT, UPSIDE_DOWN, TURNED_LEFT = (1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)
MIRRORED = (-1, 0, 0, 1)


def set_display_matrix(path, matrix):
    """Write a display matrix into the header of the picture track of an MP4 (ISO 14496-12, box `tkhd`)."""
    a, b, c, d = (value * 0x10000 for value in matrix)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


def write_song(path, cover=True):
    """An MP3 with a cover picture: its only "video stream" is a still."""
    sound = path.with_name("plain.mp3")
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("libmp3lame", rate=44100, layout="stereo")
        for frame in _tone(stream.codec_context, 440, 1.0, 0.0):
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    picture = b"\0image/jpeg\0\3\0" + PHOTOS[0].read_bytes()
    picture = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    length = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes((b"ID3\3\0\0" + length + picture if cover else b"") + sound.read_bytes())
    sound.unlink()
    return path


def decoded(path):
    """(frames uint8 RGB by the file's own tags, start times in seconds) of a clip, decoded plainly with PyAV."""
    with av.open(str(path)) as clip:
        pairs = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in clip.decode(video=0)]
    return [rgb for rgb, _ in pairs], [time for _, time in pairs]


def sound_packets(path):
    """For each sound stream: (codec, list of the packets' bytes)."""
    with av.open(str(path)) as clip:
        streams = {s.index: (s.codec_context.name, []) for s in clip.streams.audio}
        for packet in clip.demux(clip.streams.audio):
            if packet.size:
                streams[packet.stream.index][1].append(bytes(packet))
    return list(streams.values())
