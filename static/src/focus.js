// Where the focus goes. It is asked of the browser itself: an element that does not show takes none, whatever its attributes say.
const FOCUSABLE = "a[href], button:not(:disabled, [tabindex='-1']), input, select, textarea, [contenteditable='true'], [tabindex='0']";
const inside = (element) => [...element.querySelectorAll(FOCUSABLE)];
const take = (element) => {
  element.focus();
  return document.activeElement === element;
};

/** True if nothing has the focus. */
export const focusIsLost = () => !document.activeElement || document.activeElement === document.body;

/** Puts the focus on the first element that matches and can have it; tells whether there was one. */
export const focusFirst = (selector) => [...document.querySelectorAll(selector)].some(take);

/** Called before a part of the page goes: if the focus is in it, that goes to what has come in its stead, or to a neighbour. */
export function keepFocus(part) {
  const lost = document.activeElement;
  if (focusIsLost() || !part.contains(lost)) return;
  // What is around it, from the inside out, and which of the things there had the focus. What holds the whole page is left out:
  // another page begins at its top.
  const around = [];
  for (let up = part.parentElement; up && up !== document.body; up = up.parentElement) around.push([up, inside(up).indexOf(lost)]);
  // After all that is drawn anew has been, and after whoever asked for the focus.
  setTimeout(() => {
    const name = lost.dataset.testid;
    if (!focusIsLost() || (name && focusFirst(`[data-testid="${CSS.escape(name)}"]`))) return;
    around.some(([element, at]) => {
      const things = inside(element);
      const after = things.splice(Math.max(at, 0));
      return [...after, ...things.reverse()].some(take) || (element.hasAttribute("tabindex") && take(element));
    });
  });
}

/** Brings an element into sight once it is drawn. */
export const bringToSight = (element) => setTimeout(() => element.scrollIntoView({ block: "nearest", inline: "nearest" }));

/** Keeps the tab of a list that shows in sight, whatever room the list is given. */
export const keepTabInSight = (list) =>
  new ResizeObserver(() => list.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" })).observe(list);

/** Moves the lines of a terminal that has less room than its size, so that the one with the cursor is in sight. */
export function bringCursorToSight({ element, rows, buffer }) {
  const host = element?.parentElement;
  if (host) host.scrollTop = ((buffer.active.cursorY + 1) * element.querySelector(".xterm-screen").clientHeight) / rows - host.clientHeight;
}
