//! The bar at the top of the session page.

use super::el::{El, el, group};
use super::{
    connection_state::connection_state,
    countdown::countdown,
    icon::{self, icon},
    session_page::Dialogs,
};
use crate::reactive::*;
use crate::store::{App, known::Known, route::Route, session::Area, settings::Theme, use_app};
use drydock_protocol::state::Role;

/// The bar.
pub fn top_bar(dialogs: Dialogs, left: Known<Option<u64>>) -> El {
    let app = use_app();
    let session = app.session;
    let name = move || {
        let playground = session.about.with(|a| a.as_ref().map(|a| a.playground.clone())).unwrap_or_default();
        let id = session.id.with(|id| id.as_ref().map(ToString::to_string)).unwrap_or_default();
        format!("{playground} {id}").trim().to_owned()
    };
    let viewers = move || session.state.with(|s| s.viewers.len());
    el("header")
        .class("top-bar")
        .attr("data-area", "top")
        .child(
            el("a")
                .class("brand")
                .testid("home")
                .attr("href", "/")
                .attr("title", "To the start page; the session goes on")
                .on("click", move |event: web_sys::MouseEvent| {
                    event.prevent_default();
                    app.go(Route::Start);
                })
                .text("Drydock"),
        )
        .child(el("h1").class("session-name").testid("session-name").text_of(name))
        .when(
            move || session.role.get() == Role::View && session.me.get() != 0,
            move || el("span").class("badge").testid("view-badge").text("View only"),
        )
        .child(el("span").class("spacer"))
        .child(
            el("span")
                .class("viewers")
                .testid("viewers")
                .attr("title", "Pages that have this session open")
                .class_if("hidden", move || viewers() < 2)
                .text_of(move || format!("{} viewers", viewers())),
        )
        .child(connection_state())
        .child(countdown(left, dialogs.time))
        .when(
            move || session.about.with(|a| a.as_ref().is_some_and(|a| a.playground == "kubernetes")),
            move || {
                let look = icon(icon::WHEEL);
                opens(dialogs.cluster, "cluster", "Kubernetes", look).class("tool").child(words("Kubernetes"))
            },
        )
        .child(docker_button(app))
        .child(files_button(app))
        .when(
            move || session.may_own(),
            move || {
                let look = icon(icon::SHARE);
                opens(dialogs.share, "share", "Share", look).class("tool").child(words("Share"))
            },
        )
        .child(theme_button(app))
        .child(
            opens(dialogs.sheet, "keyboard-map", "Keyboard map (?)", icon(icon::KEYBOARD))
                .class("tool icon-only wide-only"),
        )
        .child(opens(dialogs.settings, "settings", "Settings", icon(icon::SLIDERS)).class("tool icon-only"))
        .when(
            move || session.may_own(),
            move || {
                let look = icon(icon::STOP);
                opens(dialogs.end, "end-session", "End the session", look)
                    .class("tool danger")
                    .child(words("End"))
            },
        )
}

/// A button that opens a dialog.
fn opens(dialog: RwSignal<bool>, testid: &str, label: &str, look: El) -> El {
    el("button")
        .testid(testid)
        .attr("title", label)
        .attr("aria-label", label)
        .attr("aria-haspopup", "dialog")
        .click(move || dialog.set(true))
        .child(look)
}

/// Words that are left out where there is no room for them.
fn words(text: &str) -> El {
    el("span").class("tool-text").text(text)
}

/// Opens and closes the Docker view.
fn docker_button(app: App) -> El {
    let session = app.session;
    el("button")
        .class("tool wide-only")
        .testid("toggle-docker")
        .attr("title", "Containers and images")
        .attr("aria-label", "Docker")
        .attr_of("aria-pressed", move || session.docker_open.get().to_string())
        .click(move || session.show_docker(!session.docker_open.get_untracked()))
        .child(icon(icon::CONTAINERS))
        .child(words("Docker"))
}

/// Opens and closes the files dock.
fn files_button(app: App) -> El {
    let toggle = move || {
        if app.session.docker_open.get_untracked() {
            app.session.show_docker(false);
            app.files.show(None);
        } else if app.files.open.get_untracked() {
            app.files.open.set(false);
            app.session.area.set(Area::Terminals);
        } else {
            app.files.show(None);
        }
    };
    group().when(
        move || app.session.may_type(),
        move || {
            el("button")
                .class("tool wide-only")
                .testid("toggle-files")
                .attr("title", "Files")
                .attr("aria-label", "Files")
                .attr_of("aria-pressed", move || {
                    (app.files.open.get() && !app.session.docker_open.get()).to_string()
                })
                .click(toggle)
                .child(icon(icon::FOLDER))
                .child(words("Files"))
        },
    )
}

/// Light or dark.
fn theme_button(app: App) -> El {
    let label = move || if app.looks.dark() { "Use the light theme" } else { "Use the dark theme" };
    let toggle = move || {
        let theme = if untrack(|| app.looks.dark()) { Theme::Light } else { Theme::Dark };
        app.settings.update(|s| s.theme = theme);
    };
    el("button")
        .class("tool icon-only wide-only")
        .testid("theme-toggle")
        .attr_of("title", label)
        .attr_of("aria-label", label)
        .click(toggle)
        .part(move || if app.looks.dark() { icon(icon::SUN) } else { icon(icon::MOON) })
}
