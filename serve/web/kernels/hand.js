/** A worker that is one more thread of a painter. */
import { KERNELS } from "./program.js";
import { follow } from "./threads.js";

onmessage = ({ data: { module, memory, control, thread, threads } }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const kernels = KERNELS.map((name) => /** @type {CallableFunction} */ (exports[name]));
  postMessage("ready");
  follow({ memory, kernels, control, threads }, thread);
};
