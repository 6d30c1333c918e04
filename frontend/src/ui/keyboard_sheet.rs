//! The keyboard map, opened by `?` outside of a terminal. The keys themselves are decided in `logic::keys`.

use super::dialog::dialog;
use super::el::{El, el, group};
use crate::browser;
use crate::reactive::*;

const EVERYWHERE: [(&str, &str); 3] = [
    ("F6 / Shift+F6", "next area, area before (in a terminal: unless a full-screen program runs)"),
    ("?", "this map (outside of terminals)"),
    ("Escape", "close a dialog; outside of terminals: dismiss messages"),
];
const TERMINAL: [(&str, &str); 13] = [
    ("Ctrl+Shift+Escape", "leave the terminal: the focus goes to its tab"),
    ("Ctrl+Shift+arrows", "the pane on that side; at the edge out of the terminals"),
    ("Ctrl+Shift+Enter", "new terminal on the same node"),
    ("Ctrl+Shift+E", "split to the right"),
    ("Ctrl+Shift+O", "split downwards"),
    ("Ctrl+C", "copy, if text is selected; else to the program"),
    ("Ctrl+Shift+C", "copy"),
    ("Ctrl+Shift+V", "paste"),
    ("Ctrl+Insert / Shift+Insert", "copy / paste"),
    ("Shift+PageUp / PageDown", "earlier output, later output"),
    ("Ctrl+Shift+F", "find in the terminal"),
    ("Ctrl+Shift+plus / minus / 0", "size of letters"),
    ("Enter", "start a new shell, when the old one has ended"),
];
const TABS: [(&str, &str); 4] = [
    ("← → Home End", "other tabs"),
    ("Enter or ↓", "into the terminal"),
    ("Delete", "close the terminal"),
    ("arrows on a line between panes", "move it; Enter puts it back"),
];

/// The sheet.
pub fn keyboard_sheet(open: RwSignal<bool>) -> El {
    let section = |title: &'static str, keys: &'static [(&'static str, &'static str)]| {
        let rows = keys
            .iter()
            .map(|(key, what)| {
                let key = if browser::is_mac() && *key == "Ctrl+C" { "Command+C" } else { key };
                el("div").child(el("dt").child(el("kbd").text(key))).child(el("dd").text(*what))
            })
            .collect::<Vec<_>>();
        group().child(el("h3").text(title)).child(el("dl").class("keys").children(rows))
    };
    let content = group()
        .child(section("Everywhere", &EVERYWHERE))
        .child(section("In a terminal", &TERMINAL))
        .child(section("On tabs and lines", &TABS));
    dialog(open, "Keyboard map", "keyboard-sheet", content)
}
