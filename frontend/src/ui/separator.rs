//! A line between two areas that can be moved: by pointer, by arrow keys, back by a double click or Enter.

use super::el::{El, el};
use crate::logic::units::{fixed, within};
use crate::reactive::*;
use std::rc::Rc;
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, KeyboardEvent, MouseEvent, PointerEvent};

/// What a line is for.
pub struct Line {
    /// Its name for tests.
    pub testid: String,
    /// What it changes, for screen readers.
    pub label: Box<dyn Fn() -> String>,
    /// True: it stands upright and moves sideways.
    pub upright: Box<dyn Fn() -> bool>,
    /// True: moving right or down makes the value smaller.
    pub backwards: bool,
    /// Least and greatest value.
    pub range: (f64, f64),
    /// The value that a double click brings back.
    pub usual: f64,
    /// The value.
    pub value: Rc<dyn Fn() -> f64>,
    /// The value for a place of the pointer, in CSS pixels of the window.
    pub at: Box<dyn Fn((f64, f64)) -> Option<f64>>,
    /// Changes the value.
    pub set: Rc<dyn Fn(f64)>,
    /// Where it is, if the style sheet does not say.
    pub place: Box<dyn Fn() -> Option<String>>,
}

/// The line.
pub fn separator(line: Line) -> El {
    let Line { testid, label, upright, backwards, range: (least, most), usual, value, at, set, place } = line;
    let upright: Rc<dyn Fn() -> bool> = upright.into();
    let (upright_now, upright_told) = (upright.clone(), upright.clone());
    let value_now = value.clone();
    let put: Rc<dyn Fn(f64)> = Rc::new(move |value| set(within(value, least, most)));
    let (put_dragged, put_usual) = (put.clone(), put.clone());
    let grab = move |event: PointerEvent| {
        if let Some(line) = line_of(&event).filter(|_| event.button() == 0) {
            event.prevent_default();
            let _ = line.focus();
            let _ = line.set_pointer_capture(event.pointer_id());
        }
    };
    let drag = move |event: PointerEvent| {
        let held = line_of(&event).is_some_and(|line| line.has_pointer_capture(event.pointer_id()));
        if held && let Some(value) = at((f64::from(event.client_x()), f64::from(event.client_y()))) {
            put_dragged(value);
        }
    };
    let key = move |event: KeyboardEvent| {
        let step = (most - least) / if event.shift_key() { 5.0 } else { 40.0 };
        let sign = if backwards { -1.0 } else { 1.0 };
        let now = untrack(|| value_now());
        match (event.key().as_str(), untrack(|| upright_now())) {
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
    let told = move |v: f64| fixed(if most <= 1.0 { v * 100.0 } else { v }, 0);
    el("div")
        .class("separator")
        .class_if("upright", move || upright())
        .attr("role", "separator")
        .attr("tabindex", "0")
        .testid(testid)
        .attr_of("aria-label", label)
        .attr_of("aria-orientation", move || if upright_told() { "vertical" } else { "horizontal" })
        .attr("aria-valuemin", told(least))
        .attr("aria-valuemax", told(most))
        .attr_of("aria-valuenow", move || told(value()))
        .attr_maybe("style", place)
        .on("pointerdown", grab)
        .on("pointermove", drag)
        .on("dblclick", move |_: MouseEvent| put_usual(usual))
        .on("keydown", key)
}

/// The line that an event is about.
fn line_of(event: &PointerEvent) -> Option<HtmlElement> {
    event.current_target()?.dyn_into().ok()
}
