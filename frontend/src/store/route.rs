//! Which page the address bar names. Two pages need no router: a signal, `history` and one listener.

use super::known::Known;
use crate::browser;
use drydock_protocol::SessionId;
use gloo_events::EventListener;
use wasm_bindgen::JsValue;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`
    Start,
    /// `/s/{id}`
    Session(SessionId),
    /// Anything else.
    Unknown,
}

impl Route {
    /// The page of a path.
    pub fn of(path: &str) -> Self {
        match path.trim_end_matches('/') {
            "" => Self::Start,
            path => {
                path.strip_prefix("/s/").and_then(|id| id.parse().ok()).map_or(Self::Unknown, Self::Session)
            }
        }
    }

    /// The page that the address bar names.
    pub fn here() -> Self {
        Self::of(&browser::window().location().pathname().unwrap_or_default())
    }

    /// The path of a page.
    pub fn path(&self) -> String {
        match self {
            Self::Start | Self::Unknown => "/".into(),
            Self::Session(id) => format!("/s/{id}"),
        }
    }
}

/// Follows the browser's back and forward buttons, if `may_leave` says so.
pub fn follow(route: Known<Route>, may_leave: impl Fn() -> bool + 'static) {
    let moved = move |_: &web_sys::Event| {
        let (here, before) = (Route::here(), route.get_untracked());
        if here == before || may_leave() {
            route.set(here);
        } else {
            push(&before);
        }
    };
    EventListener::new(&browser::window(), "popstate", moved).forget();
}

/// Goes to a page without loading anything.
pub fn go(route: Known<Route>, to: Route) {
    push(&to);
    route.set(to);
}

fn push(to: &Route) {
    if let Ok(history) = browser::window().history() {
        let _ = history.push_state_with_url(&JsValue::NULL, "", Some(&to.path()));
    }
}

/// Takes the token out of the address bar: `#t=TOKEN` of a link. It must not stay in the history.
pub fn take_token() -> Option<String> {
    let location = browser::window().location();
    let fragment = location.hash().unwrap_or_default();
    let token =
        fragment.trim_start_matches('#').split('&').find_map(|part| part.strip_prefix("t="))?.to_owned();
    let clean =
        format!("{}{}", location.pathname().unwrap_or_default(), location.search().unwrap_or_default());
    if let Ok(history) = browser::window().history() {
        let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&clean));
    }
    // A token is plain ASCII; anything else would not go into a header.
    (!token.is_empty() && token.len() <= 512 && token.bytes().all(|b| b.is_ascii_graphic())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_pages() {
        assert_eq!(Route::of("/"), Route::Start);
        assert_eq!(Route::of("/s/abcdef0123/").path(), "/s/abcdef0123");
        for odd in ["/x", "/s/", "/s/UPPER", "/s/abcdef0123/x"] {
            assert_eq!(Route::of(odd), Route::Unknown, "{odd}");
        }
    }
}
