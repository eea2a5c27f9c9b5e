"""One clock for the tracks of a file, out of time stamps that can't be trusted.

Clips are joined by `cat`, recordings of broadcasts jump by hours, a recorder's clock begins again. FFmpeg's own tools
bridge such places (fftools/ffmpeg_demux.c, `dts_delta_threshold` and `dts_error_threshold`), and so does this.
"""

from fractions import Fraction

# Seconds that a track's clock may fall back and jump ahead, and be believed. A transport stream has the muxer's own clock,
# which anybody cuts and joins; in a file with an index a slide may stand for hours, and decoding times are reckoned.
OF_TRANSPORT = Fraction(1, 10), 10
OF_FILES = 10, 30 * 3600


class Clock:
    """What to add to the time stamps of each packet, so that all tracks run on, from zero, together.

    start: seconds that the file's first time stamp tells. believed: OF_TRANSPORT or OF_FILES.
    """

    def __init__(self, start=Fraction(0), believed=OF_FILES):
        self._back, self._ahead = believed
        self._newest = -start  # the shift that the track which met the last jump found
        self._tracks = {}  # track -> (its shift, its last decoding time, when its next packet is due), as in the file
        self.jumps = 0
        self._now = None  # seconds, shifted: where the last packet of any track lay

    def shift(self, track, time, duration) -> Fraction:
        """Seconds to add to the time stamps of the track's next packet, decoded at `time` for `duration` seconds.

        At a jump the packet follows the track's last one. A track that meets the same jump later takes the shift of the
        first, so that sound and picture stay together; until then it keeps its own.
        """
        shift, last, due = self._tracks.get(track, (self._newest, None, None))
        if last is None:
            expected, lowest = self._now, -self._ahead  # a track that begins late begins where the others are
        else:
            expected, lowest = due + shift, last - due - self._back
        if expected is not None and not lowest <= time + shift - expected <= self._ahead:
            with_others = self._newest != shift and -1 <= time + self._newest - expected <= self._ahead
            self.jumps += not with_others
            shift = self._newest = self._newest if with_others else expected - time
        self._tracks[track] = shift, time, time + duration
        self._now = time + shift
        return shift
