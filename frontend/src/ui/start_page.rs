//! The start page: choose a playground and the number of nodes, press Start.

use super::parts::{flag, on, part, text};
use super::{own_session_list::OwnSessionList, queue_card::QueueCard};
use crate::{
    logic::clock,
    store::{
        start::{Offer, Progress},
        use_app,
    },
};
use drydock_protocol::api::{CreateSession, Host, Playground};
use leptos::prelude::*;

/// Lives that can be chosen, in seconds.
const LIVES: [u64; 6] = [1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600];

/// The page.
#[component]
pub fn StartPage() -> impl IntoView {
    let start = use_app().start;
    start.load();
    document().set_title("Drydock");
    // The form stays as it is while a request is on its way.
    let waiting = Memo::new(move |_| match start.progress.get() {
        Progress::Waiting(queued) => Some(queued),
        _ => None,
    });
    view! {
        <main class="start" data-testid="start-page">
            <header class="hero">
                <p class="brand">"Drydock"</p>
                <h1>"Linux nodes in your browser"</h1>
                <p class="lead">"Press Start and type as root. Every node is a machine of your own for a while; nothing to install, no account."</p>
            </header>
            {part(move || match waiting.get() {
                Some(queued) => view! { <QueueCard queued/> }.into_any(),
                None => view! { <StartForm/> }.into_any(),
            })}
            <OwnSessionList/>
            <HostInfo/>
        </main>
    }
}

/// What is wished for.
#[component]
fn StartForm() -> impl IntoView {
    let start = use_app().start;
    view! {
        {part(move || match start.offer.get() {
            Offer::Loading => view! { <div class="card form-card" role="status">"Asking the server what it offers …"</div> }.into_any(),
            Offer::Failed(problem) => view! {
                <div class="card form-card problem-text" role="alert">
                    <p>{problem.message}</p>
                    <button on:click=on(move |_| {
                        start.offer.set(Offer::Loading);
                        start.load();
                    })>"Try again"</button>
                </div>
            }.into_any(),
            Offer::Ready(list) if list.is_empty() => view! {
                <div class="card form-card" role="alert">
                    "This server has no playground yet. Its operator prepares one with " <code>"drydock image build"</code> "."
                </div>
            }.into_any(),
            Offer::Ready(list) => view! { <Choice list/> }.into_any(),
        })}
    }
}

/// The form itself, once it is known what can be chosen.
#[component]
fn Choice(list: Vec<Playground>) -> impl IntoView {
    let app = use_app();
    let start = app.start;
    let chosen = RwSignal::new(list.first().map(|p| p.name.clone()).unwrap_or_default());
    let nodes = RwSignal::new(list.first().map_or(1, |p| p.nodes));
    let life = RwSignal::new(None::<u64>);
    let offers = StoredValue::new(list.clone());
    let most = move || {
        let name = chosen.get();
        offers.with_value(|all| all.iter().find(|p| p.name == name).map_or(1, |p| p.max_nodes)).max(1)
    };
    let busy = move || start.progress.with(|p| *p == Progress::Starting);
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let wish = CreateSession {
            playground: chosen.get_untracked(),
            nodes: Some(nodes.get_untracked().clamp(1, untrack(most))),
            ttl_seconds: life.get_untracked(),
        };
        start.start(app, wish);
    };
    let cards: Vec<AnyView> =
        list.into_iter().map(|p| view! { <PlaygroundCard playground=p chosen nodes/> }.into_any()).collect();
    view! {
        <form class="card form-card" on:submit=on(submit)>
            <fieldset class="playgrounds">
                <legend>"Playground"</legend>
                {cards}
            </fieldset>
            <div class="fields">
                <label class="field">
                    <span>"Nodes"</span>
                    <input
                        type="number"
                        inputmode="numeric"
                        min="1"
                        max=text(move || most().to_string())
                        data-testid="nodes-input"
                        prop:value=text(move || nodes.get().to_string())
                        on:input=on(move |event| {
                            if let Ok(n) = event_target_value(&event).parse() {
                                nodes.set(n);
                            }
                        })
                    />
                    <small>{text(move || format!("1 to {}", most()))}</small>
                </label>
                <LifeField life/>
                <button type="submit" class="primary start-button" data-testid="start-button" disabled=flag(busy)>
                    {text(move || if busy() { "Starting …" } else { "Start" })}
                </button>
            </div>
            <div class="form-problem problem-text" role="alert" data-testid="start-error">
                {text(move || match start.progress.get() {
                    Progress::Failed(problem) => problem.message,
                    _ => String::new(),
                })}
            </div>
        </form>
    }
}

/// One playground.
#[component]
fn PlaygroundCard(playground: Playground, chosen: RwSignal<String>, nodes: RwSignal<u8>) -> impl IntoView {
    let Playground { name, title, description, nodes: usual, .. } = playground;
    let (id, value, testid) = (name.clone(), name.clone(), format!("playground-{name}"));
    view! {
        <label class="playground">
            <input
                type="radio"
                name="playground"
                value=value
                data-testid=testid
                prop:checked=flag(move || chosen.get() == id)
                on:change=on(move |_| {
                    chosen.set(name.clone());
                    nodes.set(usual);
                })
            />
            <span class="playground-text">
                <strong>{title}</strong>
                <span>{description}</span>
            </span>
        </label>
    }
}

/// How long the session shall live.
#[component]
fn LifeField(life: RwSignal<Option<u64>>) -> impl IntoView {
    let host = use_app().start.host;
    let choices = move || {
        let (usual, most) = host.get().map_or((None, 0), |h| (Some(h.default_ttl_seconds), h.max_ttl_seconds));
        let usual_words = usual.map_or("as usual".to_owned(), clock::words);
        let others = LIVES.into_iter().filter(move |l| *l <= most && Some(*l) != usual);
        std::iter::once((String::new(), usual_words))
            .chain(others.map(|l| (l.to_string(), clock::words(l))))
            .map(|(value, words)| view! { <option value=value>{words}</option> }.into_any())
            .collect::<Vec<_>>()
            .into_any()
    };
    view! {
        <label class="field">
            <span>"Lasts"</span>
            <select data-testid="life-input" on:change=on(move |event| life.set(event_target_value(&event).parse().ok()))>
                {part(choices)}
            </select>
            <small>"Then all of it is deleted"</small>
        </label>
    }
}

/// How full the host is.
#[component]
fn HostInfo() -> impl IntoView {
    let host = use_app().start.host;
    let words = |h: Host| {
        let waiting = if h.queued > 0 { format!(", {} waiting", h.queued) } else { String::new() };
        format!("{} of {} sessions in use{waiting}. Drydock {}", h.running, h.capacity, h.version)
    };
    view! {
        <footer class="host-info" data-testid="host-info">{text(move || host.get().map(words).unwrap_or_default())}</footer>
    }
}
