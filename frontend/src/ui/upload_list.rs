//! Files on their way to a node, with their progress.

use super::parts::{each, on, part};
use super::icon::{self, Icon};
use crate::{
    logic::paths,
    store::{
        uploads::{Sent, Upload},
        use_app,
    },
};
use leptos::prelude::*;

/// The list; nothing while no file is on its way.
#[component]
pub fn UploadList() -> impl IntoView {
    let session = use_app().session;
    view! {
        <ul class="uploads" aria-label="Uploads">
            {each(
                move || session.uploads.with(|all| all.iter().map(|u| u.id).collect()),
                move |number| match session.uploads.with_untracked(|all| all.iter().find(|u| u.id == number).cloned()) {
                    Some(upload) => view! { <Line upload/> }.into_any(),
                    None => ().into_any(),
                },
            )}
        </ul>
    }
}

/// One file.
#[component]
fn Line(upload: Upload) -> impl IntoView {
    let session = use_app().session;
    let number = upload.id;
    let name = paths::name(&upload.path).to_owned();
    let title = format!("{}:{}", upload.node, upload.path);
    let state = upload.sent.clone();
    let progress = {
        let name = name.clone();
        move || match state.get() {
            Sent::Part(part) => view! { <progress max="1" value=part.to_string() aria-label=format!("Upload of {name}")></progress> }.into_any(),
            Sent::Done => "done".into_any(),
            Sent::Failed(message) => view! { <span class="problem-text" role="alert">{message}</span> }.into_any(),
        }
    };
    let stop = move |_| {
        if matches!(upload.sent.get_untracked(), Sent::Part(_)) {
            upload.cancel();
        } else {
            session.drop_upload(number);
        }
    };
    view! {
        <li data-testid=format!("upload-{number}")>
            <span class="upload-name" title=title>{name.clone()}</span>
            {part(progress)}
            <button class="quiet" aria-label=format!("Stop or dismiss the upload of {name}") on:click=on(stop)><Icon d=icon::CLOSE/></button>
        </li>
    }
}
