"""How steady a style is in a video: how much a painted frame differs from the last one, moved along as the clip moves.

The difference is the root mean square in grey levels, where the motion is certain: the flows back and forth undo each
other, and the clip itself, moved along, looks the same within EXPLAINED grey levels. It is compared with the clip's own,
which has noise too: 1 is as steady as the clip. A blur is steady as well, so the detail that is left is measured with it.
"""

import math
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from allaprima.core.checks import check_file, check_whole
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Wrote, ignore
from allaprima.core.files import check_outputs
from allaprima.infer.steady import Painter
from allaprima.infer.stylizer import Stylizer
from allaprima.media import motion
from allaprima.media.clips import Clip, Frame
from allaprima.media.luminance import luminance
from allaprima.media.pictures import picture_format, write_rgb

SIDE = 640  # px: larger clips are scaled down to this long side
EXPLAINED = 12  # grey levels
FAR = 8  # frames: strokes may drift too slowly to be seen from one frame to the next
BRIGHTEST = 40  # grey levels: the right end of a flicker map's scale


@dataclass(frozen=True)
class Steadiness:
    """near, far: the difference of a picture from the one before, and from that FAR frames before, in grey levels; far is
    nan for a clip that is too short. detail: the root mean square of what a blur of 3x3 pixels takes away, in grey levels.
    """

    near: float
    far: float
    detail: float

    def over(self, clip: "Steadiness") -> "Steadiness":
        """As multiples of a clip's own."""
        return Steadiness(*(_ratio(mine, its) for mine, its in zip(vars(self).values(), vars(clip).values())))


def _ratio(value, own):
    return value / own if own else math.inf if value else 1.0


class Yardstick:
    """The frames of a clip and how they move: what pictures painted of them are measured with.

    frames: uint8 [H, W, 3] each, of one size, at least two. near, far: {(earlier, later): (flow, mask)}, of every second
    pair of neighbours and of every sixth pair of frames FAR apart; mask: bool [H, W], where the motion is certain.
    """

    def __init__(self, frames, listener: Listener = ignore):
        self.frames = frames
        self.grey = [luminance(frame) for frame in frames]
        near = [(k - 1, k) for k in range(1, len(frames), 2)]
        far = [(k - FAR, k) for k in range(FAR, len(frames), 6)]
        listener(Started("motion", len(near + far), "pairs of frames"))
        moves = {}
        for pair in near + far:
            moves[pair] = self._motion(*pair)
            listener(Advanced("motion", len(moves)))
        self.near, self.far = {pair: moves[pair] for pair in near}, {pair: moves[pair] for pair in far}
        self.certain = float(np.mean([mask.mean() for _, mask in self.near.values()]))
        self.own = self.measure(frames)

    def _motion(self, earlier, later):
        flow = motion.flow_to(self.grey[earlier], self.grey[later])
        forward = motion.flow_to(self.grey[later], self.grey[earlier])
        moved = motion.warp(self.frames[earlier].astype(np.float32), flow)
        explained = np.abs(moved - self.frames[later]).max(2) < EXPLAINED
        return flow, motion.agree(flow, forward) & motion.inside(flow) & explained

    def measure(self, pictures) -> Steadiness:
        """Of pictures painted of the frames, in their order."""
        detail = [_detail(picture) for picture in pictures[::5]]
        return Steadiness(self._change(pictures, self.near), self._change(pictures, self.far), float(np.mean(detail)))

    def _change(self, pictures, pairs):
        squares = [
            (difference(pictures[earlier], pictures[later], flow)[mask] ** 2).mean()
            for (earlier, later), (flow, mask) in pairs.items()
            if mask.any()
        ]
        return math.sqrt(np.mean(squares)) if squares else math.nan

    def flicker_map(self, pictures):
        """Where pictures flicker: uint8 [H, W, 3], black to bright yellow for 0 to BRIGHTEST grey levels.

        The root mean square over the neighbours; grey where the motion is never certain.
        """
        height, width = self.grey[0].shape
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for (earlier, later), (flow, mask) in self.near.items():
            total += mask * (difference(pictures[earlier], pictures[later], flow) ** 2).mean(2)
            count += mask
        levels = np.sqrt(total / np.maximum(count, 1)) * (255 / BRIGHTEST)
        heat = cv2.applyColorMap(np.clip(levels, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        return np.where(count[..., None] > 0, heat[..., ::-1], 96).astype(np.uint8)


def difference(earlier, later, flow):
    """A picture minus the earlier one moved along: float32 [H, W, 3], grey levels."""
    return later - motion.warp(earlier.astype(np.float32), flow)


def _detail(picture):
    grey = luminance(picture).astype(np.float32)
    return math.sqrt(((grey - cv2.blur(grey, (3, 3))) ** 2).mean())


def read_frames(source, count):
    """The first `count` frames of a clip, scaled down to SIDE; AllaprimaError when there is only one."""
    with Clip(source) as clip:
        frames = [item.rgb for item in islice((item for item in clip.read() if isinstance(item, Frame)), count)]
    if len(frames) < 2:
        raise AllaprimaError(f"{source} has a single frame: give a clip of several.")
    height, width = frames[0].shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = round(width * scale), round(height * scale)
    if min(size) < motion.SMALLEST:
        raise AllaprimaError(f"{source} is too small for its motion to be followed: give a clip of larger frames.")
    return frames if scale == 1 else [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def paint_frames(stylizer, frames, controls, listener: Listener = ignore):
    """What the stylizer paints of a clip's frames, in their order."""
    painted, painter = [], Painter()
    listener(Started("paint", len(frames), "frames", f"Painting {len(frames)} frames with {stylizer.name}."))
    for frame in frames:
        painted.append(painter(stylizer, frame, controls))
        listener(Advanced("paint", len(painted)))
    return painted


def bench_video(
    model,
    source,
    output=None,
    *,
    controls=Controls(),
    frames=40,
    provider=None,
    threads=None,
    foreign=None,
    overwrite=False,
    listener: Listener = ignore,
) -> tuple[Steadiness, Yardstick]:
    """Measure how steadily `model` paints a clip: its Steadiness, and the Yardstick, which has the clip's own.

    source: a path or URL of a video, of which the first `frames` count. output: the picture file for the flicker map, with
    a frame and what was painted of it beside; none when None. model, provider, threads, foreign: as of Stylizer.
    Raises AllaprimaError for bad input.
    """
    check_whole(2, frames=frames)
    if output is not None:
        output = check_file("output", output)
        picture_format(output)
        check_outputs([output], [source], overwrite=overwrite, listener=listener)
    stylizer = Stylizer(model, provider, threads, foreign, one_size=True)
    yardstick = Yardstick(read_frames(source, frames), listener)
    if not yardstick.certain:
        raise AllaprimaError(f"The motion of {source} can't be followed anywhere: give a clip that moves less.")
    painted = paint_frames(stylizer, yardstick.frames, controls, listener)
    if output is not None:
        middle = len(painted) // 2
        write_rgb(output, np.hstack([yardstick.frames[middle], painted[middle], _with_scale(yardstick, painted)]))
        listener(Wrote(output, "a frame, painted, and where it flickers"))
    return yardstick.measure(painted), yardstick


def _with_scale(yardstick, painted):
    """The flicker map with its scale along the bottom."""
    picture = yardstick.flicker_map(painted)
    height, width = picture.shape[:2]
    bar = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (max(4, height // 40), width))
    picture[-len(bar) :] = cv2.applyColorMap(np.ascontiguousarray(bar), cv2.COLORMAP_INFERNO)[..., ::-1]
    text, size = f"0 to {BRIGHTEST} grey levels", max(0.3, width / 1000)
    cv2.putText(
        picture, text, (4, height - len(bar) - 5), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA
    )
    return picture
