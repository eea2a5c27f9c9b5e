"""One style, ready to run: a model file in an ONNX Runtime session, pictures in, stylized pictures out."""

import os
from collections.abc import Callable
from copy import copy
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from allaprima.core.checks import StrPath, check_kind, check_whole
from allaprima.core.contract import IMAGE, SMALLEST, STYLIZED, Card, Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer import tiles
from allaprima.infer.canvas import Canvas, Place
from allaprima.infer.library import find_style
from allaprima.infer.modelcheck import ModelGraph, read_model
from allaprima.infer.strokes import paint_strokes
from allaprima.media.luminance import keep_colors_of

# Short name -> ONNX Runtime's name, in the order of preference. TensorRT spends minutes on every new picture size
# before the first picture comes out, so it is taken only when asked for.
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
MOST_THREADS = 1024  # more than any processor has; ONNX Runtime would make as many as it is told
Pixels = npt.NDArray[np.uint8]
PICTURE = "A picture is a uint8 array [H, W, 3], or [N, H, W, 3] for several"
RANGES = {"0..1": 1.0, "0..255": 255.0}
STRIDE = 32  # px: no foreign model has a greater one, so to its multiples there is nothing to round


class Stylizer:
    """A style: `stylizer(image)` is the picture in that style.

    model: the path of a model file, or the name of a style that `allaprima models` lists.
    provider: "cpu", "cuda", "coreml", "directml", "openvino" or "tensorrt"; the best of those installed when None.
    threads: of the CPU, up to MOST_THREADS; one for each physical core when None.
    foreign: the value range of a model that isn't ours, "0..1" or "0..255": float [N, 3, H, W] RGB in and out, as the
        ONNX model zoo's fast-neural-style. A model with a fixed size gets the picture resized to it, and back.
    one_size: the pictures have one size, or few, as a camera's: a twentieth faster, and memory is kept for each size.

    Raises AllaprimaError when the file can't be read or doesn't keep the contract, or the provider isn't there.
    `card` is what the file says of itself (core/contract.py).
    """

    def __init__(
        self,
        model: StrPath,
        provider: str | None = None,
        threads: int | None = None,
        foreign: str | None = None,
        one_size: bool = False,
    ):
        check_kind(str, provider=provider, foreign=foreign)
        if foreign is not None and foreign not in RANGES:
            raise AllaprimaError(f"foreign must be one of {', '.join(RANGES)}, not {foreign!r}.")
        if threads is not None:
            check_whole(1, MOST_THREADS, threads=threads)
        self.path = find_style(model)
        self.threads, self._one_size = int(threads or physical_cores()), bool(one_size)
        self._range = RANGES[foreign] if foreign else None
        self._providers = _choose_providers(provider)
        self._model = read_model(self.path)
        self._graph = ModelGraph(self._model, self.path)
        self._session = self._open(self._model)
        self.provider = next(k for k, v in PROVIDERS.items() if v == self._session.get_providers()[0])
        if provider and self.provider != provider:
            raise AllaprimaError(
                f"The provider {provider!r} is installed but did not start: check its driver, or leave --provider out."
            )
        self._check_contract()
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = Card() if foreign else Card.of_metadata(metadata, self.path)
        self.name = self.card.name or self.path.stem

    def for_video(self):
        """The same style on one CPU thread, for pictures of one size."""
        other = copy(self)
        other.threads, other._one_size = 1, True
        other._session, other._canvas = other._open(self._model), None
        return other

    _canvas: Canvas | None = None  # opened when a picture has a place, once for all threads that paint a video
    _opening = Lock()

    def __call__(
        self,
        image: Pixels,
        controls: Controls | float | None = None,
        *,
        strength: float | None = None,
        progress: Callable[[int, int], object] | None = None,
        place: Place | None = None,
    ) -> Pixels:
        """Stylize `image`, uint8 RGB [H, W, 3] or a batch [N, H, W, 3]; the same shape and type comes back.

        controls: what to turn; a number is a strength, and so is `strength`: 0 returns the photo, 1 the full style. Any
        size from 1x1 up; a picture of more than `tiles.WHOLE` pixels goes through in tiles, and then
        `progress(done, total)` is called after each. place: (y, x) of its first pixel on the canvas, for the frames of a
        camera that moves (infer/canvas.py); what goes through in tiles, and a foreign model, has none.
        """
        try:
            batch = np.asarray(image)
        except ValueError as error:
            raise AllaprimaError(f"{PICTURE}, and not lists of unlike lengths.") from error
        if batch.dtype != np.uint8 or batch.ndim not in (3, 4) or batch.shape[-1] != 3 or 0 in batch.shape:
            raise AllaprimaError(f"{PICTURE}, and not {batch.dtype} {list(batch.shape)}.")
        if strength is not None:
            if controls is not None:
                raise AllaprimaError("Give either controls or strength, not both.")
            controls = strength
        if controls is None:
            controls = Controls()
        elif not isinstance(controls, Controls):
            controls = Controls(controls)
        if batch.ndim == 3:
            return self._paint(batch[None], controls, progress, place)[0]
        if self._pixels(batch) > tiles.WHOLE or controls.stroke is not None:
            # one at a time, so that memory has a bound
            return np.stack([self._paint(one[None], controls, progress, place)[0] for one in batch])
        return self._paint(batch, controls, progress, place)

    def _paint(self, batch, controls, progress, place):
        """The network's picture, with what `controls` asks for beside it."""
        if controls.stroke is None:
            painted = self._stylize(batch, controls, progress, place)
        else:  # strength counts at the end, so that 0 is the photo itself

            def paint(photos):
                scale = photos.shape[1] / batch.shape[1]
                there = (round(scale * place[0]), round(scale * place[1])) if place else None
                return self._stylize(photos, Controls(), None, there)

            painted = paint_strokes(paint, batch, controls.stroke)
            painted = self._blend(batch, painted, controls.strength)
        if controls.keep_colors:
            painted = np.stack([keep_colors_of(photo, one) for photo, one in zip(batch, painted)])
        return painted

    def _stylize(self, batch, controls, progress, place):
        if self._pixels(batch) > tiles.WHOLE and self._fixed_size() is None:
            return tiles.stylize_tiles(self._model, self._open, self._forward, batch[0], controls, progress)[None]
        if place is None or self._range is not None:
            return self._forward(self._session, batch, controls)[0]
        with self._opening:
            self._canvas = self._canvas or Canvas(self._model, self._open, self._forward)
        return self._canvas.paint(batch, controls, place)

    def _pixels(self, batch):
        """Of all pictures, as the network gets them."""
        count, height, width, _ = batch.shape
        return count * self._side(height) * self._side(width)

    def _side(self, length):
        """So many pixels of a side the network gets: ours have a least size, others round it to their strides."""
        if self._range is None:
            return max(length, SMALLEST)
        return length if self._fixed_size() else -(-length // STRIDE) * STRIDE

    def _padded(self, batch):
        """The pictures as large as the network gets them, mirrored at their edges."""
        more = [(0, self._side(length) - length) for length in batch.shape[1:3]]
        return np.pad(batch, [(0, 0), *more, (0, 0)], mode="symmetric") if any(map(any, more)) else batch

    def _forward(self, session, batch, controls=Controls(), outputs=(), feed=None):
        """Run `session` on a uint8 batch: its stylized uint8 batch, and the values of further `outputs`. feed: more inputs."""
        if self._range is not None:
            return self._forward_foreign(session, batch, controls, outputs)
        height, width = batch.shape[1:3]
        feed = {IMAGE: np.ascontiguousarray(self._padded(batch))} | (feed or {})
        if self._strength is not None:
            feed["strength"] = np.full([1] * len(self._strength.shape), controls.strength, np.float32)
        stylized, *more = self._run(session, [STYLIZED, *outputs], feed)
        stylized = stylized[:, :height, :width]
        return self._blend(batch, stylized, 1.0 if self._strength else controls.strength), more

    def _forward_foreign(self, session, batch, controls, outputs):
        n, height, width, _ = batch.shape
        fixed = self._fixed_size()
        photos = []
        for photo in self._padded(batch):
            if fixed:
                photo = _resize(photo, *fixed)
            photos.append(photo.transpose(2, 0, 1)[None].astype(np.float32) * (self._range / 255))
        stylized = []
        for photo in photos:  # one by one: most of them fix N at 1
            paint, *more = self._run(session, [session.get_outputs()[0].name, *outputs], {self._input: photo})
            paint = np.clip(paint[0] * (255 / (self._range or 255)), 0, 255).round().astype(np.uint8).transpose(1, 2, 0)
            if fixed or paint.shape[0] < height or paint.shape[1] < width:
                paint = _resize(paint, height, width)
            stylized.append(paint[:height, :width])
        return self._blend(batch, np.stack(stylized), controls.strength), more

    @staticmethod
    def _blend(batch, stylized, strength):
        """A model without a `strength` of its own: straight from photo to style."""
        if strength == 1:
            return stylized
        return np.round(batch + np.float32(strength) * (stylized.astype(np.float32) - batch)).astype(np.uint8)

    def _run(self, session, outputs, feed):
        self._graph.check({name: value.shape for name, value in feed.items() if name in self._inputs})
        try:
            return session.run(outputs, feed)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            reason = str(error).splitlines()[0][:200]
            size = "x".join(str(n) for n in next(iter(feed.values())).shape)
            if "alloc" in reason:
                raise AllaprimaError(
                    f"Not enough memory for a picture of {size}: close other programs, or make the picture smaller."
                ) from error
            raise AllaprimaError(f"{self.path} can't stylize a picture of {size}: {reason}") from error

    def _open(self, model: bytes):
        """An ONNX Runtime session for a model file's bytes."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.enable_mem_pattern = self._one_size
        options.log_severity_level = 4  # what goes wrong is said in a sentence, below
        try:
            return ort.InferenceSession(model, options, providers=self._providers)
        except Exception as error:  # as above
            reason = str(error).splitlines()[0][:200]
            if "INVALID_PROTOBUF" in reason or "ModelProto" in reason:
                raise AllaprimaError(
                    f"{self.path} is cut short or damaged: copy or export the model file again."
                ) from error
            raise AllaprimaError(f"ONNX Runtime {ort.__version__} can't open {self.path}: {reason}") from error

    def _fixed_size(self):
        """(height, width) where a foreign model has one fixed size, else None."""
        shape = self._session.get_inputs()[0].shape
        if self._range is None or not (isinstance(shape[2], int) and isinstance(shape[3], int)):
            return None
        return shape[2], shape[3]

    def _check_contract(self):
        inputs = {x.name: x for x in self._session.get_inputs()}
        outputs = {x.name: x for x in self._session.get_outputs()}
        optional = {x.name: x for x in self._session.get_overridable_initializers()}  # format 1 has its strength there
        self._input, self._inputs = next(iter(inputs), None), {*inputs, *optional}
        self._strength = inputs.get("strength") or optional.get("strength")
        ours = _is(inputs.get(IMAGE), "tensor(uint8)") and _is(outputs.get(STYLIZED), "tensor(uint8)")
        floats = [x for x in (*inputs.values(), *outputs.values()) if _is_planar_float(x)]
        foreign = len(inputs) == 1 and len(outputs) == 1 and len(floats) == 2
        found = _signature(inputs, outputs)
        if self._range is not None:
            if ours:
                raise AllaprimaError(f"{self.path} is an allaprima model: leave --foreign out.")
            if not foreign:
                raise AllaprimaError(
                    f"{self.path} is not a model for --foreign: expected one float input and one float output "
                    f"[N, 3, H, W], found {found}."
                )
            return
        if foreign:
            raise AllaprimaError(
                f"{self.path} works on floats [N, 3, H, W]: add --foreign 0..255 or "
                "--foreign 0..1, whichever range its author says."
            )
        if not ours or set(inputs) - {IMAGE, "strength"}:
            raise AllaprimaError(
                f"{self.path} is not an allaprima model: expected input 'image' and output 'stylized', "
                f"uint8 [N, H, W, 3], found {found}."
            )
        if self._strength and not (self._strength.type == "tensor(float)" and self._strength.shape in ([1], [])):
            raise AllaprimaError(f"{self.path} is not an allaprima model: strength must be float [1], found {found}.")
        fixed = [n for n in inputs[IMAGE].shape[1:3] if isinstance(n, int)]
        if fixed:
            raise AllaprimaError(
                f"{self.path} takes pictures of one size only ({fixed}): export it again with a free height and width."
            )


def physical_cores() -> int:
    """Physical cores that this process may use; 0, which leaves it to ONNX Runtime, where the system doesn't tell."""
    try:
        cpus = os.sched_getaffinity(0)
        siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        cores = len({Path(siblings.format(cpu)).read_text() for cpu in cpus})
    except (AttributeError, OSError):
        return 0
    try:  # a container's share, as "200000 100000": more threads than that only wait for each other
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def _choose_providers(wanted):
    there = {short: name for short, name in PROVIDERS.items() if name in ort.get_available_providers()}
    if wanted is None:
        return [name for short, name in there.items() if short != "tensorrt"]
    if wanted not in PROVIDERS:
        raise AllaprimaError(f"There is no provider {wanted!r}. Choose one of: {', '.join(there)}.")
    if wanted not in there:
        raise AllaprimaError(
            f"The provider {wanted!r} is not installed (here: {', '.join(there)}): install the "
            "onnxruntime package that has it, or leave --provider out."
        )
    return [there[wanted]] + [PROVIDERS["cpu"]] * (wanted != "cpu")


def _is(value, kind):
    shape = value.shape if value is not None else []
    return value is not None and value.type == kind and len(shape) == 4 and (shape[3] == 3 or isinstance(shape[3], str))


def _is_planar_float(value):
    return (
        value.type == "tensor(float)"
        and len(value.shape) == 4
        and (value.shape[1] == 3 or not isinstance(value.shape[1], int))
    )


def _signature(inputs, outputs):
    def say(values):
        texts = (f"{v.name} {v.type[7:-1]} [{', '.join(str(n or '?') for n in v.shape)}]" for v in values.values())
        return ", ".join(texts) or "nothing"

    return f"{say(inputs)} -> {say(outputs)}"


def _resize(image, height, width):
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
