//! The bar at the top of the session page.

use super::parts::{flag, on, part, text, when};
use super::{
    connection_state::ConnectionState,
    countdown::Countdown,
    icon::{self, Icon},
    session_page::Dialogs,
};
use crate::store::{App, route::Route, session::Area, settings::Theme, use_app};
use drydock_protocol::state::Role;
use leptos::prelude::*;

/// The bar.
#[component]
pub fn TopBar(dialogs: Dialogs) -> impl IntoView {
    let app = use_app();
    let session = app.session;
    let name = move || {
        let playground = session.about.with(|a| a.as_ref().map(|a| a.playground.clone())).unwrap_or_default();
        let id = session.id.with(|id| id.as_ref().map(ToString::to_string)).unwrap_or_default();
        format!("{playground} {id}").trim().to_owned()
    };
    let viewers = move || session.state.with(|s| s.viewers.len());
    view! {
        <header class="top-bar" data-area="top">
            <a
                class="brand"
                href="/"
                title="To the start page; the session goes on"
                on:click=on(move |event: web_sys::MouseEvent| {
                    event.prevent_default();
                    app.go(Route::Start);
                })
            >"Drydock"</a>
            <h1 class="session-name" data-testid="session-name">{text(name)}</h1>
            {when(move || session.role.get() == Role::View && session.me.get() != 0, move || view! {
                <span class="badge" data-testid="view-badge">"View only"</span>
            }.into_any())}
            <span class="spacer"></span>
            <span
                class="viewers"
                data-testid="viewers"
                title="Pages that have this session open"
                class:hidden=flag(move || viewers() < 2)
            >{text(move || format!("{} viewers", viewers()))}</span>
            <ConnectionState/>
            <Countdown/>
            <FilesButton app/>
            {when(move || session.may_own(), move || view! {
                <button class="tool" data-testid="share" aria-label="Share" title="Share" aria-haspopup="dialog" on:click=on(move |_| dialogs.share.set(true))>
                    <Icon d=icon::SHARE/><span class="tool-text">"Share"</span>
                </button>
            }.into_any())}
            <ThemeButton app/>
            <button
                class="tool icon-only wide-only"
                data-testid="keyboard-map"
                title="Keyboard map (?)"
                aria-label="Keyboard map"
                aria-haspopup="dialog"
                on:click=on(move |_| dialogs.sheet.set(true))
            ><Icon d=icon::KEYBOARD/></button>
            <button
                class="tool icon-only"
                data-testid="settings"
                title="Settings"
                aria-label="Settings"
                aria-haspopup="dialog"
                on:click=on(move |_| dialogs.settings.set(true))
            ><Icon d=icon::SLIDERS/></button>
            {when(move || session.may_own(), move || view! {
                <button
                    class="tool danger"
                    data-testid="end-session"
                    title="End the session"
                    aria-label="End the session"
                    aria-haspopup="dialog"
                    on:click=on(move |_| dialogs.end.set(true))
                ><Icon d=icon::STOP/><span class="tool-text">"End"</span></button>
            }.into_any())}
        </header>
    }
}

/// Opens and closes the files dock.
#[component]
fn FilesButton(app: App) -> impl IntoView {
    let toggle = move |_| {
        if app.files.open.get_untracked() {
            app.files.open.set(false);
            app.session.area.set(Area::Terminals);
        } else {
            app.files.show(None);
        }
    };
    view! {
        {when(move || app.session.may_type(), move || view! {
            <button
                class="tool wide-only"
                data-testid="toggle-files"
                title="Files"
                aria-label="Files"
                aria-pressed=text(move || app.files.open.get().to_string())
                on:click=on(toggle)
            ><Icon d=icon::FOLDER/><span class="tool-text">"Files"</span></button>
        }.into_any())}
    }
}

/// Light or dark.
#[component]
fn ThemeButton(app: App) -> impl IntoView {
    let label = move || if app.dark.get() { "Use the light theme" } else { "Use the dark theme" };
    let toggle = move |_| {
        let theme = if app.dark.get_untracked() { Theme::Light } else { Theme::Dark };
        app.settings.update(|s| s.theme = theme);
    };
    view! {
        <button class="tool icon-only wide-only" data-testid="theme-toggle" title=text(label) aria-label=text(label) on:click=on(toggle)>
            {part(move || if app.dark.get() { view! { <Icon d=icon::SUN/> }.into_any() } else { view! { <Icon d=icon::MOON/> }.into_any() })}
        </button>
    }
}
