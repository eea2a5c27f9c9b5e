/** Convert: files and folders into the studio's queue, results out of it. */
import { ask, following, inWords, keepLooking, layCards, make, readable } from "./studio.js";
import { addView, isShown, whenChosen } from "./views.js";

const $ = (id) => /** @type {any} */ (document.getElementById(id));
const STATES = { waiting: "waiting", painting: "painting", done: "done", failed: "failed" };

/** @type {{id: string, name: string, kind: string, style: string, size: number, state: string, done: number, total: number, about: string, result: string | null}[]} */
let conversions = [];
let paused = false;
/** @type {[string, File, object][]} files on their way to the studio, each with its path and how it is to be painted */
const sending = [];
let sent = 0;
/** @type {string[]} */
let leftOut = [];

const { tell, look, order } = following(refresh, $("convert-message"));

// -- files in ---------------------------------------------------------------------------------------------------

/** How the controls say now that files are to be painted. */
const controls = () => ({
  style: $("convert-style").value,
  strength: $("convert-strength").value,
  stroke: $("convert-stroke").value,
  keep_colors: $("convert-colors").checked,
});

/** All files of what was dropped, folders and what is in them too. @param {DataTransfer} dropped */
async function dropped({ items, files }) {
  const how = controls(); // as they are now: to look through folders takes a while
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return send([...files].map((file) => [file.name, file]), how);
  const found = await Promise.all(entries.map(filesOf));
  send(found.flat(), how);
}

/** @returns {Promise<[string, File][]>} */
async function filesOf(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[entry.fullPath.slice(1), file]];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most a hundred
    if (!some.length) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map(filesOf))).flat();
}

/**
 * Send files to the studio, one at a time, after those that are on their way.
 * @param {[string, File][]} files each with its path in the folder it was dropped in @param {object} how
 */
async function send(files, how) {
  const busy = sending.length > 0;
  const seen = files.filter(([path]) => !path.split("/").some((part) => part.startsWith(".")));
  if (!seen.length) return tell("There are no files in what was dropped. Drop or choose photos, clips or a folder that holds some.");
  sending.push(...seen.map(([path, file]) => /** @type {[string, File, object]} */ ([path, file, how])));
  if (busy) return;
  leftOut = [];
  tell("");
  for (sent = 0; sent < sending.length; sent++) {
    const [name, file, asked] = sending[sent];
    try {
      await ask(`conversions?${new URLSearchParams({ name, ...asked })}`, { method: "POST", body: file });
    } catch (error) {
      leftOut.push(error.message);
    }
    await look();
  }
  sending.length = 0;
  await look();
  if (leftOut.length) tell(leftOut.slice(0, 3).join(" ") + (leftOut.length > 3 ? ` And ${leftOut.length - 3} more.` : ""));
}

// -- the queue --------------------------------------------------------------------------------------------------

async function refresh() {
  let left;
  ({ conversions, paused, left } = await ask("conversions"));
  $("queue").hidden = !conversions.length && !sending.length;
  $("queue-none").hidden = !$("queue").hidden;
  $("queue-about").textContent = summary(left);
  const open = conversions.some(({ state }) => state === "waiting" || state === "painting");
  $("pause").hidden = !open && !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("take-all").hidden = !conversions.some(({ result }) => result);
  layCards($("files"), conversions, newCard, refreshed);
}

/** Where the queue is, in words. @param {number | null} left */
function summary(left) {
  const done = conversions.filter(({ state }) => state === "done").length;
  const parts = [`${done} of ${conversions.length} done`];
  if (sending.length) parts.push(`file ${sent + 1} of ${sending.length} is on its way to the studio`);
  if (paused) parts.push("paused");
  else if (left) parts.push(`about ${inWords(left)} left`);
  return `${parts.join(", ")}.`;
}

function newCard({ id, name, style }) {
  const at = `studio/conversions/${id}`;
  const card = make(
    "li",
    { className: "card" },
    make("img", { alt: "", hidden: true }),
    make("h3", { textContent: name }),
    make("div", {}, make("progress", { ariaLabel: `Progress of ${name}` }), make("p", { className: "about" })),
    make(
      "div",
      { className: "row" },
      make("a", { className: "button open", textContent: "Look at it", href: `${at}/result`, target: "_blank" }),
      make("a", { className: "button take", textContent: "Take it", href: `${at}/result?download` }),
      make("button", { className: "cancel", onclick: () => order(() => ask(`conversions/${id}`, { method: "DELETE" })) }),
    ),
  );
  card.dataset.id = id;
  card.dataset.style = readable(style);
  return card;
}

/** The card as the file is now. */
function refreshed(card, { id, state, done, total, kind, about, result }) {
  const part = (name) => card.querySelector(name);
  Object.assign(part("progress"), { hidden: state !== "painting", max: total || 1, value: total ? done : 0 });
  const frames = state === "painting" && kind === "video" && total ? `, frame ${done} of ${total}` : "";
  part(".about").textContent = state === "failed" ? about : `${card.dataset.style}: ${STATES[state]}${frames}. ${about}`;
  if (result && part("img").hidden) Object.assign(part("img"), { src: `studio/conversions/${id}/shown.jpg`, hidden: false });
  part(".open").hidden = part(".take").hidden = !result;
  if (result) part(".take").download = result;
  part(".cancel").textContent = state === "waiting" || state === "painting" ? "Cancel" : "Remove";
  return card;
}

async function removeAll() {
  const kept = conversions.some(({ result }) => result);
  if (kept && !confirm("Remove all files and results here? What you have not taken is gone then.")) return;
  sending.length = 0;
  await ask("conversions", { method: "DELETE" });
}

// -- the view ---------------------------------------------------------------------------------------------------

/** The styles to choose from, those of the wall. */
export function offerStyles(styles) {
  const before = $("convert-style").value;
  $("convert-style").replaceChildren(...styles.map(({ name, server }) => new Option(readable(name), server)));
  if (styles.some(({ server }) => server === before)) $("convert-style").value = before;
}

export function startConvert() {
  addView("convert", { shown: look, dropped });
  for (const picker of [$("pick-files"), $("pick-folder")])
    whenChosen(picker, (files) => send(files.map((file) => [file.webkitRelativePath || file.name, file]), controls()));
  $("convert-strength").oninput = () => ($("convert-strength-value").textContent = `${$("convert-strength").value} %`);
  $("pause").onclick = () => order(() => ask(`conversions/${paused ? "go-on" : "pause"}`, { method: "POST" }));
  window.addEventListener("beforeunload", (event) => sending.length && event.preventDefault());
  $("clear").onclick = () => order(removeAll);
  keepLooking(look, () => isShown("convert"));
}
