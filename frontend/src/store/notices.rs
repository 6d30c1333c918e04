//! Sentences that the page says about what just happened; `ui::notice_list` shows them and a screen reader reads them.

use super::known::Known;
use gloo_timers::callback::Timeout;

/// How long a notice stays, in milliseconds.
const STAYS: u32 = 9000;
/// Most notices at once; the oldest goes.
const MOST: usize = 2;

/// What kind of notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something went as wished.
    Info,
    /// Something did not work.
    Error,
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Number, unique in the page.
    pub id: u32,
    /// What kind.
    pub kind: Kind,
    /// The sentence.
    pub text: String,
}

/// All that are shown now.
#[derive(Clone, Copy)]
pub struct Notices {
    /// Oldest first.
    pub list: Known<Vec<Notice>>,
    next: Known<u32>,
}

impl Notices {
    /// None yet.
    pub fn new() -> Self {
        Self { list: Known::new(Vec::new()), next: Known::new(0) }
    }

    /// Says that something went as wished.
    pub fn info(self, text: impl Into<String>) {
        self.say(Kind::Info, text.into());
    }

    /// Says that something did not work.
    pub fn error(self, text: impl Into<String>) {
        self.say(Kind::Error, text.into());
    }

    /// Takes one away.
    pub fn dismiss(self, id: u32) {
        self.list.update(|list| list.retain(|n| n.id != id));
    }

    /// Takes all away.
    pub fn clear(self) {
        if self.list.with_untracked(|list| !list.is_empty()) {
            self.list.update(Vec::clear);
        }
    }

    fn say(self, kind: Kind, text: String) {
        let id = self.next.get_untracked();
        self.next.set(id.wrapping_add(1));
        self.list.update(|list| {
            // The same sentence again replaces the old one.
            list.retain(|n| n.text != text);
            if list.len() == MOST {
                list.remove(0);
            }
            list.push(Notice { id, kind, text });
        });
        Timeout::new(STAYS, move || self.dismiss(id)).forget();
    }
}
