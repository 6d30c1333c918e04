//! A line between two areas that can be moved: by pointer, by arrow keys, back by a double click or Enter.

use super::parts::{flag, on, text};
use leptos::{html, prelude::*};
use web_sys::{KeyboardEvent, PointerEvent};

/// The line.
#[component]
pub fn Separator(
    /// Its name for tests.
    #[prop(into)]
    testid: String,
    /// What it changes, for screen readers.
    #[prop(into)]
    label: String,
    /// True: it stands upright and moves sideways.
    #[prop(into)]
    upright: Signal<bool>,
    /// True: moving right or down makes the value smaller.
    #[prop(optional)]
    backwards: bool,
    /// Least and greatest value.
    range: (f64, f64),
    /// The value that a double click brings back.
    usual: f64,
    /// The value.
    value: Signal<f64>,
    /// The value for a place of the pointer, in CSS pixels of the window.
    at: Box<dyn Fn((f64, f64)) -> Option<f64>>,
    /// Changes the value.
    set: Callback<f64>,
    /// Where it is, if the style sheet does not say.
    #[prop(optional, into)]
    place: Signal<String>,
) -> impl IntoView {
    let node = NodeRef::<html::Div>::new();
    let (least, most) = range;
    let put = move |value: f64| set.run(value.clamp(least, most));
    let grab = move |event: PointerEvent| {
        if let Some(line) = node.get_untracked().filter(|_| event.button() == 0) {
            event.prevent_default();
            let _ = line.focus();
            let _ = line.set_pointer_capture(event.pointer_id());
        }
    };
    let drag = move |event: PointerEvent| {
        let held = node.get_untracked().is_some_and(|line| line.has_pointer_capture(event.pointer_id()));
        if held && let Some(value) = at((f64::from(event.client_x()), f64::from(event.client_y()))) {
            put(value);
        }
    };
    let key = move |event: KeyboardEvent| {
        let step = (most - least) / if event.shift_key() { 5.0 } else { 40.0 };
        let sign = if backwards { -1.0 } else { 1.0 };
        let now = value.get_untracked();
        match (event.key().as_str(), upright.get_untracked()) {
            ("ArrowLeft", true) | ("ArrowUp", false) => put(now - sign * step),
            ("ArrowRight", true) | ("ArrowDown", false) => put(now + sign * step),
            ("Home", _) => put(least),
            ("End", _) => put(most),
            ("Enter", _) => put(usual),
            _ => return,
        }
        event.prevent_default();
    };
    // Shares are told as percentages, widths in pixels.
    let told = move |v: f64| if most <= 1.0 { format!("{:.0}", v * 100.0) } else { format!("{v:.0}") };
    view! {
        <div
            node_ref=node
            class="separator"
            class:upright=flag(move || upright.get())
            role="separator"
            tabindex="0"
            data-testid=testid
            aria-label=label
            aria-orientation=text(move || if upright.get() { "vertical" } else { "horizontal" })
            aria-valuemin=told(least)
            aria-valuemax=told(most)
            aria-valuenow=text(move || told(value.get()))
            style=text(move || place.get())
            on:pointerdown=on(grab)
            on:pointermove=on(drag)
            on:dblclick=on(move |_| put(usual))
            on:keydown=on(key)
        ></div>
    }
}
