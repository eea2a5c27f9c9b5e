/** What the studio on this machine does for the page; there is none behind a page on a web host. */

const GONE = "The studio does not answer. Start allaprima studio again: what was at work goes on where it was.";

/**
 * Ask the studio; its answer is JSON, or null.
 * @param {string} path @param {RequestInit} [request]
 */
export async function ask(path, request) {
  let answer;
  try {
    answer = await fetch(`studio/${path}`, request);
  } catch {
    throw new Error(GONE);
  }
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(said?.error ?? `The studio could not do that (${answer.status}).`);
  return said;
}

/** Whether there is a studio behind this page. */
export const hasStudio = () => fetch("studio/trainings").then((answer) => answer.ok, () => false);

/** A time in words. @param {number} seconds */
export function inWords(seconds) {
  if (seconds < 50) return `${Math.max(5, 5 * Math.round(seconds / 5))} seconds`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return minutes === 1 ? "1 minute" : `${minutes} minutes`;
  return `${(minutes / 60).toFixed(1)} hours`;
}

/**
 * An element with properties and children.
 * @param {string} tag @param {object} [properties] @param {(Node | string)[]} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Call `look` again and again: often while `often()`, rarely otherwise, never while the page is hidden. */
export async function keepLooking(look, often) {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, often() ? 1000 : 5000));
  }
}
