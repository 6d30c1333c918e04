//! The place in the queue, while the host is full.

use super::parts::on;
use crate::{logic::clock, store::use_app};
use drydock_protocol::api::Queued;
use leptos::prelude::*;

/// The card.
#[component]
pub fn QueueCard(queued: Queued) -> impl IntoView {
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
    view! {
        <section class="card form-card queue" data-testid="queue" aria-labelledby="queue-title">
            <h2 id="queue-title">"All places are taken"</h2>
            <p role="status">
                <strong data-testid="queue-place" data-place=queued.place.to_string()>{place}</strong>
                " "
                {estimate}
            </p>
            <p>"Your session starts by itself. Leave this page open to keep your place."</p>
            <button data-testid="queue-leave" on:click=on(move |_| start.give_up())>"Leave the queue"</button>
        </section>
    }
}
