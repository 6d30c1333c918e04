//! Asks once before the session is ended, and says what is lost.

use super::dialog::dialog;
use super::el::{El, el, group};
use crate::reactive::*;
use crate::store::use_app;

/// The dialog.
pub fn end_dialog(open: RwSignal<bool>) -> El {
    let session = use_app().session;
    let nodes = session.state.with_untracked(|s| s.nodes.len());
    let what = if nodes == 1 { "The node".to_owned() } else { format!("All {nodes} nodes") };
    let content = group().child(el("p").text(format!("{what} and everything on them are deleted, for you and for everybody who has a link. Download first what you want to keep."))).child(el("div").class("actions").child(el("button").testid("end-cancel").attr("autofocus", "").click(move || open.set(false)).text("Go on working")).child(el("button").class("danger-fill").testid("end-confirm").click(move || {
                        open.set(false);
                        session.end();
                    }).text("End the session")));
    dialog(open, "End this session?", "end-dialog", content)
}
