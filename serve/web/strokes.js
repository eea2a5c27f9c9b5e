/**
 * Brush strokes in proportion to the picture, as infer/strokes.py and media/luminance.py have them: the network paints
 * the picture at the size at which its strokes have the proportion that is asked for, the result is scaled to the
 * picture's own size, and the photo's fine edges return. All pictures are RGBA bytes.
 */

const AREA = 640 * 480; // px: in a picture of this area a stroke of 1 is the network's own
const WINDOW = 7, FLAT = 20, STEEPEST = 1.5; // of the return of detail, as in media/luminance.py

/**
 * @param {(photo: Uint8ClampedArray, width: number, height: number) => Promise<Uint8Array>} paint the network
 * @param {Uint8ClampedArray} photo @param {number} width @param {number} height of the photo @param {number} stroke 0.5 to 2
 * @returns {Promise<Uint8Array | Uint8ClampedArray>} the painted picture, of the photo's size
 */
export async function paintStrokes(paint, photo, width, height, stroke) {
  const ratio = Math.sqrt(AREA / (width * height)) / stroke;
  const own = { width, height }, other = { width: Math.round(width * ratio), height: Math.round(height * ratio) };
  if (own.width === other.width && own.height === other.height) return paint(photo, width, height);
  const [there, back] = ratio < 1 ? [area, cubic] : [cubic, area];
  const small = toBytes(resized(photo, own, other, 4, there));
  const painted = await paint(small, other.width, other.height);
  const whole = toBytes(resized(painted, other, own, 4, back));
  if (ratio < 1) returnDetail(whole, photo, own, painted, small, other);
  return whole;
}

/** Y of each pixel, 0 to 255 (ITU-R BT.601), as OpenCV rounds it. @param {Uint8Array | Uint8ClampedArray} picture */
export function luminance(picture) {
  const grey = new Float32Array(picture.length / 4);
  for (let k = 0, at = 0; k < grey.length; k++, at += 4)
    grey[k] = (4899 * picture[at] + 9617 * picture[at + 1] + 1868 * picture[at + 2] + 8192) >> 14;
  return grey;
}

/** Add differences of luminance, one for each pixel, to a picture. @param {Uint8ClampedArray} picture */
export function brighten(picture, differences) {
  for (let k = 0, at = 0; k < differences.length; k++, at++)
    for (const end = at + 3; at < end; at++) picture[at] += differences[k];
}

/** Sharpen `whole`, the enlarged `painted`, by what the photo has and its small copy lacks. */
function returnDetail(whole, photo, own, painted, small, other) {
  const mean = (values) => resized(values, other, other, 1, box);
  const x = luminance(small), y = luminance(painted);
  const [xMean, yMean] = [mean(x), mean(y)];
  const [xx, xy] = [x, y].map((values) => mean(values.map((value, k) => value * x[k])));
  const slope = xx.map((square, k) => {
    const unbound = (xy[k] - xMean[k] * yMean[k]) / (square - xMean[k] * xMean[k] + FLAT);
    return Math.min(Math.max(unbound, -STEEPEST), STEEPEST);
  });
  const slopes = resized(slope, other, own, 1, linear), coarse = toBytes(resized(x, other, own, 1, cubic));
  const before = luminance(whole);
  const after = toBytes(luminance(photo).map((sharp, k) => before[k] + (sharp - coarse[k]) * slopes[k]));
  brighten(whole, before.map((grey, k) => after[k] - grey));
}

// -- resizing: each value is a weighted sum of values of the source, along x and then along y ---------------------

/**
 * What value `k` of a result is made of, as OpenCV has it: [place, weight] of values of a source that is `scale` times as
 * long. `edge(place, last)` is where a place beyond the source lies in it.
 * @typedef {{(k: number, scale: number): number[][], edge: (place: number, last: number) => number}} Kernel
 */

/** Rounded, and between 0 and 255. @param {Float32Array} values */
const toBytes = (values) => new Uint8ClampedArray(values);

/** @param {ArrayLike<number>} values [height, width, channels] @param {Kernel} kernel */
function resized(values, from, to, channels, kernel) {
  const wide = along(new Float32Array(values), from.height, from.width, to.width, channels, kernel);
  return along(wide, 1, from.height, to.height, to.width * channels, kernel);
}

/** Along the middle one of three axes: [outer, from, inner] to [outer, to, inner]. */
function along(values, outer, from, to, inner, kernel) {
  const taps = Array.from({ length: to }, (_, k) => kernel(k, from / to));
  const count = Math.max(...taps.map((some) => some.length));
  const places = new Int32Array(to * count), weights = new Float32Array(to * count);
  taps.forEach((some, k) =>
    some.forEach(([place, weight], tap) => {
      places[k * count + tap] = kernel.edge(place, from - 1) * inner;
      weights[k * count + tap] = weight;
    }),
  );
  const result = new Float32Array(outer * to * inner);
  for (let o = 0, at = 0; o < outer; o++)
    for (let first = 0; first < to * count; first += count)
      for (let i = o * from * inner, end = i + inner; i < end; i++) {
        let sum = 0;
        for (let tap = first; tap < first + count; tap++) sum += weights[tap] * values[i + places[tap]];
        result[at++] = sum;
      }
  return result;
}

const clamped = (place, last) => Math.min(Math.max(place, 0), last);
const reflected = (place, last) => last - Math.abs(last - Math.abs(place));

/** @param {(t: number) => number[]} weights of the values around a place that is t of the way from one to the next */
const around = (weights) => (k, scale) => {
  const place = (k + 0.5) * scale - 0.5, before = Math.floor(place), some = weights(place - before);
  return some.map((weight, tap) => [before + 1 - some.length / 2 + tap, weight]);
};
const linear = Object.assign(around((t) => [1 - t, t]), { edge: clamped });
const cubic = Object.assign(around((t) => [far(1 + t), near(t), near(1 - t), far(2 - t)]), { edge: clamped });

/** Keys' cubic convolution with a = -0.75 (1981), at a distance below 1 and at one from 1 to 2. */
const near = (x) => (1.25 * x - 2.25) * x * x + 1;
const far = (x) => ((-0.75 * x + 3.75) * x - 6) * x + 3;

/** The mean of what a value covers. */
const area = Object.assign(
  (k, scale) => {
    const begin = k * scale, end = begin + scale, first = Math.floor(begin);
    const covered = (place) => (Math.min(place + 1, end) - Math.max(place, begin)) / scale;
    return Array.from({ length: Math.ceil(end) - first }, (_, tap) => [first + tap, covered(first + tap)]);
  },
  { edge: clamped },
);

/** The mean of a window. */
const box = Object.assign((k) => Array.from({ length: WINDOW }, (_, tap) => [k + tap - (WINDOW >> 1), 1 / WINDOW]), {
  edge: reflected,
});
