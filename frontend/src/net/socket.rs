//! Binding to `vendor.Socket` (static/src/socket.js): a WebSocket in a worker.

use wasm_bindgen::prelude::*;
use web_sys::EventTarget;

#[wasm_bindgen]
extern "C" {
    /// A WebSocket whose messages come at once, also after a key. Events as a `WebSocket` has them: `open`, `message` with
    /// a string or an `ArrayBuffer`, `close` with a code.
    #[wasm_bindgen(js_namespace = vendor, js_name = Socket, extends = EventTarget)]
    pub type WorkerSocket;
    /// Opens one.
    #[wasm_bindgen(constructor, js_namespace = vendor, js_class = "Socket")]
    pub fn new(url: &str, protocol: &str) -> WorkerSocket;
    /// A string, or a `Uint8Array` that nobody else uses.
    #[wasm_bindgen(method)]
    pub fn send(this: &WorkerSocket, data: &JsValue);
    #[wasm_bindgen(method)]
    pub fn close(this: &WorkerSocket);
    /// As `WebSocket.readyState`.
    #[wasm_bindgen(method, getter, js_name = readyState)]
    pub fn ready_state(this: &WorkerSocket) -> u16;
}
