//! The session page: nodes at the left, terminals in the middle, files at the right; on a narrow screen one of them.

use super::parts::{flag, text, when};
use super::{
    bottom_tabs::BottomTabs, connection_banner::ConnectionBanner, end_dialog::EndDialog, files_dock::FilesDock,
    keyboard_sheet::KeyboardSheet, nodes_panel::NodesPanel, separator::Separator, settings_dialog::SettingsDialog,
    share_dialog::ShareDialog, top_bar::TopBar, workspace::Workspace,
};
use crate::store::{session::Area, settings::Panels, use_app};
use drydock_protocol::state::Role;
use leptos::prelude::*;

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
}

/// The page.
#[component]
pub fn SessionPage(
    /// The keyboard map is open; `?` opens it too.
    sheet: RwSignal<bool>,
) -> impl IntoView {
    let app = use_app();
    let session = app.session;
    let dialogs = Dialogs {
        share: RwSignal::new(false),
        sheet,
        settings: RwSignal::new(false),
        end: RwSignal::new(false),
    };
    let role = move || match session.role.get() {
        Role::View => "view",
        Role::Type => "type",
        Role::Own => "own",
    };
    let area = move || match session.area.get() {
        Area::Nodes => "nodes",
        Area::Terminals => "terminals",
        Area::Files => "files",
    };
    let widths = move || {
        let Panels { nodes, files } = app.panels.get();
        format!("--nodes-width: {nodes:.0}px; --files-width: {files:.0}px")
    };
    let files_shown = move || app.files.open.get() || (app.narrow.get() && session.area.get() == Area::Files);
    follow_title();
    let (least, most) = Panels::RANGE;
    view! {
        <div class="session" data-testid="session-page" data-role=text(role) data-area-shown=text(area) style=text(widths)>
            <TopBar dialogs/>
            <ConnectionBanner/>
            <main class="areas" class:with-files=flag(files_shown)>
                <NodesPanel/>
                <Separator
                    testid="separator-nodes"
                    label="Width of the nodes panel"
                    upright=true
                    range=(least, most)
                    usual=Panels::default().nodes
                    value=Signal::derive(move || app.panels.get().nodes)
                    at=Box::new(|pointer| Some(pointer.0))
                    set=Callback::new(move |width| app.panels.update(|p| p.nodes = width))
                />
                <Workspace/>
                {when(files_shown, move || view! {
                    <Separator
                        testid="separator-files"
                        label="Width of the files dock"
                        upright=true
                        backwards=true
                        range=(least, most)
                        usual=Panels::default().files
                        value=Signal::derive(move || app.panels.get().files)
                        at=Box::new(|pointer| Some(window().inner_width().ok()?.as_f64()? - pointer.0))
                        set=Callback::new(move |width| app.panels.update(|p| p.files = width))
                    />
                    <FilesDock/>
                }.into_any())}
            </main>
            <BottomTabs/>
            {when(move || dialogs.share.get(), move || view! { <ShareDialog open=dialogs.share/> }.into_any())}
            {when(move || dialogs.sheet.get(), move || view! { <KeyboardSheet open=dialogs.sheet/> }.into_any())}
            {when(move || dialogs.settings.get(), move || view! { <SettingsDialog open=dialogs.settings/> }.into_any())}
            {when(move || dialogs.end.get(), move || view! { <EndDialog open=dialogs.end/> }.into_any())}
        </div>
    }
}

/// The browser tab is named after the terminal that has the focus.
fn follow_title() {
    let session = use_app().session;
    Effect::new(move |_| {
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
