/** What the studio on this machine does for the page; there is none behind a page on a web host. */

const GONE = "The studio does not answer. Start allaprima studio again:";
const KEPT = "trainings go on where they were.";
const NOT_KEPT = "then drop the files once more, since it keeps none of them, nor of their results, when it ends.";

/**
 * Ask the studio; its answer is JSON, or null.
 * @param {string} path @param {RequestInit} [request]
 */
export async function ask(path, request) {
  let answer;
  try {
    answer = await fetch(`studio/${path}`, request);
  } catch {
    throw new Error(`${GONE} ${path.startsWith("conversions") ? NOT_KEPT : KEPT}`);
  }
  const said = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(said?.error ?? `The studio could not do that (${answer.status}).`);
  return said;
}

/** Whether there is a studio behind this page. */
export const hasStudio = () => fetch("studio/trainings").then((answer) => answer.ok, () => false);

/** The name of a style as people read it. @param {string} name */
export const readable = (name) => name.replaceAll("_", " ");

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

/**
 * How a view follows the studio.
 * @param {() => Promise<void>} refresh shows how things are @param {HTMLElement} message where it says what goes wrong
 */
export function following(refresh, message) {
  let troubled = false;

  /** @param {string} text */
  function tell(text) {
    message.textContent = text;
    message.hidden = !text;
  }

  /** See how things are; what goes wrong in that is told until it goes well again. */
  async function look() {
    try {
      await refresh();
      if (troubled) tell("");
      troubled = false;
    } catch (error) {
      troubled = true;
      tell(error.message);
    }
  }

  /** Do what a button asks for, and look at once what came of it. @param {() => Promise<any>} work */
  async function order(work) {
    try {
      tell("");
      await work();
    } catch (error) {
      tell(error.message);
    }
    await look();
  }

  return { tell, look, order };
}

/**
 * The cards of a list as its items are now. A card stays the same element, so that the focus stays where it is.
 * @param {HTMLElement} list @param {{id: string}[]} items
 * @param {(item: any) => HTMLElement} newCard @param {(card: HTMLElement, item: any) => HTMLElement} refreshed
 */
export function layCards(list, items, newCard, refreshed) {
  const shown = /** @type {HTMLElement[]} */ ([...list.children]);
  const cards = new Map(shown.map((card) => [card.dataset.id, card]));
  const wanted = items.map((item) => refreshed(cards.get(item.id) ?? newCard(item), item));
  if (wanted.some((card, k) => list.children[k] !== card) || cards.size !== wanted.length) list.replaceChildren(...wanted);
}
