//! The signals, effects and owners that the page is made of: Leptos' reactive system. It is used without Leptos itself, whose
//! views this page doesn't have (`ui::el`) and which brings along a part that speaks to its own kind of server.

pub use reactive_graph::{
    effect::{Effect, RenderEffect},
    graph::untrack,
    owner::{LocalStorage, Owner, StoredValue, on_cleanup, provide_context, use_context},
    prelude::*,
    signal::RwSignal,
};
use wasm_bindgen::{JsCast, UnwrapThrowExt, closure::Closure};
use web_sys::{Document, Event, HtmlInputElement, Window};

/// Runs the page under an owner that never ends.
pub fn start(page: impl FnOnce()) {
    // Fails only if it was done before.
    let _ = any_spawner::Executor::init_wasm_bindgen();
    let owner = Owner::new();
    owner.with(page);
    std::mem::forget(owner);
}

/// The browser's window.
pub fn window() -> Window {
    web_sys::window().unwrap_throw()
}

/// The page's document.
pub fn document() -> Document {
    window().document().unwrap_throw()
}

/// What an event happened to.
pub fn event_target<T: JsCast>(event: &Event) -> T {
    event.target().unwrap_throw().unchecked_into()
}

/// What is in the input that an event happened to.
pub fn event_target_value(event: &Event) -> String {
    event_target::<HtmlInputElement>(event).value()
}

/// Whether the box that an event happened to is ticked.
pub fn event_target_checked(event: &Event) -> bool {
    event_target::<HtmlInputElement>(event).checked()
}

/// Does something once all that runs now has ended, before the browser draws.
pub fn queue_microtask(act: impl FnOnce() + 'static) {
    window().queue_microtask(Closure::once_into_js(act).unchecked_ref());
}
