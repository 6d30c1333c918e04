//! The session page: nodes at the left, terminals in the middle, containers or files at the right; on a narrow screen one of them.

use super::el::{El, el};
use super::{
    bottom_tabs::bottom_tabs,
    cluster_dialog::cluster_dialog,
    connection_banner::connection_banner,
    countdown::time_dialog,
    docker_dock::docker_dock,
    end_dialog::end_dialog,
    files_dock::files_dock,
    keyboard_sheet::keyboard_sheet,
    nodes_panel::nodes_panel,
    separator::{Line, separator},
    settings_dialog::settings_dialog,
    share_dialog::share_dialog,
    top_bar::top_bar,
    workspace::workspace,
};
use crate::logic::units::fixed;
use crate::reactive::*;
use crate::store::watch::watch;
use crate::store::{session::Area, settings::Panels, use_app};
use drydock_protocol::state::Role;
use std::rc::Rc;

/// The dialogs that the top bar opens.
#[derive(Clone, Copy)]
pub struct Dialogs {
    /// Share.
    pub share: RwSignal<bool>,
    /// Keyboard map.
    pub sheet: RwSignal<bool>,
    /// Settings.
    pub settings: RwSignal<bool>,
    /// End the session.
    pub end: RwSignal<bool>,
    /// The cluster.
    pub cluster: RwSignal<bool>,
    /// The session's time.
    pub time: RwSignal<bool>,
}

/// The page. `sheet`: the keyboard map is open; `?` opens it too.
pub fn session_page(sheet: RwSignal<bool>) -> El {
    let app = use_app();
    let session = app.session;
    let dialogs = Dialogs {
        share: RwSignal::new(false),
        sheet,
        settings: RwSignal::new(false),
        end: RwSignal::new(false),
        cluster: RwSignal::new(false),
        time: RwSignal::new(false),
    };
    let left = session.countdown();
    let role = move || match session.role.get() {
        Role::View => "view",
        Role::Type => "type",
        Role::Own => "own",
    };
    let area = move || match session.area.get() {
        Area::Nodes => "nodes",
        Area::Terminals => "terminals",
        Area::Files => "files",
        Area::Docker => "docker",
    };
    let widths = move || {
        let Panels { nodes, files } = app.panels.get();
        format!("--nodes-width: {}px; --files-width: {}px", fixed(nodes, 0), fixed(files, 0))
    };
    let files_shown = move || app.files.open.get() || (app.narrow.get() && session.area.get() == Area::Files);
    // One dock at a time; the files stay as they are behind the containers.
    let docker_shown = move || session.docker_open.get();
    follow_title();
    el("div")
        .class("session")
        .testid("session-page")
        .attr_of("data-role", role)
        .attr_of("data-area-shown", area)
        .attr_of("style", widths)
        .child(top_bar(dialogs, left))
        .child(connection_banner())
        .child(
            el("main")
                .class("areas")
                .class_if("with-files", move || files_shown() || docker_shown())
                .class_if("with-docker", docker_shown)
                .child(nodes_panel())
                .child(nodes_edge())
                .child(workspace())
                .when(move || files_shown() || docker_shown(), files_edge)
                .when(docker_shown, docker_dock)
                .when(
                    move || files_shown() || app.files.editing.with(Option::is_some),
                    move || files_dock(files_shown),
                ),
        )
        .child(bottom_tabs())
        .when(move || dialogs.share.get(), move || share_dialog(dialogs.share))
        .when(move || dialogs.sheet.get(), move || keyboard_sheet(dialogs.sheet))
        .when(move || dialogs.settings.get(), move || settings_dialog(dialogs.settings))
        .when(move || dialogs.cluster.get(), move || cluster_dialog(dialogs.cluster))
        .when(move || dialogs.time.get(), move || time_dialog(dialogs.time, left))
        .when(move || dialogs.end.get(), move || end_dialog(dialogs.end))
}

/// The line beside the nodes.
fn nodes_edge() -> El {
    let panels = use_app().panels;
    separator(Line {
        testid: "separator-nodes".into(),
        label: Box::new(|| "Width of the nodes panel".into()),
        upright: Box::new(|| true),
        backwards: false,
        range: Panels::RANGE,
        usual: Panels::default().nodes,
        value: Rc::new(move || panels.get().nodes),
        at: Box::new(|pointer| Some(pointer.0)),
        set: Rc::new(move |width| panels.update(|p| p.nodes = width)),
        place: Box::new(|| None),
    })
}

/// The line beside the dock at the right.
fn files_edge() -> El {
    let panels = use_app().panels;
    separator(Line {
        testid: "separator-files".into(),
        label: Box::new(|| "Width of the panel at the right".into()),
        upright: Box::new(|| true),
        backwards: true,
        range: Panels::RANGE,
        usual: Panels::default().files,
        value: Rc::new(move || panels.get().files),
        at: Box::new(|pointer| Some(window().inner_width().ok()?.as_f64()? - pointer.0)),
        set: Rc::new(move |width| panels.update(|p| p.files = width)),
        place: Box::new(|| None),
    })
}

/// The browser tab is named after the terminal that has the focus.
fn follow_title() {
    let session = use_app().session;
    watch(move || {
        let active = session.layout.with(|l| l.active());
        let title = session.state.with(|s| {
            s.terminals.iter().find(|t| Some(t.id) == active).map(|t| match t.title.as_str() {
                "" => t.node.to_string(),
                title => format!("{}: {title}", t.node),
            })
        });
        let title = title.map_or_else(|| "Drydock".into(), |title| format!("{title} · Drydock"));
        document().set_title(&title);
    });
}
