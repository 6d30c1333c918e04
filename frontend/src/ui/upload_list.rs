//! Files on their way to a node, with their progress.

use super::el::{El, el, group, nothing};
use super::icon::{self, icon_button};
use crate::{
    logic::{paths, units},
    store::{
        uploads::{Sent, Upload},
        use_app,
    },
};

/// The list; nothing while no file is on its way.
pub fn upload_list() -> El {
    let session = use_app().session;
    el("ul").class("uploads").attr("aria-label", "Uploads").each(
        move || session.uploads.with(|all| all.iter().map(|u| u.id).collect()),
        move |number| match session.uploads.with_untracked(|all| all.iter().find(|u| u.id == number).cloned())
        {
            Some(upload) => line(upload),
            None => nothing(),
        },
    )
}

/// One file.
fn line(upload: Upload) -> El {
    let session = use_app().session;
    let number = upload.id;
    let name = paths::name(&upload.path).to_owned();
    let title = format!("{}:{}", upload.node, upload.path);
    let state = upload.sent;
    let progress = {
        let name = name.clone();
        move || match state.get() {
            Sent::Part(part) => el("progress")
                .attr("max", "1")
                .attr("value", units::fixed(part, 3))
                .attr("aria-label", format!("Upload of {name}")),
            Sent::Done => group().text("done"),
            Sent::Failed(message) => el("span").class("problem-text").attr("role", "alert").text(message),
        }
    };
    let stop = move || {
        if matches!(upload.sent.get_untracked(), Sent::Part(_)) {
            upload.cancel();
        } else {
            session.drop_upload(number);
        }
    };
    el("li")
        .testid(format!("upload-{number}"))
        .child(el("span").class("upload-name").attr("title", title).text(name.clone()))
        .part(progress)
        .child(icon_button(&format!("Stop or dismiss the upload of {name}"), icon::CLOSE).click(stop))
}
