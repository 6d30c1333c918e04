//! The place in the queue, while the host is full.

use super::el::{El, el};
use crate::{logic::clock, reactive::document, store::use_app};
use drydock_protocol::api::Queued;

/// The card.
pub fn queue_card(queued: Queued) -> El {
    let start = use_app().start;
    let place = match queued.place {
        0 | 1 => "You are next.".to_owned(),
        n => format!("You are number {n} in the queue."),
    };
    let estimate = match queued.estimate_seconds {
        0 => "It should be your turn any moment.".to_owned(),
        s if s < 60 => "It should take less than a minute.".to_owned(),
        s => format!("It should take about {}.", clock::words(s.div_ceil(60) * 60)),
    };
    document().set_title(&format!("Place {} in the queue · Drydock", queued.place));
    el("section")
        .class("card form-card queue")
        .testid("queue")
        .attr("aria-labelledby", "queue-title")
        .child(el("h2").attr("id", "queue-title").text("All places are taken"))
        .child(
            el("p")
                .attr("role", "status")
                .child(
                    el("strong")
                        .testid("queue-place")
                        .attr("data-place", queued.place.to_string())
                        .text(place),
                )
                .text(" ")
                .text(estimate),
        )
        .child(el("p").text("Your session starts by itself. Leave this page open to keep your place."))
        .child(el("button").testid("queue-leave").click(move || start.give_up()).text("Leave the queue"))
}
