//! The way to a new session: what can be started, the wish, the place in the queue.

use super::{App, known::Known, own_sessions};
use crate::{
    browser,
    net::rest::{self, Place, Problem},
    term,
};
use drydock_protocol::api::{CreateSession, Created, Host, Playground, Queued};
use wasm_bindgen_futures::spawn_local;

/// How often the place in the queue is asked for, in milliseconds.
const ASK: i32 = 2000;

/// Where the playground that was started last is remembered.
const CHOSEN: &str = "drydock.playground";

/// Where this tab remembers its place in the queue, so that a reload keeps it: the ticket, a space, the playground.
const PLACE: &str = "drydock.queue";

/// How far the wish has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Nothing is wished for.
    Idle,
    /// The request is on its way.
    Starting,
    /// The host is full.
    Waiting(Queued),
    /// It did not work.
    Failed(Problem),
}

/// What can be started.
#[derive(Debug, Clone, PartialEq)]
pub enum Offer {
    /// Not known yet.
    Loading,
    /// These.
    Ready(Vec<Playground>),
    /// The server did not say.
    Failed(Problem),
}

/// The start page's store.
#[derive(Clone, Copy)]
pub struct Start {
    /// How far the wish has come.
    pub progress: Known<Progress>,
    /// What can be started.
    pub offer: Known<Offer>,
    /// How full the host is.
    pub host: Known<Option<Host>>,
    /// Numbers the wishes, so that a wish that was given up does nothing when it is answered.
    wish: Known<u32>,
}

impl Start {
    /// Nothing known, nothing wished.
    pub fn new() -> Self {
        Self {
            progress: Known::new(Progress::Idle),
            offer: Known::new(Offer::Loading),
            host: Known::new(None),
            wish: Known::new(0),
        }
    }

    /// Asks the server what can be started and how full it is.
    pub fn load(self) {
        spawn_local(async move {
            match rest::playgrounds().await {
                Ok(list) => self.offer.set(Offer::Ready(list)),
                Err(problem) => self.offer.set(Offer::Failed(problem)),
            }
        });
        spawn_local(async move { self.host.set(rest::host().await.ok()) });
    }

    /// What is chosen at first: what a link says (`/?playground=docker`), else what was chosen last.
    pub fn first(self, list: &[Playground]) -> Option<&Playground> {
        let query = browser::window().location().search().unwrap_or_default();
        let linked = |p: &&Playground| {
            let mut said = query.split(['?', '&']).filter_map(|part| part.strip_prefix("playground="));
            said.any(|name| name == p.name)
        };
        let last = browser::load::<String>(CHOSEN);
        let chosen = |p: &&Playground| last.as_ref() == Some(&p.name);
        list.iter().find(linked).or_else(|| list.iter().find(chosen)).or(list.first())
    }

    /// Starts a session and goes there as soon as it is ready.
    pub fn start(self, app: App, wish: CreateSession) {
        if matches!(self.progress.get_untracked(), Progress::Starting | Progress::Waiting(_)) {
            return;
        }
        browser::mark("start-click");
        browser::save(CHOSEN, &wish.playground);
        self.progress.set(Progress::Starting);
        let number = self.wish.get_untracked() + 1;
        self.wish.set(number);
        spawn_local(async move {
            let answer = rest::create(&wish).await;
            self.follow(app, wish.playground, number, answer).await;
        });
        // While the request is on its way.
        term::view::prepare();
    }

    /// Takes up the place in the queue that this tab had before it was loaded again.
    pub fn take_up(self, app: App) {
        let place =
            browser::load_for_tab(PLACE).filter(|_| self.progress.with_untracked(|p| *p == Progress::Idle));
        let Some((ticket, playground)) = place.as_deref().and_then(|place| place.split_once(' ')) else {
            return;
        };
        let (ticket, playground) = (ticket.to_owned(), playground.to_owned());
        self.progress.set(Progress::Starting);
        let number = self.wish.get_untracked() + 1;
        self.wish.set(number);
        spawn_local(async move {
            let answer = rest::queue(&ticket).await;
            self.follow(app, playground, number, answer).await;
        });
    }

    /// Gives up the place in the queue.
    pub fn give_up(self) {
        self.wish.update(|n| *n += 1);
        if let Progress::Waiting(queued) = self.progress.get_untracked() {
            // The server gives up the place of who is silent too, only later: nothing is to be done if it does not hear of this.
            spawn_local(async move { drop(rest::leave_queue(&queued.ticket).await) });
        }
        browser::save_for_tab(PLACE, None);
        self.progress.set(Progress::Idle);
    }

    async fn follow(self, app: App, playground: String, number: u32, mut answer: Result<Place, Problem>) {
        loop {
            if self.wish.get_untracked() != number {
                if let Ok(Place::Ready(created)) = answer {
                    // Its turn came when it was given up.
                    drop(rest::end(&created.id).await);
                }
                return;
            }
            match answer {
                Ok(Place::Ready(created)) => {
                    browser::save_for_tab(PLACE, None);
                    return self.enter(app, playground, &created);
                }
                Ok(Place::Waiting(queued)) => {
                    let ticket = queued.ticket.clone();
                    browser::save_for_tab(PLACE, Some(&format!("{ticket} {playground}")));
                    self.progress.set(Progress::Waiting(queued));
                    browser::pause(ASK).await;
                    answer = rest::queue(&ticket).await;
                    // A server that is just being restarted keeps the place.
                    while matches!(&answer, Err(p) if p.status == 0) && self.wish.get_untracked() == number {
                        browser::pause(ASK).await;
                        answer = rest::queue(&ticket).await;
                    }
                }
                Err(problem) => {
                    browser::save_for_tab(PLACE, None);
                    return self.progress.set(Progress::Failed(problem));
                }
            }
        }
    }

    fn enter(self, app: App, playground: String, created: &Created) {
        browser::mark("created");
        app.enter_new(created.id.clone());
        self.progress.set(Progress::Idle);
        own_sessions::remember(own_sessions::OwnSession {
            id: created.id.clone(),
            playground: Some(playground),
            nodes: u8::try_from(created.nodes.len()).ok(),
            expires_at: created.expires_at,
        });
    }
}
