//! The nodes of the session, at the left.

use super::el::{El, el};
use super::{
    icon::{self, icon},
    node_card::node_card,
};
use crate::logic::units;
use crate::reactive::*;
use crate::store::{session::SessionStore, use_app};
use drydock_protocol::NodeName;

/// The panel.
pub fn nodes_panel() -> El {
    let session = use_app().session;
    let count = move || session.state.with(|s| s.nodes.len());
    let most = move || session.about.with(|a| a.as_ref().map(|a| a.max_nodes));
    let full = move || most().is_some_and(|most| count() >= usize::from(most));
    let reason = move || match most() {
        Some(most) if full() => format!("This session may have {most} nodes."),
        _ => String::new(),
    };
    let limits = move || session.about.with(|a| a.as_ref().map(|a| units::limits(&a.limits)));
    el("section")
        .class("nodes")
        .attr("data-area", "nodes")
        .attr("aria-labelledby", "nodes-title")
        .child(el("h2").attr("id", "nodes-title").class("panel-title").text("Nodes"))
        .child(el("ul").class("node-list").each(node_numbers(session), |number| node_card(node_name(number))))
        .when(
            move || session.may_own(),
            move || {
                el("div")
                    .class("add-node")
                    .child(
                        el("button")
                            .testid("add-node")
                            .off_if(move || full() || session.adding.get())
                            .attr("aria-describedby", "add-node-reason")
                            .click(move || {
                                if !untrack(full) {
                                    session.add_node();
                                }
                            })
                            .child(icon(icon::PLUS))
                            .text_of(
                                move || if session.adding.get() { "Adding a node …" } else { "Add a node" },
                            ),
                    )
                    .child(el("small").attr("id", "add-node-reason").text_of(reason))
            },
        )
        .child(el("small").class("muted").testid("limits").text_of(move || limits().unwrap_or_default()))
}

/// The nodes' numbers, for a list of them.
pub fn node_numbers(session: SessionStore) -> impl Fn() -> Vec<u32> {
    move || session.state.with(|s| s.nodes.iter().map(|n| n.name.number().into()).collect())
}

/// The node with a number from such a list.
pub fn node_name(number: u32) -> NodeName {
    let first = NodeName::new(1);
    // The numbers come from names, so that each has one.
    u8::try_from(number)
        .ok()
        .and_then(NodeName::new)
        .or(first)
        .unwrap_or_else(|| unreachable!("node1 is a name"))
}
