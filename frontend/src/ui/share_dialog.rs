//! The share dialog: make links that let others look or type, and revoke them.

use super::parts::{flag, on, part};
use super::{confirm_button::ConfirmButton, dialog::Dialog};
use crate::{browser, logic::clock, store::use_app};
use drydock_protocol::{api::Link, state::Role};
use leptos::prelude::*;

/// The dialog.
#[component]
pub fn ShareDialog(open: RwSignal<bool>) -> impl IntoView {
    let share = use_app().share;
    share.fresh.set(None);
    share.load();
    view! {
        <Dialog open title="Share this session" testid="share-dialog">
            <CreateForm/>
            {part(move || match share.fresh.get() {
                Some(link) => view! { <Fresh link/> }.into_any(),
                None => ().into_any(),
            })}
            <Links/>
        </Dialog>
    }
}

/// What a role lets people do, in a few words.
fn words(role: Role) -> &'static str {
    match role {
        Role::View => "look",
        Role::Type => "look and type",
        Role::Own => "do everything, as you",
    }
}

/// What link to make.
#[component]
fn CreateForm() -> impl IntoView {
    let share = use_app().share;
    let role = RwSignal::new(Role::View);
    let ttl = RwSignal::new(None::<u64>);
    let choose_role = move |event: web_sys::Event| {
        role.set(match event_target_value(&event).as_str() {
            "type" => Role::Type,
            "own" => Role::Own,
            _ => Role::View,
        });
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        share.create(role.get_untracked(), ttl.get_untracked());
    };
    view! {
        <form class="share-form" on:submit=on(submit)>
            <label class="field">
                <span>"Who has the link may"</span>
                <select data-testid="share-role" on:change=on(choose_role)>
                    <option value="view">"look"</option>
                    <option value="type">"look and type"</option>
                    <option value="own">"do everything, as you"</option>
                </select>
            </label>
            <label class="field">
                <span>"It works for"</span>
                <select data-testid="share-expiry" on:change=on(move |event| ttl.set(event_target_value(&event).parse().ok()))>
                    <option value="">"as long as the session"</option>
                    <option value="900">"15 minutes"</option>
                    <option value="3600">"1 hour"</option>
                    <option value="7200">"2 hours"</option>
                </select>
            </label>
            <button class="primary" type="submit" data-testid="share-create" disabled=flag(move || share.busy.get())>"Make a link"</button>
        </form>
    }
}

/// The link just made: it is shown this once.
#[component]
fn Fresh(link: Link) -> impl IntoView {
    let session = use_app().session;
    let url = link.url.unwrap_or_default();
    let copied = url.clone();
    view! {
        <div class="fresh" role="status">
            <p>{format!("With this link others can {}. It is shown only now.", words(link.role))}</p>
            <div class="fresh-url">
                <input
                    readonly
                    aria-label="The link"
                    data-testid="share-url"
                    prop:value=url
                    on:focus=on(|event: web_sys::FocusEvent| {
                        use wasm_bindgen::JsCast;
                        if let Some(input) = event.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok()) {
                            input.select();
                        }
                    })
                />
                <button data-testid="share-copy" on:click=on(move |_| session.copy(copied.clone(), Some("The link is copied.")))>"Copy"</button>
            </div>
            {link.qr_svg.map(|svg| view! {
                <div class="qr" role="img" aria-label="The link as a QR code" data-testid="share-qr" inner_html=svg></div>
            })}
        </div>
    }
}

/// The links that were made.
#[component]
fn Links() -> impl IntoView {
    let share = use_app().share;
    let row = move |link: Link| {
        let id = link.id;
        let left = link.expires_at.saturating_sub(browser::wall_clock());
        let state = match (link.revoked, left) {
            (true, _) => "revoked".to_owned(),
            (false, 0) => "over".to_owned(),
            (false, left) => format!("works for {}", clock::words((left / 60).max(1) * 60)),
        };
        let live = !link.revoked && left > 0;
        view! {
            <li class=if live { "" } else { "muted" } data-testid=format!("link-{id}")>
                <span>{format!("Link {id}: {}", words(link.role))}</span>
                <span class="link-state">{state}</span>
                {live.then(|| view! {
                    <ConfirmButton
                        label=format!("Revoke link {id}")
                        question="Really revoke?"
                        testid=format!("revoke-{id}")
                        act=Box::new(move || share.revoke(id))
                    >"Revoke"</ConfirmButton>
                })}
            </li>
        }
        .into_any()
    };
    view! {
        <h3>"Links"</h3>
        {part(move || match share.links.get() {
            None => view! { <p class="muted">"Asking …"</p> }.into_any(),
            Some(links) if links.is_empty() => view! { <p class="muted">"None yet."</p> }.into_any(),
            Some(links) => view! { <ul class="links">{links.into_iter().map(row).collect::<Vec<_>>()}</ul> }.into_any(),
        })}
    }
}
