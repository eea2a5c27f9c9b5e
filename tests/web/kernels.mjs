// Paints photos with the kernels of the page, on one thread:
//   node kernels.mjs FOLDER_OF_KERNELS VARIANT MODEL OUTPUT PHOTO:WIDTH:HEIGHT...
// VARIANT: "simd", or "relaxed" where node knows relaxed SIMD. PHOTO holds the bytes of RGBA pixels; OUTPUT, a folder, gets a file
// of the same name for each. Prints "unsupported" where the kernels don't know the network.
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, variant, model, output, ...photos] = process.argv.slice(2);
const { Painter, Unsupported } = await import(pathToFileURL(join(folder, "painter.js")));
const painter = await Painter.start(1, async (name) => readFileSync(join(folder, name.replace("relaxed", variant))));
try {
  painter.load(new Uint8Array(readFileSync(model)));
} catch (error) {
  if (!(error instanceof Unsupported)) throw error;
  console.log("unsupported");
  process.exit(0);
}
for (const photo of photos) {
  const [file, width, height] = photo.split(":");
  const bytes = new Uint8Array(readFileSync(file));
  painter.paint(bytes.map((value) => 255 - value), Number(width), Number(height)); // nothing of another photo stays
  writeFileSync(join(output, basename(file)), painter.paint(bytes, Number(width), Number(height)));
}
