//! What one can do with the session's cluster from outside, and what it does not do yet.

use super::dialog::dialog;
use super::el::{El, el, group};
use super::icon::{self, icon, icon_button};
use crate::reactive::*;
use crate::store::use_app;

/// The dialog.
pub fn cluster_dialog(open: RwSignal<bool>) -> El {
    let app = use_app();
    let session = app.session;
    let command = move || {
        let id = session.id.with(|id| id.as_ref().map(ToString::to_string)).unwrap_or_default();
        format!("kubectl --kubeconfig drydock-{id}.kubeconfig get nodes")
    };
    let download = move || {
        el("button")
            .class("primary")
            .testid("kubeconfig")
            .off_if(move || app.share.busy.get())
            .click(move || app.share.kubeconfig())
            .child(icon(icon::DOWNLOAD))
            .text("Download the kubeconfig")
    };
    let outside = move || {
        group()
            .child(el("h3").text("From your own machine"))
            .child(el("p").text("The file opens this cluster to whoever has it, as a link that lets people type. It works as long as the session, and can be revoked under Share."))
            .child(el("div").class("actions").child(download()))
            .child(
                el("p").child(el("code").text_of(command)).child(
                    icon_button("Copy the command", icon::COPY)
                        .click(move || session.copy(untrack(command), Some("The command is copied."))),
                ),
            )
    };
    let content = group()
        .child(el("p").text("node1 is the control plane. kubectl and helm on every node are administrators already; try kubectl get nodes."))
        .when(move || session.may_own(), outside)
        .child(el("h3").text("Not there yet"))
        .child(el("p").text("Services get their addresses and endpoints, but nothing answers at a ClusterIP, and names of Services are not resolved. Pods reach each other by their addresses."));
    dialog(open, "Kubernetes", "cluster-dialog", content)
}
