//! `window.__drydock`, by which browser tests read terminals: xterm.js draws no text that can be read from outside when
//! it draws by WebGL. Only there when the page was opened with `?test` or localStorage holds `drydock.test` = `1`.

use super::session::SessionStore;
use crate::browser;
use drydock_protocol::TerminalId;
use js_sys::Reflect;
use wasm_bindgen::{JsValue, prelude::Closure};

/// Puts it into the window: `__drydock.term(id)` is a terminal's xterm.js or undefined.
pub fn give(session: SessionStore) {
    let term = Closure::<dyn Fn(u32) -> JsValue>::new(move |id: u32| {
        session.view(TerminalId(id)).map_or(JsValue::UNDEFINED, |view| view.xterm().clone().into())
    });
    let access = browser::object(&[("term", term.into_js_value())]);
    let _ = Reflect::set(&browser::window(), &JsValue::from_str("__drydock"), &access);
}
