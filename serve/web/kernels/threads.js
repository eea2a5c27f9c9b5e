/** How threads share a program: each makes its part of the rows of every call, and waits for the others after it. */

/** The control block, of four numbers: where the program is, how many were started, threads that wait, calls that are over. */
const PROGRAM = 0, STARTED = 1, ARRIVED = 2, OVER = 3;
const SPINS = 2000; // looks at the others' work before a thread sleeps
const PATIENCE = 20_000; // ms; longer than any call takes

/**
 * What threads have in common.
 * @typedef {{memory: WebAssembly.Memory, kernels: CallableFunction[], control: Int32Array, threads: number}} Team
 */

/** Run a program, whose place in memory this is, with all threads. @param {Team} team @param {number} program */
export function lead(team, program) {
  Atomics.store(team.control, PROGRAM, program);
  Atomics.add(team.control, STARTED, 1);
  Atomics.notify(team.control, STARTED);
  work(team, program, 0);
}

/** Share in every program that is started; for ever. @param {Team} team @param {number} thread 1 or more */
export function follow(team, thread) {
  for (let seen = 0; ; seen++) {
    Atomics.wait(team.control, STARTED, seen);
    work(team, Atomics.load(team.control, PROGRAM), thread);
  }
}

/** @param {Team} team */
function work({ memory, kernels, control, threads }, program, thread) {
  const numbers = new Float64Array(memory.buffer, program);
  for (let at = 0, isLast = false; !isLast; ) {
    const rows = numbers[at + 1], end = at + 3 + numbers[at + 2];
    const from = Math.floor((rows * thread) / threads), to = Math.floor((rows * (thread + 1)) / threads);
    kernels[numbers[at]](...numbers.subarray(at + 3, end), from, to);
    isLast = numbers[end] < 0; // once all threads are here, another program may take its place
    if (threads > 1) meet(control, threads);
    at = end;
  }
}

/** Go on once every thread is here. @param {Int32Array} control */
function meet(control, threads) {
  const over = Atomics.load(control, OVER);
  if (Atomics.add(control, ARRIVED, 1) === threads - 1) {
    Atomics.store(control, ARRIVED, 0);
    Atomics.add(control, OVER, 1);
    Atomics.notify(control, OVER);
    return;
  }
  for (let k = 0; k < SPINS; k++) if (Atomics.load(control, OVER) !== over) return;
  if (Atomics.wait(control, OVER, over, PATIENCE) === "timed-out") throw new Error("A thread has stopped: reload the page.");
}
