// Paints one photo with model files in a JavaScript build of ONNX Runtime, at each strength:
//   node stylize.cjs LIBRARY PHOTO HEIGHT WIDTH OUTPUT MODEL...
// PHOTO holds the bytes of RGB pixels; OUTPUT, a folder, gets STYLE-STRENGTH for each picture, the same way.
const fs = require("fs");
const path = require("path");

async function main([library, photo, height, width, output, ...models]) {
  const ort = require(library);
  if (library !== "onnxruntime-node") ort.env.wasm.numThreads = 1;
  const options = { executionProviders: [library === "onnxruntime-node" ? "cpu" : "wasm"] };
  const image = new ort.Tensor("uint8", new Uint8Array(fs.readFileSync(photo)), [1, Number(height), Number(width), 3]);
  for (const model of models) {
    const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)), options);
    for (const strength of [0, 0.5, 1]) {
      const { stylized } = await session.run({ image, strength: new ort.Tensor("float32", [strength], [1]) });
      if (String(stylized.dims) !== String(image.dims)) throw new Error(`the picture is ${stylized.dims}`);
      fs.writeFileSync(path.join(output, `${path.parse(model).name}-${strength}`), stylized.data);
    }
  }
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
