"""Large pictures in tiles: bounded memory, and no seam.

Instance normalization makes naive tiling visible: each tile is normalized by its own mean and variance, so the same
sky has another colour in every tile. Here every tile is normalized by the same numbers, those of the whole picture,
estimated first. A pixel then depends on its neighbourhood alone, and tiles that overlap by more than the network's
receptive field agree where they meet. As the numbers are estimates, a picture in tiles is not what one pass would make of
it: with the bundled styles, it differs by three to four grey levels on average, all over and not at seams.
"""

import numpy as np

from allaprima.core.contract import GRID, SMALLEST, Controls
from allaprima.infer.modelfile import measure_statistics, pin_statistics

WHOLE = 1536 * 1536  # px: what goes through the network at once, a frame of 1920x1080 too; memory grows with it
SIDE = 1280  # px of a tile with its margins
MARGIN = 128  # px around a tile, calculated and cut away: more than the receptive field's radius
PATCH, MOSAIC = 192, 1024 * 1024  # px: side of a mosaic's patches, and all of them; measuring takes more memory


def stylize_tiles(model, open_session, forward, image, controls=Controls(), progress=None):
    """Stylize a large picture, uint8 [H, W, 3], tile by tile.

    model: the model file's bytes. open_session(bytes) -> session. forward(session, batch, controls, outputs) ->
    (stylized batch, values of the outputs). progress(done, total) is called after every tile.
    """
    statistics = measure(model, open_session, forward, image)
    session = open_session(pin_statistics(model, statistics))
    windows = list(layout(*image.shape[:2]))
    stylized = np.empty_like(image)
    for done, (core, window, inside) in enumerate(windows, 1):
        stylized[core] = forward(session, image[window][None], controls)[0][0][inside]
        if progress:
            progress(done, len(windows))
    return stylized


def measure(model, open_session, forward, image):
    """[(mean [C], variance [C])] of the input of every node that looks at the whole picture, an estimate for all of it.

    They are taken on mosaics: pictures of a size that goes through at once, of patches spread evenly over the whole
    picture at full resolution. (A picture scaled down has other edges and brush strokes, and so other statistics.)
    """
    session = open_session(measure_statistics(model))
    names = [output.name for output in session.get_outputs() if output.name.startswith(("mean.", "variance."))]
    if not names:
        return []
    means, squares = [], []  # of each mosaic: as many arrays [C] as there are normalizations
    for picture in mosaics(image):
        values = dict(zip(names, forward(session, picture[None], Controls(), names)[1]))
        mean = [values[f"mean.{k}"].ravel().astype(np.float64) for k in range(len(names) // 2)]
        means.append(mean)
        squares.append([values[f"variance.{k}"].ravel() + m**2 for k, m in enumerate(mean)])
    mean, square = ([np.mean(values, axis=0) for values in zip(*parts)] for parts in (means, squares))
    return [(m, np.maximum(s - m**2, 0)) for m, s in zip(mean, square)]


def mosaics(image, side=PATCH, pixels=MOSAIC):
    """Yield four or nine pictures, [h, w, 3] of at most `pixels`, of patches `side` px square from all over `image`.

    The patches lie on one even grid; each mosaic has every second, or third, of its rows and columns. They keep their
    order, so that what meets at a patch's edge comes from the same region: strange edges would count as the picture's.
    """
    height, width = image.shape[:2]
    step = 2 if height * width <= 4 * pixels else 3
    share = min(1.0, step * (pixels / (height * width)) ** 0.5)  # of the rows, and of the columns
    rows, columns = (max(1, int(length * share / side / step)) for length in (height, width))  # in one mosaic
    patches = pixels // (max(min(side, height), SMALLEST) * max(min(side, width), SMALLEST))  # thin ones are padded
    if rows * columns > patches:  # a long strip
        rows, columns = (1, patches) if columns > rows else (patches, 1)
    tops = np.linspace(0, max(height - side, 0), step * rows).astype(int)
    lefts = np.linspace(0, max(width - side, 0), step * columns).astype(int)
    for i in range(step):
        for j in range(step):
            yield np.vstack(
                [
                    np.hstack([image[top : top + side, left : left + side] for left in lefts[j::step]])
                    for top in tops[i::step]
                ]
            )


def layout(height, width, side=SIDE):
    """Cut a picture into tiles of about the same size: yields (core, window, inside), each a pair of slices.

    `window` is what the network gets, at most `side` pixels square; `core`, the window without its margins, is what
    is kept, and the cores cover the picture once; `inside` is the core in the window's own coordinates.
    """
    for core_y, window_y, inside_y in _cuts(height, side):
        for core_x, window_x, inside_x in _cuts(width, side):
            yield (core_y, core_x), (window_y, window_x), (inside_y, inside_x)


def _cuts(length, side):
    most = (side - 2 * MARGIN) // GRID * GRID  # px that a tile adds
    count = max(1, -(-(length - MARGIN) // most))
    step = min(most, -(-length // (count * GRID)) * GRID)
    starts = [
        0,
        *range(MARGIN + step, length, step),
    ]  # of cores: MARGIN after that of their windows, a multiple of GRID
    for start, stop in zip(starts, [*starts[1:], length]):
        low, high = max(start - MARGIN, 0), min(stop + MARGIN, length)
        yield slice(start, stop), slice(low, high), slice(start - low, stop - low)
