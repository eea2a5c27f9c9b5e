/** The wall on the user's own photo: a thumbnail in each style, one after the other, while there is nothing else to do. */
import { Engine } from "./engine.js";
import { draw } from "./sources.js";

const SIDE = 200; // px, long side of a thumbnail
const WAIT = 300; // ms until it is asked again whether there is nothing else to do

let latest = 0;

/**
 * Paint the photo into the pictures, each in its style. A later call takes the place of one that is under way.
 * @param {CanvasImageSource} photo @param {number} width @param {number} height of the photo
 * @param {{file: string}[]} styles @param {HTMLImageElement[]} pictures @param {() => boolean} isBusy
 */
export async function paintThumbnails(photo, width, height, styles, pictures, isBusy) {
  const mine = ++latest;
  const scale = SIDE / Math.max(width, height);
  [width, height] = [width, height].map((side) => Math.max(16, Math.round(scale * side)));
  const small = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d"));
  draw(context, photo);
  const pixels = context.getImageData(0, 0, width, height).data;
  const engine = Object.assign(new Engine(), { threads: 1 });
  try {
    for (const [k, { file }] of styles.entries()) {
      do await new Promise((resolve) => setTimeout(resolve, WAIT));
      while (mine === latest && isBusy());
      if (mine !== latest) return;
      await engine.load(file, width, height);
      const { painted } = await engine.paint(pixels.slice().buffer, width, height, { strength: 1 });
      context.putImageData(new ImageData(new Uint8ClampedArray(painted), width, height), 0, 0);
      const picture = await small.convertToBlob({ type: "image/jpeg", quality: 0.9 });
      if (pictures[k].src.startsWith("blob:")) URL.revokeObjectURL(pictures[k].src);
      pictures[k].src = URL.createObjectURL(picture);
    }
  } finally {
    engine.worker.terminate();
  }
}
