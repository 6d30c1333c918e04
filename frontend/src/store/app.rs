//! The root of what the page knows.

use super::{
    files::Files,
    known::Known,
    notices::Notices,
    own_sessions,
    route::{self, Route},
    session::SessionStore,
    settings::{self, Looks, Panels, Settings},
    share::Share,
    start::Start,
    test_access,
    watch::watch,
};
use crate::browser;
use crate::reactive::*;
use drydock_protocol::SessionId;
use wasm_bindgen::JsValue;

/// Everything; copies are handles to the same.
#[derive(Clone, Copy)]
pub struct App {
    /// The page that shows.
    pub route: Known<Route>,
    /// What the learner chose.
    pub settings: Known<Settings>,
    /// How the page looks.
    pub looks: Looks,
    /// True on a screen with room for one pane only.
    pub narrow: Known<bool>,
    /// Widths of the panels at the sides.
    pub panels: Known<Panels>,
    /// What was just said.
    pub notices: Notices,
    /// The way to a new session.
    pub start: Start,
    /// The session that is open.
    pub session: SessionStore,
    /// Its files.
    pub files: Files,
    /// Its links.
    pub share: Share,
}

/// The page's store.
pub fn use_app() -> App {
    // Not `expect_context`, which brings along how types are printed.
    use_context().unwrap_or_else(|| unreachable!("the page has no store"))
}

impl App {
    /// Made once, when the page starts.
    pub fn new() -> Self {
        let looks = settings::follow();
        let settings = looks.settings;
        let notices = Notices::new();
        let narrow = browser::media("(max-width: 700px)");
        let session = SessionStore::new(looks, narrow, notices);
        let app = Self {
            route: Known::new(Route::here()),
            settings,
            looks,
            narrow,
            panels: settings::follow_panels(),
            notices,
            start: Start::new(),
            session,
            files: Files::new(session, notices),
            share: Share::new(session, notices),
        };
        route::follow(app.route, move || app.may_leave());
        app.follow_route();
        if browser::is_test() {
            test_access::give(session);
        }
        app
    }

    /// Goes to a page, unless something would be lost that shall not.
    pub fn go(self, to: Route) {
        if self.may_leave() {
            route::go(self.route, to);
        }
    }

    /// What is lost when the session's page goes, as a question.
    fn loses(self) -> Option<&'static str> {
        if self.files.unsaved() {
            return Some("The file in the editor is not saved. Leave it and lose the changes?");
        }
        self.session.uploading().then_some("A file is still being uploaded. Leave, and give it up?")
    }

    /// True if closing the page would lose something.
    pub fn would_lose(self) -> bool {
        self.loses().is_some()
    }

    fn may_leave(self) -> bool {
        self.loses().is_none_or(browser::ask)
    }

    /// Goes to a session that has just been made: the connection is opened before the page is drawn.
    pub fn enter_new(self, id: SessionId) {
        self.session.open(id.clone(), None);
        self.go(Route::Session(id));
    }

    /// True if this browser can show a session at all.
    pub fn can_connect() -> bool {
        let has = |name| js_sys::Reflect::get(&browser::window(), &JsValue::from_str(name));
        ["WebSocket", "Worker", "BroadcastChannel"]
            .map(has)
            .iter()
            .all(|w| w.as_ref().is_ok_and(JsValue::is_function))
    }

    /// Opens the session that the address bar names and leaves it when another page shows.
    fn follow_route(self) {
        let open = move |route: &Route| match route {
            Route::Session(id) => {
                let token = route::take_token();
                if token.is_some() || self.session.id.get_untracked().as_ref() != Some(id) {
                    self.session.open(id.clone(), token);
                }
            }
            Route::Start | Route::Unknown => {
                self.session.leave();
                own_sessions::list();
            }
        };
        // Now, before anything is drawn, and at every change.
        open(&self.route.get_untracked());
        let mut before = self.route.get_untracked();
        watch(move || {
            let now = self.route.get();
            if before != now {
                open(&now);
                self.files.reset();
                self.share.reset();
                before = now;
            }
        });
        // A link to the same session, pasted into the address bar, changes only the fragment.
        let again = gloo_events::EventListener::new(&browser::window(), "hashchange", move |_| {
            if browser::window().location().hash().is_ok_and(|hash| hash.starts_with("#t=")) {
                open(&self.route.get_untracked());
            }
        });
        again.forget();
    }
}
