//! Small things that the browser gives: clock, storage, address bar, media queries. Everything else of the page comes
//! here for them, so a browser without storage or with odd answers is dealt with in one place.

pub use crate::reactive::window;
use crate::reactive::*;
use crate::{
    logic::read::{Read, from_text},
    store::known::Known,
};
use gloo_events::EventListener;
use js_sys::{Function, Promise};
use serde::Serialize;
use std::cell::Cell;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, HtmlElement, MediaQueryList, Node};

/// Milliseconds since the page was opened.
pub fn now() -> f64 {
    window().performance().map_or(0.0, |p| p.now())
}

/// Where it is remembered by how many seconds this computer's clock is behind the server's.
const CLOCK: &str = "drydock.clock";
/// Such a difference is the way's, not the clocks', in seconds.
const SAME_TIME: f64 = 5.0;

thread_local! {
    /// By how many seconds this computer's clock is behind the server's.
    static BEHIND: Cell<f64> = Cell::new(load(CLOCK).unwrap_or_default());
}

/// Seconds since 1970, by the server's clock as far as it is known: this computer's may be wrong.
pub fn wall_clock() -> u64 {
    (js_sys::Date::now() / 1000.0 + BEHIND.get()) as u64
}

/// The server has told its time (the header `Date` of an answer).
pub fn server_time(date: &str) {
    let behind = (js_sys::Date::parse(date) - js_sys::Date::now()) / 1000.0;
    if (behind - BEHIND.get()).abs() > SAME_TIME {
        BEHIND.set(behind);
        save(CLOCK, &behind);
    }
}

/// Leaves a mark for measurements: `drydock:` and the name.
pub fn mark(name: &str) {
    if let Some(performance) = window().performance() {
        let _ = performance.mark(&format!("drydock:{name}"));
    }
}

/// True if the page was opened for a browser test, which may look into terminals.
pub fn is_test() -> bool {
    let query = window().location().search().unwrap_or_default();
    query.trim_start_matches('?').split('&').any(|part| part == "test" || part.starts_with("test="))
        || storage_text("drydock.test").as_deref() == Some("1")
}

/// 32 random letters and digits.
pub fn random_name() -> String {
    (0..32)
        .map(|_| char::from_digit((js_sys::Math::random() * 36.0) as u32 % 36, 36).unwrap_or('0'))
        .collect()
}

fn storage_text(key: &str) -> Option<String> {
    window().local_storage().ok()??.get_item(key).ok()?
}

/// What is stored under a key, if it is there and can be read.
pub fn load<T: Read>(key: &str) -> Option<T> {
    from_text(&storage_text(key)?)
}

/// What is stored under a key, as text.
pub fn load_text(key: &str) -> Option<String> {
    storage_text(key)
}

/// What this tab keeps under a key; a reload does not change it.
pub fn load_for_tab(key: &str) -> Option<String> {
    window().session_storage().ok()??.get_item(key).ok()?
}

/// Keeps a text for this tab, or forgets it.
pub fn save_for_tab(key: &str, text: Option<&str>) {
    if let Ok(Some(storage)) = window().session_storage() {
        // A browser that refuses loses only the convenience.
        let _ = match text {
            Some(text) => storage.set_item(key, text),
            None => storage.remove_item(key),
        };
    }
}

/// Stores a value. A browser that refuses (private window, full) loses only the convenience.
pub fn save<T: Serialize>(key: &str, value: &T) {
    if let (Ok(Some(storage)), Ok(text)) = (window().local_storage(), serde_json::to_string(value)) {
        let _ = storage.set_item(key, &text);
    }
}

/// Forgets what is stored under a key.
pub fn forget(key: &str) {
    if let Ok(Some(storage)) = window().local_storage() {
        let _ = storage.remove_item(key);
    }
}

/// Keys that are stored and begin with a prefix.
pub fn stored_keys(prefix: &str) -> Vec<String> {
    let Ok(Some(storage)) = window().local_storage() else { return Vec::new() };
    let count = storage.length().unwrap_or(0);
    (0..count).filter_map(|i| storage.key(i).ok()?).filter(|key| key.starts_with(prefix)).collect()
}

/// A signal that follows a media query for the life of the page.
pub fn media(query: &str) -> Known<bool> {
    let list: Option<MediaQueryList> = window().match_media(query).ok().flatten();
    let matches = Known::new(list.as_ref().is_some_and(|list| list.matches()));
    if let Some(list) = list {
        let again = list.clone();
        EventListener::new(&list, "change", move |_| matches.set(again.matches())).forget();
    }
    matches
}

#[wasm_bindgen]
extern "C" {
    /// Puts the focus on the first element that matches and can have it; tells whether there was one.
    #[wasm_bindgen(js_namespace = vendor, js_name = focusFirst)]
    pub fn focus(selector: &str) -> bool;

    /// True if nothing has the focus.
    #[wasm_bindgen(js_namespace = vendor, js_name = focusIsLost)]
    pub fn focus_is_lost() -> bool;

    /// Called before a part of the page goes: if the focus is in it, that goes to what has come in its stead, or to a neighbour.
    #[wasm_bindgen(js_namespace = vendor, js_name = keepFocus)]
    pub fn keep_focus(part: &Node);

    /// Brings an element into sight once it is drawn.
    #[wasm_bindgen(js_namespace = vendor, js_name = bringToSight)]
    pub fn bring_to_sight(element: &Element);

    /// Keeps the tab of a list that shows in sight, whatever room the list is given.
    #[wasm_bindgen(js_namespace = vendor, js_name = keepTabInSight)]
    pub fn keep_tab_in_sight(list: &Element);
}

/// Asks a question that waits for its answer: true if it is yes.
pub fn ask(question: &str) -> bool {
    window().confirm_with_message(question).unwrap_or(true)
}

/// The element that has the focus.
pub fn focused() -> Option<Element> {
    document().active_element()
}

/// True on a Mac, whose shortcuts use Command.
pub fn is_mac() -> bool {
    window().navigator().platform().is_ok_and(|p| p.starts_with("Mac") || p.starts_with("iP"))
}

/// Waits, in milliseconds.
pub async fn pause(ms: i32) {
    let wait = |resolve: Function, _| {
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, ms);
    };
    let _ = JsFuture::from(Promise::new(&mut { wait })).await;
}

/// Gives the learner a small text as a file.
pub fn download(name: &str, media_type: &str, text: &str) {
    let content = String::from(js_sys::encode_uri_component(text));
    let link = document().create_element("a").ok().and_then(|link| link.dyn_into::<HtmlElement>().ok());
    let Some(link) = link else { return };
    // Names of attributes that are constants are never refused.
    let _ = link.set_attribute("href", &format!("data:{media_type};charset=utf-8,{content}"));
    let _ = link.set_attribute("download", name);
    link.click();
}

/// A JavaScript object with these fields.
pub fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = js_sys::Object::new();
    for (name, value) in fields {
        // Setting a field of a plain object can't fail.
        let _ = js_sys::Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object.into()
}
