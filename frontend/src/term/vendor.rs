//! Bindings to the global `vendor` that static/src/vendor.js makes: xterm.js, its add-ons and the lazy parts.

use js_sys::{Array, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{DataTransfer, Element, HtmlTextAreaElement};

#[wasm_bindgen]
extern "C" {
    /// xterm.js' `Terminal`.
    #[wasm_bindgen(js_namespace = vendor)]
    #[derive(Clone)]
    pub type Terminal;
    #[wasm_bindgen(constructor, js_namespace = vendor)]
    pub fn new(options: &JsValue) -> Terminal;
    #[wasm_bindgen(method)]
    pub fn open(this: &Terminal, parent: &Element);
    #[wasm_bindgen(method)]
    pub fn write(this: &Terminal, data: &Uint8Array, done: &JsValue);
    #[wasm_bindgen(method)]
    pub fn resize(this: &Terminal, cols: u16, rows: u16);
    #[wasm_bindgen(method)]
    pub fn focus(this: &Terminal);
    #[wasm_bindgen(method)]
    pub fn dispose(this: &Terminal);
    #[wasm_bindgen(method, js_name = hasSelection)]
    pub fn has_selection(this: &Terminal) -> bool;
    #[wasm_bindgen(method, js_name = getSelection)]
    pub fn selection(this: &Terminal) -> String;
    #[wasm_bindgen(method, js_name = clearSelection)]
    pub fn clear_selection(this: &Terminal);
    #[wasm_bindgen(method, js_name = loadAddon)]
    pub fn load_addon(this: &Terminal, addon: &JsValue);
    #[wasm_bindgen(method, js_name = onData)]
    pub fn on_data(this: &Terminal, f: &JsValue);
    #[wasm_bindgen(method, js_name = onBinary)]
    pub fn on_binary(this: &Terminal, f: &JsValue);
    #[wasm_bindgen(method, js_name = onBell)]
    pub fn on_bell(this: &Terminal, f: &JsValue);
    #[wasm_bindgen(method, js_name = onRender)]
    pub fn on_render(this: &Terminal, f: &JsValue);
    #[wasm_bindgen(method, js_name = attachCustomKeyEventHandler)]
    pub fn on_key(this: &Terminal, f: &JsValue);
    #[wasm_bindgen(method, getter)]
    pub fn cols(this: &Terminal) -> u16;
    #[wasm_bindgen(method, getter)]
    pub fn rows(this: &Terminal) -> u16;
    #[wasm_bindgen(method, getter)]
    pub fn options(this: &Terminal) -> JsValue;
    #[wasm_bindgen(method, getter)]
    pub fn textarea(this: &Terminal) -> Option<HtmlTextAreaElement>;
    #[wasm_bindgen(method, getter)]
    pub fn parser(this: &Terminal) -> Parser;
    #[wasm_bindgen(method, getter)]
    pub fn buffer(this: &Terminal) -> BufferNamespace;
    #[wasm_bindgen(method, getter)]
    pub fn unicode(this: &Terminal) -> UnicodeHandling;
    #[wasm_bindgen(method, getter)]
    pub fn modes(this: &Terminal) -> Modes;

    /// `Terminal.modes`.
    pub type Modes;
    #[wasm_bindgen(method, getter, js_name = applicationCursorKeysMode)]
    pub fn application_cursor_keys(this: &Modes) -> bool;

    /// `Terminal.unicode`.
    pub type UnicodeHandling;
    #[wasm_bindgen(method, setter, js_name = activeVersion)]
    pub fn set_active_version(this: &UnicodeHandling, version: &str);

    /// `Terminal.buffer`.
    pub type BufferNamespace;
    #[wasm_bindgen(method, getter)]
    pub fn active(this: &BufferNamespace) -> Buffer;

    /// One of a terminal's two screens.
    pub type Buffer;
    #[wasm_bindgen(method, getter, js_name = type)]
    pub fn kind(this: &Buffer) -> String;

    /// `Terminal.parser`.
    pub type Parser;
    #[wasm_bindgen(method, js_name = registerCsiHandler)]
    pub fn csi(this: &Parser, id: &JsValue, f: &JsValue) -> JsValue;
    #[wasm_bindgen(method, js_name = registerDcsHandler)]
    pub fn dcs(this: &Parser, id: &JsValue, f: &JsValue) -> JsValue;
    #[wasm_bindgen(method, js_name = registerOscHandler)]
    pub fn osc(this: &Parser, id: u32, f: &JsValue) -> JsValue;

    /// Tells how many cells fit.
    #[wasm_bindgen(js_namespace = vendor)]
    pub type FitAddon;
    #[wasm_bindgen(constructor, js_namespace = vendor)]
    pub fn new() -> FitAddon;
    #[wasm_bindgen(method, js_name = proposeDimensions)]
    pub fn propose(this: &FitAddon) -> Option<Dimensions>;

    /// Columns and rows; NaN while the font is not measured.
    pub type Dimensions;
    #[wasm_bindgen(method, getter)]
    pub fn cols(this: &Dimensions) -> f64;
    #[wasm_bindgen(method, getter)]
    pub fn rows(this: &Dimensions) -> f64;

    /// Fetches the search.
    #[wasm_bindgen(js_namespace = vendor, js_name = loadSearch)]
    pub fn load_search() -> Promise;
    /// The module of the search.
    pub type SearchModule;
    #[wasm_bindgen(method, getter, js_name = Search)]
    pub fn addon(this: &SearchModule) -> Function;
    /// Finds text in the screen and its history.
    pub type Search;
    #[wasm_bindgen(method)]
    pub fn find(this: &Search, text: &str, back: bool, dark: bool);
    /// Who hears which of how many was found, in words.
    #[wasm_bindgen(method, setter)]
    pub fn set_told(this: &Search, told: &JsValue);
    #[wasm_bindgen(method, js_name = clearDecorations)]
    pub fn clear(this: &Search);

    /// Makes addresses clickable.
    #[wasm_bindgen(js_namespace = vendor)]
    pub type WebLinksAddon;
    #[wasm_bindgen(constructor, js_namespace = vendor)]
    pub fn new(open: &JsValue) -> WebLinksAddon;

    /// Widths of characters by Unicode 11.
    #[wasm_bindgen(js_namespace = vendor)]
    pub type Unicode11Addon;
    #[wasm_bindgen(constructor, js_namespace = vendor)]
    pub fn new() -> Unicode11Addon;

    /// True if a graphics card draws WebGL.
    #[wasm_bindgen(js_namespace = vendor, js_name = hasGpu)]
    pub fn has_gpu() -> bool;
    /// Fetches the WebGL renderer.
    #[wasm_bindgen(js_namespace = vendor, js_name = loadWebgl)]
    pub fn load_webgl() -> Promise;
    /// The module of the WebGL renderer.
    pub type WebglModule;
    #[wasm_bindgen(method, getter, js_name = WebglAddon)]
    pub fn addon(this: &WebglModule) -> Function;
    /// The WebGL renderer.
    #[derive(Clone)]
    pub type WebglAddon;
    #[wasm_bindgen(method, js_name = onContextLoss)]
    pub fn on_context_loss(this: &WebglAddon, f: &JsValue);
    #[wasm_bindgen(method)]
    pub fn dispose(this: &WebglAddon);

    /// A theme with the system's own colours in it, where the system gives the page's colours.
    #[wasm_bindgen(js_namespace = vendor, js_name = inSystemColours)]
    pub fn in_system_colours(theme: &JsValue) -> JsValue;

    /// Whether a terminal draws nothing of what it parses.
    #[wasm_bindgen(js_namespace = vendor, js_name = holdPicture)]
    pub fn hold_picture(terminal: &Terminal, hold: bool);

    /// A terminal that is open draws its selection only while there is one.
    #[wasm_bindgen(js_namespace = vendor, js_name = drawSelectionIfAny)]
    pub fn draw_selection_if_any(terminal: &Terminal);

    /// Moves the lines of a terminal that has less room than its size, so that the one with the cursor is in sight.
    #[wasm_bindgen(js_namespace = vendor, js_name = bringCursorToSight)]
    pub fn bring_cursor_to_sight(terminal: &Terminal);

    /// Cleans what is pasted, lets a finger scroll, and tells apart what people type from what xterm.js answers to programs.
    #[wasm_bindgen(js_namespace = vendor)]
    pub fn equip(terminal: &Terminal, parent: &Element, typed: &JsValue);

    /// The files that were dropped, without folders.
    #[wasm_bindgen(js_namespace = vendor, js_name = droppedFiles)]
    pub fn dropped_files(data: &DataTransfer) -> Array;

    /// Copies text to the clipboard; the promise holds whether it worked.
    #[wasm_bindgen(js_namespace = vendor, js_name = copyText)]
    pub fn copy_text(text: &str) -> Promise;

    /// Runs a command behind a WebSocket of the server; the promise holds what went wrong, or nothing.
    #[wasm_bindgen(js_namespace = vendor)]
    pub fn run(path: &str, command: &str) -> Promise;

    /// Fetches the text editor.
    #[wasm_bindgen(js_namespace = vendor, js_name = loadEditor)]
    pub fn load_editor() -> Promise;
    /// The module of the text editor.
    pub type EditorModule;
    #[wasm_bindgen(method)]
    pub fn open(
        this: &EditorModule,
        parent: &Element,
        text: &str,
        name: &str,
        dark: bool,
        read_only: bool,
        on: &JsValue,
    ) -> Editor;
    /// An open text editor.
    pub type Editor;
    #[wasm_bindgen(method)]
    pub fn text(this: &Editor) -> String;
    #[wasm_bindgen(method)]
    pub fn focus(this: &Editor);
    #[wasm_bindgen(method)]
    pub fn destroy(this: &Editor);
}
