//! The nodes of the session, at the left.

use super::{
    icon::{self, Icon},
    node_card::NodeCard,
};
use crate::store::use_app;
use leptos::prelude::*;

/// The panel.
#[component]
pub fn NodesPanel() -> impl IntoView {
    let session = use_app().session;
    let names = Memo::new(move |_| session.state.with(|s| s.nodes.iter().map(|n| n.name).collect::<Vec<_>>()));
    let most = move || session.about.with(|a| a.as_ref().map(|a| a.max_nodes));
    let full = move || most().is_some_and(|most| names.with(Vec::len) >= usize::from(most));
    let reason = move || match most() {
        Some(most) if full() => format!("This session may have {most} nodes."),
        _ => String::new(),
    };
    view! {
        <section class="nodes" data-area="nodes" aria-labelledby="nodes-title">
            <h2 id="nodes-title" class="panel-title">"Nodes"</h2>
            <ul class="node-list">
                <For each=move || names.get() key=|name| *name let:name>
                    <NodeCard name/>
                </For>
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
                        {move || if session.adding.get() { "Adding a node …" } else { "Add a node" }}
                    </button>
                    <small id="add-node-reason">{reason}</small>
                </div>
            }.into_any())}
        </section>
    }
}
