//! What is in the directory of the files dock.

use super::el::{El, el, group};
use super::{
    confirm_button::confirm_button,
    icon::{self, icon, icon_button},
};
use crate::{
    logic::{paths, units},
    store::{files::Shown, use_app},
};
use drydock_protocol::{
    api::Listing,
    pipe::{Entry, EntryKind},
};

/// The list.
pub fn file_list() -> El {
    let files = use_app().files;
    // It has the focus while what had it is read anew.
    let list = el("div").class("file-list").attr("tabindex", "-1").attr("aria-live", "polite");
    list.part(move || match files.shown.get() {
        Shown::Nowhere => el("p").class("muted").text("The session has no node."),
        Shown::Loading => el("p").class("muted").text("Reading …"),
        Shown::Failed(problem) => el("div")
            .class("problem-text")
            .child(el("p").text(problem.message))
            .child(el("button").click(move || files.reload()).text("Try again")),
        Shown::Ready(listing) => entries(listing),
    })
}

/// The entries, directories first.
fn entries(listing: Listing) -> El {
    let Listing { path, entries, cut } = listing;
    let files = use_app().files;
    let empty = entries.is_empty();
    let up = (path != "/").then(|| {
        let above = paths::parent(&path);
        let go = move || {
            if let Some(node) = files.node.get_untracked() {
                files.go(node, above.clone());
            }
        };
        el("tr").child(
            el("td").attr("colspan", "4").child(
                el("button")
                    .class("link file-name")
                    .click(go)
                    .child(icon(icon::UP))
                    .text(".. (the directory above)"),
            ),
        )
    });
    let (directories, others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|e| e.kind == EntryKind::Directory);
    let rows = directories.into_iter().chain(others).map(row);
    group()
        .child(
            el("table")
                .child(
                    el("thead").class("visually-hidden").child(
                        el("tr")
                            .child(el("th").text("Name"))
                            .child(el("th").text("Size"))
                            .child(el("th").text("Mode"))
                            .child(el("th").text("Actions")),
                    ),
                )
                .child(el("tbody").children(up).children(rows)),
        )
        .children(empty.then(|| el("p").class("muted").text("Nothing in here. Drop files to upload them.")))
        .children(cut.then(|| el("p").class("muted").text("There is more; the terminal shows it all.")))
}

/// One entry.
fn row(entry: Entry) -> El {
    let files = use_app().files;
    let name = entry.name.clone();
    let directory = entry.kind == EntryKind::Directory;
    let file = matches!(entry.kind, EntryKind::File | EntryKind::Link);
    let size = if entry.kind == EntryKind::File { units::bytes(entry.size) } else { String::new() };
    let open = {
        let entry = entry.clone();
        move || {
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
    el("tr")
        .child(
            el("td").child(
                el("button")
                    .class("link file-name")
                    .testid(format!("file-{name}"))
                    .attr_if("disabled", move || !(directory || file))
                    .click(open)
                    .child(icon(if directory { icon::FOLDER } else { icon::FILE }))
                    .text(name.clone()),
            ),
        )
        .child(el("td").class("number").text(size))
        .child(el("td").class("mode").text(units::mode(entry.mode)))
        .child(
            el("td")
                .class("row-buttons")
                .children(file.then(|| {
                    group()
                        .child(
                            icon_button(&format!("Edit {name}"), icon::PEN)
                                .testid(format!("edit-{name}"))
                                .click(move || files.edit(&edited)),
                        )
                        .child(
                            el("a")
                                .class("button quiet")
                                .attr("title", "Download")
                                .attr("aria-label", format!("Download {name}"))
                                .testid(format!("download-{name}"))
                                .attr_of("href", move || files.download_url(&downloaded))
                                .attr("download", name.clone())
                                .child(icon(icon::DOWNLOAD)),
                        )
                }))
                .child(confirm_button(
                    format!("Delete {name}"),
                    "Delete?",
                    format!("delete-{name}"),
                    Box::new(move || files.remove(&deleted)),
                    move || icon(icon::TRASH),
                )),
        )
}
