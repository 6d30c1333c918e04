// How much xterm.js draws of a flood. Its interface has no switches for that, so this reaches into it; a version that has other insides is
// drawn as xterm.js has it (browser test a_flood_is_drawn_seldom).

/**
 * Whether a terminal draws nothing of what it parses. xterm.js has that for programs (DEC mode 2026, which ends by itself after a
 * second); written into a program's output it could cut a sequence in two, so it is set where xterm.js keeps it.
 */
export function holdPicture(terminal, hold) {
  const modes = terminal._core?.coreService?.decPrivateModes;
  if (!modes || modes.synchronizedOutput === hold) return;
  modes.synchronizedOutput = hold;
  if (!hold) terminal.refresh(0, terminal.rows - 1);
}

/** A terminal's theme; where the system gives the page's colours (forced colours), with those that the page has got. */
export function inSystemColours(theme) {
  if (!matchMedia("(forced-colors: active)").matches) return theme;
  const { backgroundColor: background, color: foreground } = getComputedStyle(document.body);
  return { ...theme, background, foreground, cursor: foreground, cursorAccent: background, selectionBackground: foreground, selectionForeground: background };
}

/**
 * Each time that lines scroll out xterm.js draws the selection anew, and with it the whole screen: needless while there is none. And its
 * DOM renderer remembers the last one for the next resize, also when nothing is selected any more.
 */
export function drawSelectionIfAny(terminal) {
  const service = terminal._core?._renderService;
  const draw = service?.handleSelectionChanged?.bind(service);
  if (!draw) return;
  let shown = false;
  service.handleSelectionChanged = (start, end, columns) => {
    const is = Boolean(start && end);
    if (is || shown) draw(start, end, columns);
    if (!is) service._renderer?.value?._selectionRenderModel?.clear();
    shown = is;
  };
}
