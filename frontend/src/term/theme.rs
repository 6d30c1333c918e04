//! Colours of the terminals in the light and the dark theme: xterm.js draws with values, not with the style sheet's
//! tokens. Every colour that text is commonly drawn in has a contrast of at least 4.5 to its background.

use super::vendor;
use crate::browser::object;
use wasm_bindgen::JsValue;

const NAMES: [&str; 20] = [
    "background",
    "foreground",
    "cursor",
    "selectionBackground",
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "white",
    "brightBlack",
    "brightRed",
    "brightGreen",
    "brightYellow",
    "brightBlue",
    "brightMagenta",
    "brightCyan",
    "brightWhite",
];

const DARK: [&str; 20] = [
    "#0d1117", "#e6edf3", "#58a6ff", "#264f78", "#484f58", "#ff8078", "#56d364", "#e3b341", "#79b8ff",
    "#d2a8ff", "#56d4dd", "#c9d1d9", "#8b949e", "#ffa198", "#7ee787", "#f2cc60", "#a5d6ff", "#e2c5ff",
    "#b3f0ff", "#ffffff",
];

const LIGHT: [&str; 20] = [
    "#ffffff", "#1f2328", "#0757ba", "#b6d7ff", "#24292f", "#b3141c", "#116329", "#6f4e00", "#0757ba",
    "#7a3ccf", "#0f5f6b", "#57606a", "#4c545d", "#a40e26", "#1a6f35", "#633c01", "#1f63c4", "#7236bf",
    "#1d6470", "#3d444c",
];

/// An xterm.js `ITheme`.
pub fn of(dark: bool) -> JsValue {
    let colours = if dark { DARK } else { LIGHT };
    let fields: Vec<_> = NAMES.into_iter().zip(colours.map(JsValue::from_str)).collect();
    vendor::in_system_colours(&object(&fields))
}
