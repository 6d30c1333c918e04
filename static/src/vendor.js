// The part of the first load that comes from npm: the terminal emulator and its add-ons, as the global `vendor`
// (bound in frontend/src/term/vendor.rs). Besides it holds the few things that are shorter in JavaScript than through
// bindings. No logic of the page belongs here.
import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11/src/Unicode11Addon.ts";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";

export { FitAddon, Terminal, Unicode11Addon, WebLinksAddon };
export { drawSelectionIfAny, holdPicture, inSystemColours } from "./drawing.js";
export { bringCursorToSight, bringToSight, focusFirst, focusIsLost, keepFocus, keepTabInSight } from "./focus.js";
export { equip } from "./input.js";
export { Socket } from "./socket.js";

/** The text editor (CodeMirror), fetched on first use. */
export const loadEditor = () => import(EDITOR_URL);

/** Runs a command in a node; how is fetched on first use. */
export const run = async (path, command) => (await import(RUN_URL)).run(path, command.split(" "));

/** Search in a terminal, fetched on first use. */
export const loadSearch = () => import(SEARCH_URL);

/** The WebGL renderer, fetched on first use. */
export const loadWebgl = () => import(WEBGL_URL);

/** True if WebGL is drawn by a graphics card: software WebGL is slower than the DOM renderer. */
export function hasGpu() {
  const canvas = document.createElement("canvas");
  const gl = canvas.getContext("webgl2");
  if (!gl) return false;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/SwiftShader|llvmpipe|softpipe|Basic Render|Software/i.test(name);
}

/** Copies text; also where the page is not a secure context and `navigator.clipboard` is missing. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = document.createElement("textarea");
    const before = document.activeElement;
    box.value = text;
    box.className = "copy-box";
    // Inside an open modal dialog the rest of the page is inert, so the box has to be in it.
    (document.querySelector("dialog[open]") ?? document.body).append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    before?.focus?.({ preventScroll: true });
    return done;
  }
}

/** The files that were dropped, without folders, which look like files but can't be read. */
export const droppedFiles = ({ items, files }) => {
  const isFolder = [...items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.()?.isDirectory);
  return [...files].filter((_, i) => !isFolder[i]);
};

// The theme that was chosen is set before the first paint of the page's own parts.
try {
  const theme = JSON.parse(localStorage.getItem("drydock.settings") ?? "{}").theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* no storage: the system's theme */ }

if (typeof WebAssembly !== "object") {
  document.getElementById("boot")?.replaceChildren(
    "This browser has no WebAssembly, which Drydock needs. Please open this page in a current Firefox, Chrome, Edge or Safari.",
  );
}
