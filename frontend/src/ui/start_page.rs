//! The start page: choose a playground and the number of nodes, press Start.

use super::el::{El, el, group};
use super::{own_session_list::own_session_list, queue_card::queue_card};
use crate::reactive::*;
use crate::{
    logic::clock,
    store::{
        known::Known,
        start::{Offer, Progress},
        use_app,
    },
};
use drydock_protocol::api::{CreateSession, Host, Playground};
use std::rc::Rc;
use web_sys::Event;

/// Lives that can be chosen, in seconds.
const LIVES: [u64; 6] = [1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600];

/// The page.
pub fn start_page() -> El {
    let app = use_app();
    let start = app.start;
    start.load();
    start.take_up(app);
    // The form stays as it is while a request is on its way.
    let waiting = move || match start.progress.get() {
        Progress::Waiting(queued) => Some(queued),
        _ => None,
    };
    el("main").class("start").testid("start-page").child(el("header").class("hero").child(el("p").class("brand").text("Drydock")).child(el("h1").text("Linux, Docker and Kubernetes in your browser")).child(el("p").class("lead").text("Press Start and type as root. Every node is a machine of your own for a while; nothing to install, no account."))).switch(waiting, |waiting| match waiting {
                Some(queued) => queue_card(queued),
                None => start_form(),
            }).child(own_session_list()).child(host_info())
}

/// What is wished for.
fn start_form() -> El {
    let start = use_app().start;
    document().set_title("Drydock");
    group().part(move || match start.offer.get() {
        Offer::Loading => el("div")
            .class("card form-card")
            .attr("role", "status")
            .text("Asking the server what it offers …"),
        Offer::Failed(problem) => el("div")
            .class("card form-card problem-text")
            .attr("role", "alert")
            .child(el("p").text(problem.message))
            .child(
                el("button")
                    .click(move || {
                        start.offer.set(Offer::Loading);
                        start.load();
                    })
                    .text("Try again"),
            ),
        Offer::Ready(list) if list.is_empty() => el("div")
            .class("card form-card")
            .attr("role", "alert")
            .text("This server has no playground yet. Its operator prepares one with ")
            .child(el("code").text("drydock image build"))
            .text("."),
        Offer::Ready(list) => choice(list),
    })
}

/// The form itself, once it is known what can be chosen.
fn choice(list: Vec<Playground>) -> El {
    let app = use_app();
    let start = app.start;
    let first = start.first(&list);
    let chosen = RwSignal::new(first.map(|p| p.name.clone()).unwrap_or_default());
    let nodes = Known::new(first.map_or(1, |p| p.nodes));
    let life = Known::new(None::<u64>);
    let offers = list.clone();
    let most: Rc<dyn Fn() -> u8> = Rc::new(move || {
        let name = chosen.get();
        offers.iter().find(|p| p.name == name).map_or(1, |p| p.max_nodes).max(1)
    });
    let most_wished = most.clone();
    let busy = move || start.progress.with(|p| *p == Progress::Starting);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let wish = CreateSession {
            playground: chosen.get_untracked(),
            nodes: Some(nodes.get_untracked().clamp(1, untrack(|| most_wished()))),
            ttl_seconds: life.get_untracked(),
        };
        start.start(app, wish);
    };
    let cards: Vec<El> = list.into_iter().map(|p| playground_card(p, chosen, nodes)).collect();
    el("form")
        .class("card form-card")
        .on("submit", submit)
        .child(el("fieldset").class("playgrounds").child(el("legend").text("Playground")).children(cards))
        .child(
            el("div").class("fields").child(nodes_field(nodes, most)).child(life_field(life)).child(
                el("button")
                    .attr("type", "submit")
                    .class("primary start-button")
                    .testid("start-button")
                    .off_if(busy)
                    .text_of(move || if busy() { "Starting …" } else { "Start" }),
            ),
        )
        .child(
            el("div").class("form-problem problem-text").attr("role", "alert").testid("start-error").text_of(
                move || match start.progress.get() {
                    Progress::Failed(problem) => problem.message,
                    _ => String::new(),
                },
            ),
        )
}

/// How many nodes.
fn nodes_field(nodes: Known<u8>, most: Rc<dyn Fn() -> u8>) -> El {
    let most_told = most.clone();
    let input = el("input")
        .attr("type", "number")
        .attr("inputmode", "numeric")
        .attr("required", "")
        .attr("min", "1")
        .attr_of("max", move || most().to_string())
        .testid("nodes-input")
        .value(move || nodes.get().to_string())
        .on("input", move |event: Event| {
            if let Ok(n) = event_target_value(&event).parse() {
                nodes.set(n);
            }
        });
    el("label")
        .class("field")
        .child(el("span").text("Nodes"))
        .child(input)
        .child(el("small").text_of(move || format!("1 to {}", most_told())))
}

/// One playground.
fn playground_card(playground: Playground, chosen: RwSignal<String>, nodes: Known<u8>) -> El {
    let Playground { name, title, description, nodes: usual, .. } = playground;
    let (id, value, testid) = (name.clone(), name.clone(), format!("playground-{name}"));
    el("label")
        .class("playground")
        .child(
            el("input")
                .attr("type", "radio")
                .attr("name", "playground")
                .attr("value", value)
                .testid(testid)
                .checked(move || chosen.get() == id)
                .on("change", move |_: Event| {
                    chosen.set(name.clone());
                    nodes.set(usual);
                }),
        )
        .child(
            el("span")
                .class("playground-text")
                .child(el("strong").text(title))
                .child(el("span").text(description)),
        )
}

/// How long the session shall live.
fn life_field(life: Known<Option<u64>>) -> El {
    let host = use_app().start.host;
    let choices = move || {
        let (usual, most) =
            host.get().map_or((None, 0), |h| (Some(h.default_ttl_seconds), h.max_ttl_seconds));
        let usual_words = usual.map_or("as usual".to_owned(), clock::words);
        let others = LIVES.into_iter().filter(move |l| *l <= most && Some(*l) != usual);
        let all = std::iter::once((String::new(), usual_words))
            .chain(others.map(|l| (l.to_string(), clock::words(l))));
        group().children(all.map(|(value, words)| el("option").attr("value", value).text(words)))
    };
    el("label")
        .class("field")
        .child(el("span").text("Lasts"))
        .child(
            el("select")
                .testid("life-input")
                .on("change", move |event: Event| life.set(event_target_value(&event).parse().ok()))
                .part(choices),
        )
        .child(el("small").text("Then all of it is deleted"))
}

/// How full the host is.
fn host_info() -> El {
    let host = use_app().start.host;
    let words = |h: Host| {
        let waiting = if h.queued > 0 { format!(", {} waiting", h.queued) } else { String::new() };
        format!("{} of {} sessions in use{waiting}. Drydock {}", h.running, h.capacity, h.version)
    };
    el("footer")
        .class("host-info")
        .child(el("span").testid("host-info").text_of(move || host.get().map(words).unwrap_or_default()))
        .text(" ")
        .child(el("a").attr("href", "/licences.txt").text("Licences"))
}
