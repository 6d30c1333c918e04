//! What is in the directory of the files dock.

use super::parts::{on, part, text};
use super::{
    confirm_button::ConfirmButton,
    icon::{self, Icon},
};
use crate::{
    logic::{paths, units},
    store::{files::Shown, use_app},
};
use drydock_protocol::{
    api::Listing,
    pipe::{Entry, EntryKind},
};
use leptos::prelude::*;

/// The list.
#[component]
pub fn FileList() -> impl IntoView {
    let files = use_app().files;
    view! {
        <div class="file-list" aria-live="polite">
            {part(move || match files.shown.get() {
                Shown::Loading => view! { <p class="muted">"Reading …"</p> }.into_any(),
                Shown::Failed(problem) => view! {
                    <div class="problem-text">
                        <p>{problem.message}</p>
                        <button on:click=on(move |_| files.reload())>"Try again"</button>
                    </div>
                }.into_any(),
                Shown::Ready(listing) => view! { <Entries listing/> }.into_any(),
            })}
        </div>
    }
}

/// The entries, directories first.
#[component]
fn Entries(listing: Listing) -> impl IntoView {
    let Listing { path, mut entries, cut } = listing;
    let files = use_app().files;
    entries.sort_by_key(|e| e.kind != EntryKind::Directory);
    let empty = entries.is_empty();
    let up = (path != "/").then(|| {
        let above = paths::parent(&path);
        let go = move |_| {
            if let Some(node) = files.node.get_untracked() {
                files.go(node, above.clone());
            }
        };
        view! {
            <tr>
                <td colspan="4"><button class="link file-name" on:click=on(go)><Icon d=icon::UP/>".. (the directory above)"</button></td>
            </tr>
        }
    });
    let rows: Vec<AnyView> = entries.into_iter().map(|entry| view! { <Row entry/> }.into_any()).collect();
    view! {
        <table>
            <thead class="visually-hidden">
                <tr><th>"Name"</th><th>"Size"</th><th>"Mode"</th><th>"Actions"</th></tr>
            </thead>
            <tbody>{up} {rows}</tbody>
        </table>
        {empty.then(|| view! { <p class="muted">"Nothing in here. Drop files to upload them."</p> })}
        {cut.then(|| view! { <p class="muted">"There is more; the terminal shows it all."</p> })}
    }
}

/// One entry.
#[component]
fn Row(entry: Entry) -> impl IntoView {
    let files = use_app().files;
    let name = entry.name.clone();
    let directory = entry.kind == EntryKind::Directory;
    let file = matches!(entry.kind, EntryKind::File | EntryKind::Link);
    let size = if entry.kind == EntryKind::File { units::bytes(entry.size) } else { String::new() };
    let open = {
        let entry = entry.clone();
        move |_| {
            if directory {
                if let Some(node) = files.node.get_untracked() {
                    files.go(node, files.path_of(&entry.name));
                }
            } else {
                files.edit(&entry);
            }
        }
    };
    let (edited, downloaded, deleted) = (entry.clone(), name.clone(), name.clone());
    view! {
        <tr>
            <td>
                <button class="link file-name" data-testid=format!("file-{name}") disabled=!(directory || file) on:click=on(open)>
                    <Icon d=if directory { icon::FOLDER } else { icon::FILE }/>
                    {name.clone()}
                </button>
            </td>
            <td class="number">{size}</td>
            <td class="mode">{units::mode(entry.mode)}</td>
            <td class="row-buttons">
                {file.then(|| view! {
                    <button
                        class="quiet"
                        title="Edit"
                        aria-label=format!("Edit {name}")
                        data-testid=format!("edit-{name}")
                        on:click=on(move |_| files.edit(&edited))
                    ><Icon d=icon::PEN/></button>
                    <a
                        class="button quiet"
                        title="Download"
                        aria-label=format!("Download {name}")
                        data-testid=format!("download-{name}")
                        href=text(move || files.download_url(&downloaded))
                        download=name.clone()
                    ><Icon d=icon::DOWNLOAD/></a>
                })}
                <ConfirmButton
                    label=format!("Delete {name}")
                    question="Delete?"
                    testid=format!("delete-{name}")
                    act=Box::new(move || files.remove(&deleted))
                ><Icon d=icon::TRASH/></ConfirmButton>
            </td>
        </tr>
    }
}
