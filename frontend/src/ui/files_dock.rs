//! The files of a node: a directory, or the text editor in its stead.

use super::parts::{each, flag, on, part, text};
use super::nodes_panel::{node_name, node_numbers};
use super::{
    file_editor::FileEditor,
    file_list::FileList,
    icon::{self, Icon},
    upload_list::UploadList,
};
use crate::{
    logic::paths,
    store::{session::Area, use_app},
};
use leptos::{html, prelude::*};
use web_sys::DragEvent;

/// The dock.
#[component]
pub fn FilesDock() -> impl IntoView {
    let app = use_app();
    let files = app.files;
    let dragging = RwSignal::new(false);
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        dragging.set(false);
        if let Some(list) = event.data_transfer().and_then(|data| data.files()).filter(|f| f.length() > 0) {
            files.upload(&list);
        }
    };
    let editing = Memo::new(move |_| files.editing.with(|e| e.as_ref().map(|e| (e.node, e.path.clone()))));
    view! {
        <section
            class="files"
            class:dragging=flag(move || dragging.get())
            data-area="files"
            data-testid="files"
            aria-labelledby="files-title"
            on:dragover=on(move |event: DragEvent| {
                event.prevent_default();
                dragging.set(true);
            })
            on:dragleave=on(move |_| dragging.set(false))
            on:drop=on(on_drop)
        >
            {part(move || if editing.get().is_some() {
                view! { <FileEditor/> }.into_any()
            } else {
                view! {
                    <DockHead/>
                    <FileList/>
                }.into_any()
            })}
            <UploadList/>
        </section>
    }
}

/// Whose files, which directory, what to do.
#[component]
fn DockHead() -> impl IntoView {
    let app = use_app();
    let (files, session) = (app.files, app.session);
    let choose = move |event: web_sys::Event| {
        if let Ok(node) = event_target_value(&event).parse() {
            files.show(Some(node));
        }
    };
    let close = move |_| {
        files.open.set(false);
        session.area.set(Area::Terminals);
    };
    view! {
        <div class="panel-head">
            <h2 id="files-title" class="panel-title">"Files"</h2>
            <select
                aria-label="Node"
                data-testid="files-node"
                prop:value=text(move || files.node.get().map(|n| n.to_string()).unwrap_or_default())
                on:change=on(choose)
            >
                {each(node_numbers(session), move |number| {
                    let name = node_name(number);
                    view! {
                        <option value=name.to_string() selected=flag(move || files.node.get() == Some(name))>{name.to_string()}</option>
                    }.into_any()
                })}
            </select>
            <span class="spacer"></span>
            <button class="quiet" title="Read again" aria-label="Read the directory again" data-testid="files-reload" on:click=on(move |_| files.reload())>
                <Icon d=icon::RELOAD/>
            </button>
            <button class="quiet" title="Close the files" aria-label="Close the files" data-testid="files-close" on:click=on(close)>
                <Icon d=icon::CLOSE/>
            </button>
        </div>
        <Crumbs/>
        <DockButtons/>
    }
}

/// The directory's path, each part a way up.
#[component]
fn Crumbs() -> impl IntoView {
    let files = use_app().files;
    view! {
        <nav class="crumbs" aria-label="Directory" data-testid="files-path" data-path=text(move || files.path.get())>
            {part(move || paths::crumbs(&files.path.get()).into_iter().map(|(name, path)| {
                let go = move |_| {
                    if let Some(node) = files.node.get_untracked() {
                        files.go(node, path.clone());
                    }
                };
                view! { <button class="link" on:click=on(go)>{name}</button> }.into_any()
            }).collect::<Vec<_>>().into_any())}
        </nav>
    }
}

/// Upload, new folder, new file.
#[component]
fn DockButtons() -> impl IntoView {
    let files = use_app().files;
    let input = NodeRef::<html::Input>::new();
    let naming = RwSignal::new(None::<Making>);
    let chosen = move |_| {
        let Some(input) = input.get_untracked() else { return };
        if let Some(list) = input.files().filter(|list| list.length() > 0) {
            files.upload(&list);
        }
        // The same file again is a change again.
        input.set_value("");
    };
    view! {
        <div class="dock-buttons">
            <label class="button upload">
                <Icon d=icon::UPLOAD/>"Upload"
                <input type="file" multiple class="visually-hidden" node_ref=input data-testid="upload-input" on:change=on(chosen)/>
            </label>
            <button data-testid="new-folder" on:click=on(move |_| naming.set(Some(Making::Folder)))><Icon d=icon::FOLDER/>"New folder"</button>
            <button data-testid="new-file" on:click=on(move |_| naming.set(Some(Making::File)))><Icon d=icon::FILE/>"New file"</button>
        </div>
        {part(move || match naming.get() {
            Some(making) => view! { <NameForm making naming/> }.into_any(),
            None => ().into_any(),
        })}
    }
}

/// What is being made.
#[derive(Clone, Copy, PartialEq)]
enum Making {
    Folder,
    File,
}

/// Asks for the name of what is made.
#[component]
fn NameForm(making: Making, naming: RwSignal<Option<Making>>) -> impl IntoView {
    let files = use_app().files;
    let name = RwSignal::new(String::new());
    let wrong = RwSignal::new(None::<&'static str>);
    let input = NodeRef::<html::Input>::new();
    input.on_load(|input| {
        let _ = input.focus();
    });
    let label = match making {
        Making::Folder => "Name of the new folder",
        Making::File => "Name of the new file",
    };
    let submit = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let name = name.get_untracked().trim().to_owned();
        if let Some(reason) = paths::refuse(&name) {
            return wrong.set(Some(reason));
        }
        match making {
            Making::Folder => files.make_dir(&name),
            Making::File => files.make_file(&name),
        }
        naming.set(None);
    };
    view! {
        <form class="name-form" on:submit=on(submit)>
            <input
                node_ref=input
                aria-label=label
                placeholder=label
                data-testid="new-name"
                on:input=on(move |event| name.set(event_target_value(&event)))
                on:keydown=on(move |event: web_sys::KeyboardEvent| {
                    if event.key() == "Escape" {
                        naming.set(None);
                    }
                })
            />
            <button type="submit">"Make"</button>
            <button type="button" class="quiet" on:click=on(move |_| naming.set(None))>"Cancel"</button>
            <p class="problem-text" role="alert">{text(move || wrong.get().unwrap_or_default())}</p>
        </form>
    }
}
