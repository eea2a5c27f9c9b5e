/** The views of the page, Paint, Train and Convert, by the part of its address after #. */

/**
 * @typedef {object} View
 * @property {() => void} [shown]
 * @property {() => void} [left]
 * @property {(dropped: DataTransfer) => void} [dropped] files were dropped, or pasted
 */

/** @type {Map<string, View>} */
const views = new Map();
let current = "paint";

/** @param {string} name @param {View} view */
export function addView(name, view) {
  views.set(name, view);
}

/** Whether this view is the one that is seen. */
export const isShown = (name) => current === name && !document.hidden;

/** Give the files that are chosen in a field to `take`. The field forgets them, so that the same can be chosen again. */
export function whenChosen(field, take) {
  field.onchange = () => {
    const files = [...field.files];
    field.value = "";
    take(files);
  };
}

const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Follow the address from now on, and show the links to the views where there are several. */
export function followAddress() {
  element("views").hidden = views.size < 2;
  window.addEventListener("hashchange", show);
  show();
}

function show() {
  const wanted = location.hash.slice(1);
  const before = current;
  current = views.has(wanted) ? wanted : "paint";
  for (const name of views.keys()) element(name).hidden = name !== current;
  element("status").hidden = current !== "paint";
  for (const link of document.querySelectorAll("#views a")) {
    if (link.getAttribute("href") === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (before !== current) views.get(before)?.left?.();
  views.get(current)?.shown?.();
}

document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer?.types.includes("Files")) views.get(current)?.dropped?.(event.dataTransfer);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) views.get(current)?.dropped?.(event.clipboardData);
});
