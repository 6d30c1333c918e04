//! The files of a node: a directory, or the text editor in its stead.

use super::el::{El, el, group, nothing};
use super::nodes_panel::{node_name, node_numbers};
use super::{
    file_editor::file_editor,
    file_list::file_list,
    icon::{self, icon, icon_button},
    upload_list::upload_list,
};
use crate::reactive::*;
use crate::{
    browser,
    logic::paths,
    store::{App, files::Naming, session::Area, use_app},
    term::vendor,
};
use wasm_bindgen::JsCast;
use web_sys::{DragEvent, Event, File, HtmlInputElement};

/// What was dropped, but for folders: says that they can't be uploaded.
pub fn dropped_files(app: App, event: &DragEvent) -> Vec<File> {
    let Some(data) = event.data_transfer() else { return Vec::new() };
    let all = data.files().map_or(0, |files| files.length());
    let files = vendor::dropped_files(&data);
    if files.length() < all {
        app.notices
            .error("Folders can't be uploaded. Pack a folder into one file (tar, zip) and upload that.");
    }
    files.iter().map(JsCast::unchecked_into).collect()
}

/// The dock. It stays in the page, hidden, while a file is open in it: what was typed must not be lost.
pub fn files_dock(shown: impl Fn() -> bool + 'static) -> El {
    let app = use_app();
    let files = app.files;
    let dragging = RwSignal::new(false);
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        dragging.set(false);
        files.upload(dropped_files(app, &event));
    };
    let editing = move || files.editing.with(|e| e.as_ref().map(|e| e.reading));
    el("section")
        .class("files")
        .class_if("dragging", move || dragging.get())
        .attr("data-area", "files")
        .attr_if("hidden", move || !shown())
        .testid("files")
        .attr("aria-labelledby", "files-title")
        .on("dragover", move |event: DragEvent| {
            event.prevent_default();
            dragging.set(true);
        })
        .on("dragleave", move |_: Event| dragging.set(false))
        .on("drop", on_drop)
        .switch(editing, |editing| {
            if editing.is_some() { file_editor() } else { group().child(dock_head()).child(file_list()) }
        })
        .child(upload_list())
}

/// Whose files, which directory, what to do.
fn dock_head() -> El {
    let app = use_app();
    let (files, session) = (app.files, app.session);
    let choose = move |event: web_sys::Event| {
        if let Ok(node) = event_target_value(&event).parse() {
            files.show(Some(node));
        }
    };
    let close = move || {
        files.open.set(false);
        session.area.set(Area::Terminals);
        browser::focus("[data-testid='toggle-files'], [data-testid='area-terminals']");
    };
    group()
        .child(
            el("div")
                .class("panel-head")
                .child(el("h2").attr("id", "files-title").class("panel-title").text("Files"))
                .child(
                    el("select")
                        .attr("aria-label", "Node")
                        .testid("files-node")
                        .value(move || files.node.get().map(|n| n.to_string()).unwrap_or_default())
                        .on("change", choose)
                        .each(node_numbers(session), move |number| {
                            let name = node_name(number);
                            el("option")
                                .attr("value", name.to_string())
                                .attr_if("selected", move || files.node.get() == Some(name))
                                .text(name.to_string())
                        }),
                )
                .child(el("span").class("spacer"))
                .child(
                    icon_button("Read again", icon::RELOAD)
                        .testid("files-reload")
                        .click(move || files.reload()),
                )
                .child(icon_button("Close the files", icon::CLOSE).testid("files-close").click(close)),
        )
        .child(crumbs())
        .child(dock_buttons())
}

/// The directory's path, each part a way up.
fn crumbs() -> El {
    let files = use_app().files;
    el("nav")
        .class("crumbs")
        .attr("aria-label", "Directory")
        .testid("files-path")
        .attr_of("data-path", move || files.path.get())
        .part(move || {
            group().children(paths::crumbs(&files.path.get()).into_iter().map(|(name, path)| {
                let go = move || {
                    if let Some(node) = files.node.get_untracked() {
                        files.go(node, path.clone());
                    }
                };
                el("button").class("link").click(go).text(name)
            }))
        })
}

/// Upload, new folder, new file.
fn dock_buttons() -> El {
    let files = use_app().files;
    let naming = files.naming;
    let nowhere = move || files.node.get().is_none();
    let ask = move |what: Naming| {
        if !untrack(nowhere) {
            naming.set(Some(what));
        }
    };
    let chosen = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        if let Some(list) = input.files().filter(|list| list.length() > 0) {
            files.upload((0..list.length()).filter_map(|i| list.get(i)).collect());
        }
        // The same file again is a change again.
        input.set_value("");
    };
    group()
        .child(
            el("div")
                .class("dock-buttons")
                .child(
                    el("label")
                        .class("button upload")
                        .off_if(nowhere)
                        .child(icon(icon::UPLOAD))
                        .text("Upload")
                        .child(
                            el("input")
                                .attr("type", "file")
                                .attr_if("disabled", nowhere)
                                .attr("multiple", "")
                                .class("visually-hidden")
                                .testid("upload-input")
                                .on("change", chosen),
                        ),
                )
                .child(
                    el("button")
                        .testid("new-folder")
                        .off_if(nowhere)
                        .click(move || ask(Naming::Folder))
                        .child(icon(icon::FOLDER))
                        .text("New folder"),
                )
                .child(
                    el("button")
                        .testid("new-file")
                        .off_if(nowhere)
                        .click(move || ask(Naming::File))
                        .child(icon(icon::FILE))
                        .text("New file"),
                ),
        )
        .part(move || match naming.get() {
            Some(naming) => name_form(naming),
            None => nothing(),
        })
}

/// Asks for a name.
fn name_form(what: Naming) -> El {
    let files = use_app().files;
    let naming = files.naming;
    let old = if let Naming::Rename(old) = &what { old.clone() } else { String::new() };
    let name = RwSignal::new(old.clone());
    files.refused.set(String::new());
    let (label, done) = match what {
        Naming::Folder => ("Name of the new folder".to_owned(), "Make"),
        Naming::File => ("Name of the new file".to_owned(), "Make"),
        Naming::Rename(_) => (format!("New name of {old}"), "Rename"),
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let name = name.get_untracked().trim().to_owned();
        if let Some(reason) = paths::refuse(&name) {
            return files.refused.set(reason.to_owned());
        }
        match &what {
            Naming::Rename(old) if *old == name => naming.set(None),
            what => files.name(what.clone(), name),
        }
    };
    el("form")
        .class("name-form")
        .on("submit", submit)
        .child(
            el("input")
                .attr("aria-label", &label)
                .attr("placeholder", &label)
                .attr("value", old)
                .testid("new-name")
                .focus()
                .on("input", move |event: Event| name.set(event_target_value(&event)))
                .on("keydown", move |event: web_sys::KeyboardEvent| {
                    if event.key() == "Escape" {
                        naming.set(None);
                    }
                }),
        )
        .child(el("button").attr("type", "submit").text(done))
        .child(
            el("button").attr("type", "button").class("quiet").click(move || naming.set(None)).text("Cancel"),
        )
        .child(
            el("p")
                .class("problem-text")
                .attr("role", "alert")
                .testid("name-problem")
                .text_of(move || files.refused.get()),
        )
}
