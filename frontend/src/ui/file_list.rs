//! What is in the directory of the files dock.

use super::el::{El, el, group};
use super::{
    confirm_button::confirm_button,
    icon::{self, icon, icon_button},
};
use crate::{
    logic::{paths, units},
    store::{
        files::{Naming, Shown},
        known::Known,
        use_app,
    },
};
use drydock_protocol::{
    api::Listing,
    pipe::{Entry, EntryKind},
};
use std::rc::Rc;

/// So many entries are drawn at once: a browser takes seconds for ten thousand.
const AT_ONCE: usize = 500;

/// The list.
pub fn file_list() -> El {
    let files = use_app().files;
    let status = move || {
        files.shown.with(|shown| match shown {
            Shown::Ready(Listing { path, entries, .. }) => format!("{} entries in {path}", entries.len()),
            Shown::Failed(problem) => problem.message.clone(),
            _ => String::new(),
        })
    };
    // It has the focus while what had it is read anew.
    let list = el("div").class("file-list").attr("tabindex", "-1");
    let list = list.part(move || match files.shown.get() {
        Shown::Nowhere => el("p").class("muted").text("The session has no node."),
        Shown::Loading => el("p").class("muted").text("Reading …"),
        Shown::Failed(problem) => el("div")
            .class("problem-text")
            .child(el("p").text(problem.message))
            .child(el("button").click(move || files.reload()).text("Try again")),
        Shown::Ready(listing) => entries(listing),
    });
    group()
        .child(el("p").class("visually-hidden").attr("role", "status").testid("files-status").text_of(status))
        .child(list)
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
    let (mut all, others): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(leads_to_directory);
    all.extend(others);
    let all = Rc::new(all);
    let parts = Known::new(1);
    let count = all.len();
    let rows = move |part: u32| {
        let begin = part as usize * AT_ONCE;
        el("tbody").children(all[begin..count.min(begin + AT_ONCE)].iter().cloned().map(row))
    };
    let left = move || count.saturating_sub(parts.get() as usize * AT_ONCE);
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
                .children(up.map(|up| el("tbody").child(up)))
                .each(move || (0..parts.get()).collect(), rows),
        )
        .when(
            move || left() > 0,
            move || {
                el("button")
                    .testid("files-more")
                    .click(move || parts.update(|n| *n += 1))
                    .text_of(move || format!("Show {} of {} more", left().min(AT_ONCE), left()))
            },
        )
        .children(empty.then(|| el("p").class("muted").text("Nothing in here. Drop files to upload them.")))
        .children(cut.then(|| el("p").class("muted").text("There is more; the terminal shows it all.")))
}

/// A directory, or a symbolic link that leads to one.
fn leads_to_directory(entry: &Entry) -> bool {
    entry.target.unwrap_or(entry.kind) == EntryKind::Directory
}

/// One entry.
fn row(entry: Entry) -> El {
    let files = use_app().files;
    let name = entry.name.clone();
    let directory = leads_to_directory(&entry);
    let file = !directory && matches!(entry.kind, EntryKind::File | EntryKind::Link);
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
    let (edited, downloaded, renamed, deleted) = (entry.clone(), name.clone(), name.clone(), name.clone());
    let mut first = el("button")
        .class("link file-name")
        .testid(format!("file-{name}"))
        .attr_if("disabled", move || !(directory || file))
        .click(open)
        .child(icon(if directory { icon::FOLDER } else { icon::FILE }))
        .text(name.clone());
    if files.named.with_untracked(|named| named.as_ref() == Some(&name)) {
        files.named.set(None);
        first = first.focus();
    }
    el("tr")
        .child(el("td").child(first))
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
                .child(
                    icon_button(&format!("Rename {name}"), icon::RENAME)
                        .testid(format!("rename-{name}"))
                        .click(move || files.naming.set(Some(Naming::Rename(renamed.clone())))),
                )
                .child(confirm_button(
                    format!("Delete {name}"),
                    "Delete?",
                    format!("delete-{name}"),
                    Box::new(move || files.remove(&deleted)),
                    move || icon(icon::TRASH),
                )),
        )
}
