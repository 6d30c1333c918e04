//! The nodes of the session, at the left.

use super::parts::{each, flag, on, text, when};
use super::{
    icon::{self, Icon},
    node_card::NodeCard,
};
use crate::store::{session::SessionStore, use_app};
use drydock_protocol::NodeName;
use leptos::prelude::*;

/// The panel.
#[component]
pub fn NodesPanel() -> impl IntoView {
    let session = use_app().session;
    let count = move || session.state.with(|s| s.nodes.len());
    let most = move || session.about.with(|a| a.as_ref().map(|a| a.max_nodes));
    let full = move || most().is_some_and(|most| count() >= usize::from(most));
    let reason = move || match most() {
        Some(most) if full() => format!("This session may have {most} nodes."),
        _ => String::new(),
    };
    view! {
        <section class="nodes" data-area="nodes" aria-labelledby="nodes-title">
            <h2 id="nodes-title" class="panel-title">"Nodes"</h2>
            <ul class="node-list">
                {each(node_numbers(session), |number| view! { <NodeCard name=node_name(number)/> }.into_any())}
            </ul>
            {when(move || session.may_own(), move || view! {
                <div class="add-node">
                    <button
                        data-testid="add-node"
                        disabled=flag(move || full() || session.adding.get())
                        aria-describedby="add-node-reason"
                        on:click=on(move |_| session.add_node())
                    >
                        <Icon d=icon::PLUS/>
                        {text(move || if session.adding.get() { "Adding a node …" } else { "Add a node" })}
                    </button>
                    <small id="add-node-reason">{text(reason)}</small>
                </div>
            }.into_any())}
        </section>
    }
}

/// The nodes' numbers, for a list of them.
pub fn node_numbers(session: SessionStore) -> impl Fn() -> Vec<u32> {
    move || session.state.with(|s| s.nodes.iter().map(|n| n.name.number().into()).collect())
}

/// The node with a number from such a list.
pub fn node_name(number: u32) -> NodeName {
    let first = NodeName::new(1);
    // The numbers come from names, so that each has one.
    u8::try_from(number).ok().and_then(NodeName::new).or(first).unwrap_or_else(|| unreachable!("node1 is a name"))
}
