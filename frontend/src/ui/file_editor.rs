//! The text editor of the files dock: CodeMirror, fetched when the first file is opened.

use super::parts::{flag, on, part, text, when};
use super::{
    confirm_button::ConfirmButton,
    icon::{self, Icon},
};
use crate::{
    browser,
    store::{files::Saving, use_app},
    term::vendor::{self, Editor, EditorModule},
};
use leptos::{html, prelude::*};
use wasm_bindgen::{JsCast, prelude::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};

/// The editor with its head.
#[component]
pub fn FileEditor() -> impl IntoView {
    let app = use_app();
    let files = app.files;
    let host = NodeRef::<html::Div>::new();
    let editor = StoredValue::new_local(None::<Editor>);
    let waiting = RwSignal::new(true);
    let save = move |even_if_changed: bool| {
        if let Some(text) = editor.with_value(|e| e.as_ref().map(Editor::text)) {
            files.save(text, even_if_changed);
        }
    };
    host.on_load(move |element| {
        let Some(file) = files.editing.get_untracked() else { return };
        let dark = app.dark.get_untracked();
        spawn_local(async move {
            let Ok(module) = JsFuture::from(vendor::load_editor()).await else {
                files.close_file();
                return app.notices.error("The editor could not be fetched. Check your connection, then try again.");
            };
            // Closed meanwhile.
            if files.editing.get_untracked().is_none_or(|now| now.path != file.path) {
                return;
            }
            let on = browser::object(&[
                ("save", Closure::<dyn Fn()>::new(move || save(false)).into_js_value()),
                ("change", Closure::<dyn Fn()>::new(move || files.changed()).into_js_value()),
            ]);
            let opened = module.unchecked_into::<EditorModule>().open(&element, &file.text, &file.path, dark, false, &on);
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
    view! {
        <EditorHead save=Box::new(move || save(false))/>
        <Conflict save=Callback::new(move |()| save(true))/>
        {when(move || waiting.get(), move || view! { <p class="muted">"Fetching the editor …"</p> }.into_any())}
        <div class="editor" data-testid="editor" node_ref=host></div>
    }
}

/// The file's name, save and close.
#[component]
fn EditorHead(save: Box<dyn Fn()>) -> impl IntoView {
    let files = use_app().files;
    let title = move || files.editing.with(|f| f.as_ref().map(|f| format!("{}:{}", f.node, f.path)).unwrap_or_default());
    let state = move || match files.saving.get() {
        Saving::Clean => "",
        Saving::Dirty | Saving::Conflict => "not saved",
        Saving::Busy => "saving …",
    };
    let dirty = move || !matches!(files.saving.get(), Saving::Clean);
    view! {
        <div class="panel-head">
            <h2 id="files-title" class="panel-title file-title" title=text(title)>{text(title)}</h2>
            <span class="muted" role="status">{text(state)}</span>
            <span class="spacer"></span>
            <button
                class="primary"
                title="Save (Ctrl+S)"
                data-testid="editor-save"
                disabled=flag(move || files.saving.get() == Saving::Busy)
                on:click=on(move |_| save())
            >"Save"</button>
            {part(move || if dirty() {
                view! {
                    <ConfirmButton
                        label="Close the file".to_owned()
                        question="Lose the changes?"
                        testid="editor-close".to_owned()
                        act=Box::new(move || files.close_file())
                    ><Icon d=icon::CLOSE/></ConfirmButton>
                }.into_any()
            } else {
                view! {
                    <button class="quiet" aria-label="Close the file" data-testid="editor-close" on:click=on(move |_| files.close_file())>
                        <Icon d=icon::CLOSE/>
                    </button>
                }.into_any()
            })}
        </div>
    }
}

/// Somebody else has changed the file.
#[component]
fn Conflict(save: Callback<()>) -> impl IntoView {
    let files = use_app().files;
    view! {
        {when(move || files.saving.get() == Saving::Conflict, move || view! {
            <div class="conflict" role="alert" data-testid="editor-conflict">
                <p>"The file was changed on the node since it was opened here."</p>
                <button on:click=on(move |_| save.run(()))>"Overwrite it"</button>
                <button on:click=on(move |_| {
                    // The editor is made anew from what is read.
                    let file = files.editing.get_untracked();
                    files.read_again();
                    if file.is_some() {
                        files.close_file();
                    }
                })>"Read it again"</button>
            </div>
        }.into_any())}
    }
}
