//! The text editor of the files dock: CodeMirror, fetched when the first file is opened.

use super::el::{El, el, group};
use super::{
    confirm_button::confirm_button,
    icon::{self, icon, icon_button},
};
use crate::reactive::*;
use crate::{
    browser,
    store::{files::Saving, use_app},
    term::vendor::{self, Editor, EditorModule},
};
use std::rc::Rc;
use wasm_bindgen::{JsCast, prelude::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Element;

/// The editor with its head.
pub fn file_editor() -> El {
    let app = use_app();
    let files = app.files;
    let host = el("div").class("editor").testid("editor");
    let element: Element = host.dom();
    let editor = StoredValue::new_local(None::<Editor>);
    let waiting = RwSignal::new(true);
    let save = move |even_if_changed: bool| {
        if let Some(text) = editor.with_value(|e| e.as_ref().map(Editor::text)) {
            files.save(text, even_if_changed);
        }
    };
    let host = host.mounted(move || {
        let Some(file) = files.editing.get_untracked() else { return };
        let dark = untrack(|| app.looks.dark());
        spawn_local(async move {
            let Ok(module) = JsFuture::from(vendor::load_editor()).await else {
                files.close_file();
                return app
                    .notices
                    .error("The editor could not be fetched. Check your connection, then try again.");
            };
            // Closed meanwhile.
            if files.editing.get_untracked().is_none_or(|now| now.reading != file.reading) {
                return;
            }
            let on = browser::object(&[
                ("save", Closure::<dyn Fn()>::new(move || save(false)).into_js_value()),
                ("change", Closure::<dyn Fn()>::new(move || files.changed()).into_js_value()),
            ]);
            let opened = module
                .unchecked_into::<EditorModule>()
                .open(&element, &file.text, &file.path, dark, false, &on);
            opened.focus();
            editor.set_value(Some(opened));
            waiting.set(false);
        });
    });
    on_cleanup(move || {
        editor.update_value(|editor| {
            if let Some(editor) = editor.take() {
                editor.destroy();
            }
        });
    });
    // Who has pressed a button goes on writing.
    let press = move |even_if_changed: bool| {
        editor.with_value(|editor| editor.iter().for_each(Editor::focus));
        save(even_if_changed);
    };
    group()
        .child(editor_head(Box::new(move || press(false))))
        .child(conflict(Rc::new(move || press(true))))
        .when(move || waiting.get(), move || el("p").class("muted").text("Fetching the editor …"))
        .child(host)
}

/// The file's name, save and close.
fn editor_head(save: Box<dyn Fn()>) -> El {
    let files = use_app().files;
    let title = move || {
        files.editing.with(|f| f.as_ref().map(|f| format!("{}:{}", f.node, f.path)).unwrap_or_default())
    };
    let state = move || match files.saving.get() {
        Saving::Clean => "",
        Saving::Dirty | Saving::Conflict | Saving::Gone => "not saved",
        Saving::Busy => "saving …",
    };
    let dirty = move || !matches!(files.saving.get(), Saving::Clean);
    el("div")
        .class("panel-head")
        .child(
            el("h2")
                .attr("id", "files-title")
                .class("panel-title file-title")
                .attr_of("title", title)
                .text_of(title),
        )
        .child(el("span").class("muted").attr("role", "status").text_of(state))
        .child(el("span").class("spacer"))
        .child(
            el("button")
                .class("primary")
                .attr("title", "Save (Ctrl+S)")
                .testid("editor-save")
                .off_if(move || files.saving.get() == Saving::Busy)
                .click(save)
                .text("Save"),
        )
        .when(dirty, move || {
            let act = move || files.close_file();
            let label = String::from("Close the file");
            confirm_button(label, "Lose the changes?", String::from("editor-close"), act, || {
                icon(icon::CLOSE)
            })
        })
        .when(
            move || !dirty(),
            move || {
                icon_button("Close the file", icon::CLOSE)
                    .testid("editor-close")
                    .click(move || files.close_file())
            },
        )
}

/// Somebody else has changed or deleted the file.
fn conflict(save: Rc<dyn Fn()>) -> El {
    let files = use_app().files;
    let is = move |saving| move || files.saving.get() == saving;
    let (changed, deleted) = (save.clone(), save);
    group()
        .when(is(Saving::Conflict), move || {
            let again = el("button")
                .testid("editor-read-again")
                .click(move || files.read_again())
                .text("Drop my changes, read it again");
            refused("The file was changed on the node meanwhile.", "Overwrite it", changed.clone())
                .child(again)
        })
        .when(is(Saving::Gone), move || {
            refused("The file was deleted on the node meanwhile.", "Save it anyway", deleted.clone())
        })
}

fn refused(words: &str, anyway: &str, save: Rc<dyn Fn()>) -> El {
    el("div")
        .class("conflict")
        .attr("role", "alert")
        .testid("editor-conflict")
        .child(el("p").text(words))
        .child(el("button").click(move || save()).text(anyway))
}
