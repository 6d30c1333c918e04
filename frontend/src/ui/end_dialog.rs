//! Asks once before the session is ended, and says what is lost.

use super::parts::on;
use super::dialog::Dialog;
use crate::store::use_app;
use leptos::prelude::*;

/// The dialog.
#[component]
pub fn EndDialog(open: RwSignal<bool>) -> impl IntoView {
    let session = use_app().session;
    let nodes = session.state.with_untracked(|s| s.nodes.len());
    let what = if nodes == 1 { "The node".to_owned() } else { format!("All {nodes} nodes") };
    view! {
        <Dialog open title="End this session?" testid="end-dialog">
            <p>{format!("{what} and everything on them are deleted, for you and for everybody who has a link. Download first what you want to keep.")}</p>
            <div class="actions">
                <button data-testid="end-cancel" autofocus on:click=on(move |_| open.set(false))>"Go on working"</button>
                <button
                    class="danger-fill"
                    data-testid="end-confirm"
                    on:click=on(move |_| {
                        open.set(false);
                        session.end();
                    })
                >"End the session"</button>
            </div>
        </Dialog>
    }
}
