//! The keyboard map, opened by `?` outside of a terminal. The keys themselves are decided in `logic::keys`.

use super::dialog::Dialog;
use crate::browser;
use leptos::prelude::*;

const EVERYWHERE: [(&str, &str); 3] = [
    ("F6 / Shift+F6", "next area, area before (in a terminal: unless a full-screen program runs)"),
    ("?", "this map (outside of terminals)"),
    ("Escape", "close a dialog"),
];
const TERMINAL: [(&str, &str); 12] = [
    ("Ctrl+Shift+Escape", "leave the terminal: the focus goes to its tab"),
    ("Ctrl+Shift+arrows", "the pane on that side; at the edge out of the terminals"),
    ("Ctrl+Shift+Enter", "new terminal on the same node"),
    ("Ctrl+Shift+E", "split to the right"),
    ("Ctrl+Shift+O", "split downwards"),
    ("Ctrl+C", "copy, if text is selected; else to the program"),
    ("Ctrl+Shift+C", "copy"),
    ("Ctrl+Shift+V", "paste"),
    ("Ctrl+Insert / Shift+Insert", "copy / paste"),
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
#[component]
pub fn KeyboardSheet(open: RwSignal<bool>) -> impl IntoView {
    let section = |title: &'static str, keys: &'static [(&'static str, &'static str)]| {
        let rows = keys
            .iter()
            .map(|(key, what)| {
                let key = if browser::is_mac() && *key == "Ctrl+C" { "Command+C" } else { key };
                view! { <div><dt><kbd>{key}</kbd></dt><dd>{*what}</dd></div> }.into_any()
            })
            .collect::<Vec<_>>();
        view! {
            <h3>{title}</h3>
            <dl class="keys">{rows}</dl>
        }
    };
    view! {
        <Dialog open title="Keyboard map" testid="keyboard-sheet">
            {section("Everywhere", &EVERYWHERE)}
            {section("In a terminal", &TERMINAL)}
            {section("On tabs and lines", &TABS)}
        </Dialog>
    }
}
