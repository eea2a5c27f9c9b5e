"""Sound and subtitles that go along with a video: copied where the container and its players take them, else encoded.

None of them is a reason to lose the pictures: what can't be kept is named, and left out.
"""

import io
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

_MP4_SOUND = frozenset(["aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"])
_PCM = frozenset(["pcm_s16le", "pcm_s24le", "pcm_f32le"])
# container -> the sound that the players of such files take as it is
_SOUND = {
    "mp4": _MP4_SOUND,
    "mov": frozenset(["aac", "mp3", "ac3", "eac3", "alac", "pcm_s16be", "pcm_s24be"]) | _PCM,
    "matroska": _MP4_SOUND | frozenset(["vorbis", "dts", "truehd", "mp2"]) | _PCM,
}
_SUBTITLES = {"mp4": "mov_text", "mov": "mov_text", "matroska": "ass"}  # what text becomes where it can't be copied
_TEXT = frozenset(["ass", "ssa", "subrip", "srt", "webvtt", "mov_text", "text"])
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, of those that every player has
_LAYOUTS = {1: "mono", 6: "5.1"}  # of AAC; the rest is mixed to stereo


def add_tracks(container, streams):
    """Give the output a track for each of the clip's: ({index of the stream: its track}, what is left out and why)."""
    tracks, left_out = {}, []
    for stream in streams:
        name = _name(stream, streams)
        kind, reason = _kind(container.format.name, stream)
        if kind is None:
            left_out.append(f"{name} ({reason})")
        else:
            tracks[stream.index] = kind(container, stream, name)
    return tracks, left_out


def _name(stream, streams) -> str:
    same = [other.index for other in streams if other.type == stream.type]
    word = {"audio": "sound track", "subtitle": "subtitles", "video": "further pictures"}.get(stream.type, stream.type)
    number = f" {same.index(stream.index) + 1}" if len(same) > 1 else ""
    language = "" if stream.language in (None, "und") else f" in {stream.language}"
    return f"{word}{number}{language}"


def _kind(container, stream):
    """(the class of the output's track or None, why not)."""
    context = stream.codec_context
    if stream.type not in ("audio", "subtitle"):
        return None, "neither the main pictures nor sound nor subtitles"
    if context is None:
        return None, "of an unknown kind"
    codec = context.codec.canonical_name
    if stream.type == "subtitle":
        if _is_copied(container, stream):
            return Copied, ""
        return (Subtitles, "") if codec in _TEXT else (None, f"{codec}, which only an .mkv holds")
    if not context.sample_rate or not context.layout.nb_channels:
        return None, "nothing is in it"
    return (Copied if codec in _SOUND[container] and _is_copied(container, stream) else Sound), ""


def _is_copied(container, stream) -> bool:
    """Does the container take the stream's packets as they are? Tried, on a file in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


class Copied:
    """A track whose packets go over bit by bit, in rising order of their times."""

    def __init__(self, container, source, name):
        self.name = name
        self._stream = self._add(container, source)
        self._stream.metadata.update({k: v for k, v in source.metadata.items() if k not in ("DURATION", "ENCODER")})
        self._stream.disposition = source.disposition
        self._container, self._last = container, None

    def _add(self, container, source):
        return container.add_stream_from_template(source)

    def take(self, packet) -> list:
        """The output's packets for one of the source's, with times of the clip's clock."""
        return self._in_order([packet])

    def finish(self) -> list:
        return []

    def _in_order(self, packets):
        """Packets as a muxer takes them: each later than the one before. One that lies wholly before that is left out."""
        self._container.start_encoding()  # from here on the track's time base is known
        base, ordered = self._stream.time_base, []
        for packet in packets:
            scale = packet.time_base / base
            time, shown, length = (round((t or 0) * scale) for t in (packet.dts, packet.pts, packet.duration))
            if self._last is not None and time <= self._last:
                if time + length < self._last:
                    continue
                time = self._last + 1
            self._last = time
            packet.stream, packet.time_base = self._stream, base
            packet.dts, packet.pts, packet.duration = time, max(time, shown), length
            ordered.append(packet)
        return ordered


class Sound(Copied):
    """A sound track that the container or its players would not take: decoded, and encoded as AAC."""

    def _add(self, container, source):
        self._decoder = source.codec_context
        rate = next((rate for rate in _AAC_RATES if rate >= self._decoder.sample_rate), _AAC_RATES[-1])
        layout = _LAYOUTS.get(self._decoder.layout.nb_channels, "stereo")
        stream = container.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = 80_000 * stream.codec_context.layout.nb_channels
        self._encoder, self._shape = stream.codec_context, None
        self._resampler: av.AudioResampler | None = None
        return stream

    def take(self, packet):
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:
            frames = []  # a damaged packet is a moment of silence
        return self._encoded([piece for frame in frames for piece in self._resampled(frame)])

    def finish(self):
        rest = self.take(None)
        if self._resampler:
            rest += self._encoded(self._resampler.resample(None))
        return rest + self._encoded([None])

    def _encoded(self, frames):
        return self._in_order([packet for frame in frames for packet in self._encoder.encode(frame)])

    def _resampled(self, frame):
        """The frame in the encoder's format; its own may change at any time, from stereo to mono say."""
        shape, encoder, rest = (frame.format.name, frame.layout.name, frame.sample_rate), self._encoder, []
        if self._resampler is None or shape != self._shape:
            rest = self._resampler.resample(None) if self._resampler else []
            self._resampler = av.AudioResampler(encoder.format.name, encoder.layout.name, encoder.sample_rate)
            self._shape = shape
        return rest + self._resampler.resample(frame)


class Subtitles(Copied):
    """Subtitles of text, in the container's own kind of them."""

    def _add(self, container, source):
        self._decoder = source.codec_context
        self._decoder.open()
        stream = container.add_stream(_SUBTITLES[container.format.name])
        stream.codec_context.subtitle_header = self._decoder.subtitle_header
        self._encoder = stream.codec_context
        return stream

    def take(self, packet):
        subtitle = self._decoder.decode2(packet)
        if subtitle is None:
            return []
        encoded = self._encoder.encode_subtitle(subtitle)
        encoded.time_base = packet.time_base
        encoded.dts, encoded.pts, encoded.duration = packet.dts, packet.pts, packet.duration
        return self._in_order([encoded])


def shifted(chapter, start: Fraction) -> Any:
    """The chapter, counted from the start of the clip, `start` seconds, and not from the file's zero."""
    ticks = round(start / chapter["time_base"])
    return {**chapter, "start": max(0, chapter["start"] - ticks), "end": max(0, chapter["end"] - ticks)}
