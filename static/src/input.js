// What goes into a terminal and that xterm.js does not do itself.

/**
 * Text that is pasted loses what would be keys, above all the end of the brackets that programs have it in: else a page could
 * have a command run by what is copied from it. Tabs and ends of lines stay.
 */
function cleanPaste(terminal, parent) {
  parent.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    const clean = text.replace(/[^\P{Cc}\t\n\r]/gu, "");
    if (clean === text) return;
    event.preventDefault();
    event.stopPropagation();
    if (!terminal.options.disableStdin) terminal.paste(clean);
  }, true);
}

/** A finger scrolls, as a wheel does: the history, or what runs on the whole screen. */
function followTouch(terminal, parent) {
  const screen = terminal.element.querySelector(".xterm-screen");
  let last;
  let across;
  let part = 0;
  parent.addEventListener("touchstart", ({ touches }) => {
    // Two fingers are the browser's: they make the page larger.
    last = touches.length === 1 ? touches[0].clientY : undefined;
    across = touches[0].clientX;
    part = 0;
  }, { passive: true });
  parent.addEventListener("touchmove", (event) => {
    if (last === undefined || event.touches.length !== 1) return;
    event.preventDefault();
    const { clientX, clientY } = event.touches[0];
    // What a viewer's pane has no room for comes into sight first.
    const { scrollTop } = parent;
    parent.scrollBy(across - clientX, last - clientY);
    across = clientX;
    if (parent.scrollTop !== scrollTop) {
      last = clientY;
      return;
    }
    part += (last - clientY) / (screen.clientHeight / terminal.rows);
    last = clientY;
    const lines = Math.trunc(part);
    part -= lines;
    if (terminal.buffer.active.type === "normal" && terminal.modes.mouseTrackingMode === "none") {
      terminal.scrollLines(lines);
      return;
    }
    // xterm.js makes one report or one arrow key of a wheel's turn; its own scrolling, further in, shall not see it.
    for (let i = 0; i < Math.abs(lines); i++) {
      terminal.element.dispatchEvent(new WheelEvent("wheel", {
        cancelable: true, clientX, clientY, deltaY: Math.sign(lines), deltaMode: WheelEvent.DOM_DELTA_LINE,
      }));
    }
  }, { passive: false });
}

/**
 * Called once for a terminal that is on the screen, inside `parent`. `typed` is called before xterm.js gives out keys or pasted text;
 * not before what it answers to programs by itself.
 */
export function equip(terminal, parent, typed) {
  cleanPaste(terminal, parent);
  followTouch(terminal, parent);
  // xterm.js tells this only inside.
  terminal._core?.coreService?.onUserInput?.(typed);
}
