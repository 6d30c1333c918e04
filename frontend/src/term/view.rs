//! One terminal in the page: an xterm.js with its place in the session's output. The store hands frames in
//! ([`View::output`], [`View::snapshot`], [`View::resized`]) and gets back what leaves it as [`Out`]. Nothing waits here:
//! every key goes out in the event that brought it, every frame is written when it comes.

use super::{picture::Picture, theme, vendor};
use crate::{
    browser::{self, object},
    logic::{
        keys::{Action, Key, Situation, action, is_mouse_report},
        stream::{Stream, Take},
        units::within,
    },
    store::settings::Settings,
};
use drydock_protocol::{TerminalId, frame::Size};
use js_sys::{Array, Reflect, Uint8Array};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
};
use wasm_bindgen::{JsCast, JsValue, closure::WasmClosure, prelude::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, KeyboardEvent};

/// DEC private mode by which a program holds the picture while it draws (contour's vt-extensions, "Synchronized Output").
const SYNCHRONIZED_OUTPUT: f64 = 2026.0;

/// Smallest height of letters that fit a viewer's screen to the size of others, in CSS pixels.
const READABLE: f64 = 9.0;

/// What leaves a terminal.
pub enum Out {
    /// Keys or pasted text (`typed`), or what xterm.js answers to programs.
    Input { bytes: Vec<u8>, typed: bool },
    /// Everything before this offset is parsed.
    Ack(u64),
    /// Output is missing: attach again from here.
    Again(Option<u64>),
    /// The program rang the bell.
    Bell,
    /// A key that means something to the page.
    Action(Action),
    /// A key that goes nowhere, since this page may only look.
    Refused,
    /// An address in the output was clicked.
    Link(String),
    /// The first output was parsed.
    FirstParsed,
}

/// What a write that xterm.js has finished means.
enum Done {
    /// Everything before this offset is parsed.
    Parsed(u64),
    /// Earlier output is parsed: the size may change now.
    Resize(Size),
}

/// A terminal.
pub struct View {
    id: TerminalId,
    xterm: vendor::Terminal,
    fit: vendor::FitAddon,
    search: RefCell<Option<vendor::Search>>,
    stream: RefCell<Stream>,
    /// What xterm.js has been given and has not finished, oldest first.
    writes: RefCell<VecDeque<Done>>,
    written: JsValue,
    picture: Rc<Picture>,
    answers: Cell<bool>,
    read_only: Cell<bool>,
    opened: Cell<bool>,
    seen: Cell<bool>,
    /// What comes next was typed.
    typed: Cell<bool>,
    font: Cell<u16>,
    webgl: RefCell<Option<vendor::WebglAddon>>,
    out: Box<dyn Fn(TerminalId, Out)>,
    /// Callbacks that xterm.js holds.
    callbacks: RefCell<Vec<JsValue>>,
}

thread_local! {
    /// Whether WebGL is worth having; found out once, after the first output.
    static GPU: Cell<Option<bool>> = const { Cell::new(None) };
}

impl View {
    /// A terminal that is not on the screen yet; it takes output all the same.
    pub fn new(
        id: TerminalId,
        settings: &Settings,
        dark: bool,
        out: impl Fn(TerminalId, Out) + 'static,
    ) -> Rc<Self> {
        let xterm = take_spare().unwrap_or_else(make_xterm);
        let view = Rc::new_cyclic(|weak: &Weak<Self>| {
            let done = weak.clone();
            Self {
                id,
                fit: vendor::FitAddon::new(),
                search: RefCell::default(),
                stream: RefCell::default(),
                writes: RefCell::default(),
                // Not a `Closure`: xterm.js may call it once more after the terminal is gone.
                written: Closure::<dyn Fn()>::new(move || {
                    if let Some(view) = done.upgrade() {
                        view.on_written();
                    }
                })
                .into_js_value(),
                picture: Picture::new(xterm.clone()),
                answers: Cell::new(false),
                read_only: Cell::new(false),
                opened: Cell::new(false),
                seen: Cell::new(false),
                typed: Cell::new(false),
                font: Cell::new(settings.font_size),
                webgl: RefCell::default(),
                out: Box::new(out),
                callbacks: RefCell::default(),
                xterm,
            }
        });
        view.xterm.load_addon(view.fit.as_ref());
        view.apply(settings, dark);
        view.listen();
        view.watch_picture();
        view.hook_queries();
        view
    }

    /// Its xterm.js.
    pub fn xterm(&self) -> &vendor::Terminal {
        &self.xterm
    }

    /// Puts it on the screen, inside `parent`.
    pub fn open(self: &Rc<Self>, parent: &Element, label: &str) {
        self.xterm.open(parent);
        self.opened.set(true);
        vendor::draw_selection_if_any(&self.xterm);
        let weak = Rc::downgrade(self);
        let typed = Closure::<dyn Fn()>::new(move || {
            if let Some(view) = weak.upgrade() {
                view.typed.set(true);
            }
        });
        vendor::equip(&self.xterm, parent, &self.keep(typed));
        self.set_label(label);
    }

    /// Says what it is to a screen reader.
    pub fn set_label(&self, label: &str) {
        if let Some(textarea) = self.xterm.textarea() {
            let _ = textarea.set_attribute("aria-label", label);
        }
    }

    /// True once it is on the screen.
    pub fn is_open(&self) -> bool {
        self.opened.get()
    }

    /// Takes over what the learner chose.
    pub fn apply(&self, settings: &Settings, dark: bool) {
        self.font.set(settings.font_size);
        self.set_option("theme", &theme::of(dark));
        // Programs choose colours for other screens than this; xterm.js mends what can't be read.
        self.set_option("minimumContrastRatio", &JsValue::from_f64(4.5));
        self.set_option("fontSize", &JsValue::from_f64(settings.font_size.into()));
        self.set_option("screenReaderMode", &JsValue::from_bool(settings.screen_reader));
    }

    /// A viewer's keys go nowhere.
    pub fn set_read_only(&self, yes: bool) {
        self.read_only.set(yes);
        self.set_option("disableStdin", &JsValue::from_bool(yes));
        self.set_option("cursorBlink", &JsValue::from_bool(!yes));
    }

    /// Whether this page answers what programs ask the terminal.
    pub fn set_answers(&self, yes: bool) {
        self.answers.set(yes);
    }

    /// The first byte that this page lacks.
    pub fn from(&self) -> Option<u64> {
        self.stream.borrow().from()
    }

    /// The connection is new.
    pub fn reconnected(&self) {
        self.stream.borrow_mut().reconnected();
    }

    /// Output arrived.
    pub fn output(&self, offset: u64, bytes: &Uint8Array) {
        let take = self.stream.borrow_mut().output(offset, bytes.length() as usize);
        match take {
            Take::Write { skip, end } => {
                self.write(&bytes.subarray(skip as u32, bytes.length()), Done::Parsed(end));
            }
            Take::Gap => (self.out)(self.id, Out::Again(self.from())),
            Take::Nothing | Take::Wait => {}
        }
    }

    /// The whole screen arrived.
    pub fn snapshot(&self, offset: u64, size: Size, bytes: &Uint8Array) {
        self.stream.borrow_mut().snapshot(offset);
        self.resized(size);
        self.write(bytes, Done::Parsed(offset));
    }

    /// Everybody shows this size from here on.
    pub fn resized(&self, size: Size) {
        let size = size.clamped();
        if self.writes.borrow().is_empty() {
            self.resize_now(size);
        } else {
            // What was printed for the old size is parsed with the old size.
            self.write(&Uint8Array::new_with_length(0), Done::Resize(size));
        }
    }

    /// How many cells there is room for; `None` while it is not on the screen.
    pub fn room(&self) -> Option<Size> {
        let d = self.opened.get().then(|| self.fit.propose()).flatten()?;
        let usable = d.cols().is_finite() && d.rows().is_finite() && d.cols() >= 1.0 && d.rows() >= 1.0;
        usable.then(|| Size { cols: d.cols() as u16, rows: d.rows() as u16 })
    }

    /// A viewer does not count for the size, so its letters become as small as the size of the others needs; not so small that
    /// nobody can read them: then the pane scrolls.
    pub fn shrink_to_fit(&self) {
        let Some(room) = self.room() else { return };
        let now = Reflect::get(&self.xterm.options(), &"fontSize".into()).ok().and_then(|v| v.as_f64());
        let now = now.unwrap_or(f64::from(self.font.get()));
        let ratio = (f64::from(room.cols) / f64::from(self.xterm.cols()))
            .min(f64::from(room.rows) / f64::from(self.xterm.rows()));
        let font = (now * ratio).floor();
        let chosen = f64::from(self.font.get());
        let font = within(font, chosen.min(READABLE), chosen);
        if (font - now).abs() >= 1.0 {
            self.set_option("fontSize", &JsValue::from_f64(font));
        }
    }

    /// Puts the focus into it.
    pub fn focus(&self) {
        self.xterm.focus();
    }

    /// True if it has the focus.
    pub fn has_focus(&self) -> bool {
        let textarea = self.xterm.textarea();
        textarea.is_some_and(|textarea| browser::focused().is_some_and(|focused| **textarea == focused))
    }

    /// The selected text, if there is any.
    pub fn selection(&self) -> Option<String> {
        self.xterm.has_selection().then(|| self.xterm.selection()).filter(|text| !text.is_empty())
    }

    /// Nothing is selected any more.
    pub fn clear_selection(&self) {
        self.xterm.clear_selection();
    }

    /// True if arrow keys are sent in their application form (vim, less).
    pub fn application_cursor_keys(&self) -> bool {
        self.xterm.modes().application_cursor_keys()
    }

    /// Fetches the search and calls `ready`; `told` hears what is found from then on, in words.
    pub fn load_search(self: &Rc<Self>, told: impl Fn(String) + 'static, ready: impl FnOnce() + 'static) {
        let weak = Rc::downgrade(self);
        spawn_local(async move {
            let module = JsFuture::from(vendor::load_search()).await;
            if let (Ok(module), Some(view)) = (module, weak.upgrade()) {
                view.use_search(module.unchecked_ref());
                if let Some(search) = view.search.borrow().as_ref() {
                    search.set_told(&Closure::<dyn Fn(String)>::new(told).into_js_value());
                }
                ready();
            }
        });
    }

    fn use_search(&self, module: &vendor::SearchModule) {
        if self.search.borrow().is_some() {
            return;
        }
        let Ok(addon) = Reflect::construct(&module.addon(), &Array::new()) else { return };
        self.xterm.load_addon(&addon);
        self.search.replace(Some(addon.unchecked_into()));
    }

    /// Finds text, once the search is there.
    pub fn find(&self, text: &str, back: bool, dark: bool) {
        if let Some(search) = self.search.borrow().as_ref() {
            search.find(text, back, dark);
        }
    }

    /// The search is over.
    pub fn find_nothing(&self) {
        if let Some(search) = self.search.borrow().as_ref() {
            search.clear();
        }
    }

    /// Whether it can be seen: only then is the graphics card's memory spent on it.
    pub fn set_visible(self: &Rc<Self>, visible: bool) {
        if !visible {
            if let Some(webgl) = self.webgl.take() {
                webgl.dispose();
            }
        } else if self.seen.get() && self.opened.get() && self.webgl.borrow().is_none() {
            let gpu = GPU.get().unwrap_or_else(|| {
                let found = vendor::has_gpu();
                GPU.set(Some(found));
                found
            });
            if gpu {
                let weak = Rc::downgrade(self);
                spawn_local(async move {
                    let Ok(module) = JsFuture::from(vendor::load_webgl()).await else { return };
                    if let Some(view) = weak.upgrade() {
                        view.use_webgl(module.unchecked_ref());
                    }
                });
            }
        }
    }

    fn use_webgl(self: &Rc<Self>, module: &vendor::WebglModule) {
        if self.webgl.borrow().is_some() {
            return;
        }
        let Ok(addon) = Reflect::construct(&module.addon(), &Array::new()) else { return };
        let addon: vendor::WebglAddon = addon.unchecked_into();
        let weak = Rc::downgrade(self);
        let lost = Closure::<dyn Fn()>::new(move || {
            // The browser has taken the context back; the DOM renderer goes on.
            if let Some(webgl) = weak.upgrade().and_then(|view| view.webgl.take()) {
                webgl.dispose();
            }
        });
        addon.on_context_loss(&self.keep(lost));
        self.xterm.load_addon(addon.as_ref());
        self.webgl.replace(Some(addon));
    }

    fn set_option(&self, name: &str, value: &JsValue) {
        let _ = Reflect::set(&self.xterm.options(), &name.into(), value);
    }

    fn write(&self, bytes: &Uint8Array, done: Done) {
        self.writes.borrow_mut().push_back(done);
        self.picture.output(bytes.length() as usize);
        self.xterm.write(bytes, &self.written);
    }

    fn on_written(&self) {
        let mut writes = self.writes.borrow_mut();
        let (done, idle) = (writes.pop_front(), writes.is_empty());
        drop(writes);
        if idle {
            self.picture.idle();
        }
        match done {
            Some(Done::Resize(size)) => self.resize_now(size),
            Some(Done::Parsed(end)) => {
                if !self.seen.replace(true) {
                    (self.out)(self.id, Out::FirstParsed);
                }
                let ack = self.stream.borrow_mut().parsed(end);
                if let Some(offset) = ack {
                    (self.out)(self.id, Out::Ack(offset));
                }
            }
            None => {}
        }
    }

    fn resize_now(&self, size: Size) {
        if (self.xterm.cols(), self.xterm.rows()) != (size.cols, size.rows) {
            self.xterm.resize(size.cols, size.rows);
        }
        if self.read_only.get() {
            self.shrink_to_fit();
        }
    }

    /// Keeps a callback for as long as the terminal lives.
    fn keep<T: ?Sized + WasmClosure>(&self, callback: Closure<T>) -> JsValue {
        let function = callback.into_js_value();
        self.callbacks.borrow_mut().push(function.clone());
        function
    }

    fn listen(self: &Rc<Self>) {
        let emit = |what: fn(String) -> Out| {
            let weak = Rc::downgrade(self);
            Closure::<dyn Fn(String)>::new(move |text: String| {
                if let Some(view) = weak.upgrade() {
                    (view.out)(view.id, what(text));
                }
            })
        };
        let weak = Rc::downgrade(self);
        let data = Closure::<dyn Fn(String)>::new(move |text: String| {
            if let Some(view) = weak.upgrade() {
                // A report of the mouse is about this terminal, whatever has the focus next.
                let typed = view.typed.replace(false) && !is_mouse_report(&text);
                (view.out)(view.id, Out::Input { bytes: text.into_bytes(), typed });
            }
        });
        self.xterm.on_data(&self.keep(data));
        // Old mouse reports: one byte a character.
        let old = |text: String| Out::Input { bytes: text.chars().map(|c| c as u8).collect(), typed: false };
        self.xterm.on_binary(&self.keep(emit(old)));
        let weak = Rc::downgrade(self);
        let bell = Closure::<dyn Fn()>::new(move || {
            if let Some(view) = weak.upgrade() {
                (view.out)(view.id, Out::Bell);
            }
        });
        self.xterm.on_bell(&self.keep(bell));
        let weak = Rc::downgrade(self);
        let open = Closure::<dyn Fn(JsValue, String)>::new(move |_, address: String| {
            if let Some(view) = weak.upgrade() {
                (view.out)(view.id, Out::Link(address));
            }
        });
        let open = self.keep(open);
        self.xterm.load_addon(vendor::WebLinksAddon::new(&open).as_ref());
        self.set_option("linkHandler", &object(&[("activate", open)]));
        let weak = Rc::downgrade(self);
        let key = Closure::<dyn Fn(KeyboardEvent) -> bool>::new(move |event: KeyboardEvent| {
            weak.upgrade().is_none_or(|view| view.on_key(&event))
        });
        self.xterm.on_key(&self.keep(key));
    }

    /// True: the key is the program's.
    fn on_key(&self, event: &KeyboardEvent) -> bool {
        let (name, code) = (event.key(), event.code());
        let key = Key {
            key: &name,
            code: &code,
            ctrl: event.ctrl_key(),
            shift: event.shift_key(),
            alt: event.alt_key(),
            meta: event.meta_key(),
        };
        let now = Situation {
            selection: self.xterm.has_selection(),
            full_screen: self.xterm.buffer().active().kind() == "alternate",
        };
        let Some(action) = action(key, now) else {
            let types =
                name.chars().count() == 1 && !event.ctrl_key() && !event.meta_key() || name == "Enter";
            if types && self.read_only.get() && event.type_() == "keydown" {
                (self.out)(self.id, Out::Refused);
            }
            return true;
        };
        if event.type_() == "keydown" {
            if action == Action::Paste {
                // The browser pastes into xterm.js' text area by itself, which needs no permission.
                return false;
            }
            event.prevent_default();
            event.stop_propagation();
            (self.out)(self.id, Out::Action(action));
        }
        false
    }

    fn watch_picture(&self) {
        let picture = self.picture.clone();
        self.xterm.on_render(&self.keep(Closure::<dyn Fn()>::new(move || picture.drawn())));
        for (last, holds) in [("h", true), ("l", false)] {
            let picture = self.picture.clone();
            let mode = Closure::<dyn Fn(Array) -> bool>::new(move |numbers: Array| {
                if numbers.includes(&JsValue::from_f64(SYNCHRONIZED_OUTPUT), 0) {
                    picture.program_holds(holds);
                }
                // xterm.js goes on with it.
                false
            });
            let id = object(&[("prefix", JsValue::from_str("?")), ("final", JsValue::from_str(last))]);
            self.xterm.parser().csi(&id, &self.keep(mode));
        }
    }

    /// Swallows what programs ask the terminal (attributes, cursor position, modes, colours) unless this page is the one
    /// that answers: else every viewer's answer would be typed into the shell.
    fn hook_queries(self: &Rc<Self>) {
        let parser = self.xterm.parser();
        let weak = Rc::downgrade(self);
        let query =
            Closure::<dyn Fn() -> bool>::new(move || weak.upgrade().is_some_and(|v| !v.answers.get()));
        let query = self.keep(query);
        let id = |prefix: &str, intermediates: &str, last: &str| {
            let mut fields = vec![("final", JsValue::from_str(last))];
            fields.extend((!prefix.is_empty()).then(|| ("prefix", JsValue::from_str(prefix))));
            fields.extend(
                (!intermediates.is_empty()).then(|| ("intermediates", JsValue::from_str(intermediates))),
            );
            object(&fields)
        };
        let csi = [
            ("", "", "c"),
            (">", "", "c"),
            ("=", "", "c"),
            ("", "", "n"),
            ("?", "", "n"),
            ("", "$", "p"),
            ("?", "$", "p"),
            (">", "", "q"),
            ("", "", "t"),
            ("?", "", "u"),
        ];
        for (prefix, intermediates, last) in csi {
            parser.csi(&id(prefix, intermediates, last), &query);
        }
        for intermediates in ["$", "+"] {
            parser.dcs(&id("", intermediates, "q"), &query);
        }
        let weak = Rc::downgrade(self);
        let colour = Closure::<dyn Fn(String) -> bool>::new(move |data: String| {
            data.contains('?') && weak.upgrade().is_some_and(|v| !v.answers.get())
        });
        let colour = self.keep(colour);
        for osc in [4, 10, 11, 12] {
            parser.osc(osc, &colour);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.xterm.dispose();
    }
}

thread_local! {
    static SPARE: RefCell<Option<vendor::Terminal>> = const { RefCell::new(None) };
}

/// Makes an xterm.js ahead of time, while a request for a session is on its way.
pub fn prepare() {
    SPARE.with_borrow_mut(|spare| {
        spare.get_or_insert_with(make_xterm);
    });
}

fn take_spare() -> Option<vendor::Terminal> {
    SPARE.take()
}

fn make_xterm() -> vendor::Terminal {
    let font = "ui-monospace, 'Cascadia Mono', 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";
    let xterm = vendor::Terminal::new(&object(&[
        ("allowProposedApi", JsValue::TRUE),
        ("cols", Size::DEFAULT.cols.into()),
        ("rows", Size::DEFAULT.rows.into()),
        ("cursorBlink", JsValue::TRUE),
        // Some fonts put the underscore below their own height, where it would be cut off.
        ("lineHeight", JsValue::from_f64(1.07)),
        ("fontFamily", JsValue::from_str(font)),
        ("scrollback", JsValue::from_f64(5000.0)),
        ("macOptionIsMeta", JsValue::FALSE),
        // It would write a line into the console for each sequence that it can't parse: thousands for a binary file.
        ("logLevel", JsValue::from_str("off")),
        ("rightClickSelectsWord", JsValue::FALSE),
    ]));
    xterm.load_addon(vendor::Unicode11Addon::new().as_ref());
    xterm.unicode().set_active_version("11");
    xterm
}
