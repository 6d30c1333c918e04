//! The share dialog: make links that let others look or type, and revoke them.

use super::el::{El, el, group, nothing};
use super::{confirm_button::confirm_button, dialog::dialog};
use crate::reactive::*;
use crate::{
    browser,
    logic::clock,
    store::{known::Known, use_app},
};
use drydock_protocol::{api::Link, state::Role};
use web_sys::Event;

/// The dialog.
pub fn share_dialog(open: RwSignal<bool>) -> El {
    let share = use_app().share;
    share.fresh.set(None);
    share.load();
    let content = group()
        .child(create_form())
        .part(move || match share.fresh.get() {
            Some(link) => fresh(link),
            None => nothing(),
        })
        .child(links());
    dialog(open, "Share this session", "share-dialog", content)
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
fn create_form() -> El {
    let share = use_app().share;
    let role = Known::new(Role::View);
    let ttl = Known::new(None::<u64>);
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
    el("form")
        .class("share-form")
        .on("submit", submit)
        .child(
            el("label").class("field").child(el("span").text("Who has the link may")).child(
                el("select")
                    .testid("share-role")
                    .on("change", choose_role)
                    .child(el("option").attr("value", "view").text("look"))
                    .child(el("option").attr("value", "type").text("look and type"))
                    .child(el("option").attr("value", "own").text("do everything, as you")),
            ),
        )
        .child(
            el("label").class("field").child(el("span").text("It works for")).child(
                el("select")
                    .testid("share-expiry")
                    .on("change", move |event: Event| ttl.set(event_target_value(&event).parse().ok()))
                    .child(el("option").attr("value", "").text("as long as the session"))
                    .child(el("option").attr("value", "900").text("15 minutes"))
                    .child(el("option").attr("value", "3600").text("1 hour"))
                    .child(el("option").attr("value", "7200").text("2 hours")),
            ),
        )
        .child(
            el("button")
                .class("primary")
                .attr("type", "submit")
                .testid("share-create")
                .off_if(move || share.busy.get())
                .text("Make a link"),
        )
}

/// The link just made: it is shown this once.
fn fresh(link: Link) -> El {
    let session = use_app().session;
    let url = link.url.unwrap_or_default();
    let copied = url.clone();
    el("div")
        .class("fresh")
        .attr("role", "status")
        .child(el("p").text(format!("With this link others can {}. It is shown only now.", words(link.role))))
        .child(
            el("div")
                .class("fresh-url")
                .child(
                    el("input")
                        .attr("readonly", "")
                        .attr("aria-label", "The link")
                        .testid("share-url")
                        .attr("value", url)
                        .on("focus", |event: web_sys::FocusEvent| {
                            use wasm_bindgen::JsCast;
                            if let Some(input) =
                                event.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok())
                            {
                                input.select();
                            }
                        }),
                )
                .child(
                    el("button")
                        .testid("share-copy")
                        .click(move || session.copy(copied.clone(), Some("The link is copied.")))
                        .text("Copy"),
                ),
        )
        .children(link.qr_svg.map(|svg| {
            el("div")
                .class("qr")
                .attr("role", "img")
                .attr("aria-label", "The link as a QR code")
                .testid("share-qr")
                .html(&svg)
        }))
}

/// The links that were made.
fn links() -> El {
    let app = use_app();
    let share = app.share;
    // The server counts the links of all sessions; here the first is 1.
    let row = move |(at, link): (usize, Link)| {
        let (id, number) = (link.id, at + 1);
        let left = link.expires_at.saturating_sub(browser::wall_clock());
        let state = match (link.revoked, left) {
            (true, _) => "revoked".to_owned(),
            (false, 0) => "over".to_owned(),
            (false, left) => format!("works for {}", clock::words((left / 60).max(1) * 60)),
        };
        let live = !link.revoked && left > 0;
        el("li")
            .attr("class", if live { "" } else { "muted" })
            .testid(format!("link-{id}"))
            .child(el("span").text(format!("Link {number}: {}", words(link.role))))
            .children(link.yours.then(|| el("strong").text("this browser")))
            .child(el("span").class("link-state").text(state))
            .children((live && !link.yours).then(|| {
                confirm_button(
                    format!("Revoke link {number}"),
                    "Really revoke?",
                    format!("revoke-{id}"),
                    Box::new(move || share.revoke(id)),
                    move || group().text("Revoke"),
                )
            }))
    };
    group().child(el("h3").text("Links")).part(move || match share.links.get() {
        None => el("p").class("muted").text("Asking …"),
        Some(links) if links.is_empty() => el("p").class("muted").text("None yet."),
        Some(links) => {
            let opens_ports = |l: &Link| !l.yours && !l.revoked && l.role > Role::View;
            let warned = links.iter().any(opens_ports).then(|| {
                el("p").class("muted").testid("revoke-hint").text(
                    "Revoking a link that lets people type gives all ports new addresses: open yours again then.",
                )
            });
            group()
                .child(el("ul").class("links").children(links.into_iter().enumerate().map(row)))
                .children(warned)
        }
    })
}
