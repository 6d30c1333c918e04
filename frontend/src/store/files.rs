//! The files dock: one directory of one node, and the file that is being edited.

use super::{
    known::Known,
    notices::Notices,
    session::{Connection, SessionStore},
    watch::watch,
};
use crate::{
    logic::{back::Back, paths, units},
    net::rest::{self, If, Problem},
};
use drydock_protocol::{
    NodeName,
    api::Listing,
    pipe::Entry,
    state::{Node, Power},
};
use wasm_bindgen_futures::spawn_local;
use web_sys::File;

/// Largest file that is edited in the page, in bytes.
const EDITABLE: u64 = 1024 * 1024;
/// Where the dock begins, and where a file dropped on a terminal goes.
pub const HOME: &str = "/root";

/// What the dock shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// Nothing yet.
    Loading,
    /// A directory.
    Ready(Listing),
    /// It could not be read.
    Failed(Problem),
    /// There is no node.
    Nowhere,
}

/// A file in the editor.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenFile {
    /// On which node.
    pub node: NodeName,
    /// Its path.
    pub path: String,
    /// Its text when it was read.
    pub text: String,
    /// When it was last changed, as the server said.
    pub modified: Option<String>,
    /// Which reading of a file this is: what is read again gets an editor of its own.
    pub reading: u32,
}

/// What a name is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Naming {
    /// A new directory.
    Folder,
    /// A new file.
    File,
    /// What has this name gets another.
    Rename(String),
}

/// How saving went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// Nothing to save.
    Clean,
    /// Changed.
    Dirty,
    /// On its way.
    Busy,
    /// Somebody else changed the file.
    Conflict,
    /// Somebody else deleted the file.
    Gone,
}

/// The dock's store.
#[derive(Clone, Copy)]
pub struct Files {
    /// The dock is open.
    pub open: Known<bool>,
    /// Whose files.
    pub node: Known<Option<NodeName>>,
    /// Which directory.
    pub path: Known<String>,
    /// What is in it.
    pub shown: Known<Shown>,
    /// What a name is asked for just now.
    pub naming: Known<Option<Naming>>,
    /// Why that name was not given.
    pub refused: Known<String>,
    /// What has just got its name: it gets the focus when the directory has been read.
    pub named: Known<Option<String>>,
    /// The file in the editor.
    pub editing: Known<Option<OpenFile>>,
    /// How saving went.
    pub saving: Known<Saving>,
    /// Counts the files that were read into the editor.
    readings: Known<u32>,
    /// Numbers the questions: only the answer to the last one counts.
    asked: Known<u32>,
    session: SessionStore,
    notices: Notices,
}

impl Files {
    pub(super) fn new(session: SessionStore, notices: Notices) -> Self {
        let files = Self {
            open: Known::new(false),
            node: Known::new(None),
            path: Known::new(HOME.into()),
            shown: Known::new(Shown::Loading),
            naming: Known::new(None),
            refused: Known::new(String::new()),
            named: Known::new(None),
            editing: Known::new(None),
            saving: Known::new(Saving::Clean),
            readings: Known::new(0),
            asked: Known::new(0),
            session,
            notices,
        };
        files.follow_nodes();
        files
    }

    /// When the node is removed whose files show, another one's do. When the connection or the node is back, what could not be read is
    /// read.
    fn follow_nodes(self) {
        let mut back = Back::default();
        watch(move || {
            let names: Vec<_> = self.session.state.with(|s| s.nodes.iter().map(|n| n.name).collect());
            let ready =
                self.session.state.with(|s| s.nodes.first().is_some_and(|n| n.power != Power::Starting));
            let up = self.session.connection.get() == Connection::Up;
            let node = self.node.get_untracked();
            let is_on = |n: &Node| Some(n.name) == node && n.power == Power::On;
            if back.note(up, self.session.state.with(|s| s.nodes.iter().any(is_on)))
                && self
                    .shown
                    .with_untracked(|shown| matches!(shown, Shown::Failed(p) if matches!(p.status, 0 | 409)))
            {
                self.reload();
            }
            // While the session is being entered nothing is known of its nodes.
            if !up || node.is_some_and(|node| names.contains(&node)) {
                return;
            }
            if node.is_some() {
                self.node.set(None);
                // An answer that comes yet is about a node that is gone.
                self.asked.update(|n| *n += 1);
            }
            if names.is_empty() {
                self.shown.set(Shown::Nowhere);
            } else if ready && self.open.get_untracked() {
                self.show(None);
            }
        });
    }

    /// Forgets everything: another session.
    pub fn reset(self) {
        self.open.set(false);
        self.node.set(None);
        self.path.set(HOME.into());
        self.shown.set(Shown::Loading);
        self.close_file();
    }

    /// Opens the dock at a node's home directory, or where it was.
    pub fn show(self, node: Option<NodeName>) {
        let first = || self.session.state.with_untracked(|s| s.nodes.first().map(|n| n.name));
        let node = node.or(self.node.get_untracked()).or_else(first);
        let same = node == self.node.get_untracked();
        let path = if same { self.path.get_untracked() } else { HOME.into() };
        self.open.set(true);
        if let Some(node) = node {
            self.go(node, path);
        }
    }

    /// Goes to a directory.
    pub fn go(self, node: NodeName, path: String) {
        let Some(id) = self.session.id.get_untracked() else { return };
        let changed = self.node.get_untracked() != Some(node) || self.path.get_untracked() != path;
        if changed {
            self.node.set(Some(node));
            self.path.set(path.clone());
            self.naming.set(None);
            self.named.set(None);
            self.shown.set(Shown::Loading);
        }
        let number = self.asked.get_untracked() + 1;
        self.asked.set(number);
        spawn_local(async move {
            let answer = rest::list(&id, node, &path).await;
            if self.asked.get_untracked() == number {
                self.shown.set(answer.map_or_else(Shown::Failed, Shown::Ready));
                // The form had the focus until there is what it made.
                if self.named.with_untracked(Option::is_some) {
                    self.naming.set(None);
                }
            }
        });
    }

    /// Reads the directory again.
    pub fn reload(self) {
        if let Some(node) = self.node.get_untracked() {
            self.go(node, self.path.get_untracked());
        }
    }

    /// The path of something in the directory.
    pub fn path_of(self, name: &str) -> String {
        paths::join(&self.path.get_untracked(), name)
    }

    /// The address from which a browser downloads a file of the directory.
    pub fn download_url(self, name: &str) -> String {
        match (self.session.id.get(), self.node.get()) {
            (Some(id), Some(node)) => rest::download_url(&id, node, &paths::join(&self.path.get(), name)),
            _ => String::new(),
        }
    }

    /// Uploads files into the directory.
    pub fn upload(self, files: Vec<File>) {
        if let Some(node) = self.node.get_untracked().filter(|_| !files.is_empty()) {
            self.session.upload(node, &self.path.get_untracked(), files, move || self.reload());
        }
    }

    /// Uploads files dropped on a terminal into the home directory of its node.
    pub fn upload_home(self, node: NodeName, files: Vec<File>) {
        self.session.upload(node, HOME, files, move || {
            if self.open.get_untracked() {
                self.reload();
            }
        });
    }

    /// Gives something new its name, or something old another. The form that asked for it closes when that is done; else it says why not.
    pub fn name(self, what: Naming, name: String) {
        let (Some(id), Some(node)) = (self.session.id.get_untracked(), self.node.get_untracked()) else {
            return;
        };
        let path = self.path_of(&name);
        let taken = self.shown.with_untracked(
            |shown| matches!(shown, Shown::Ready(l) if l.entries.iter().any(|e| e.name == name)),
        );
        if taken {
            return self.refused.set(format!("{path} is there already."));
        }
        let old = if let Naming::Rename(old) = &what { self.path_of(old) } else { String::new() };
        spawn_local(async move {
            let done = match &what {
                Naming::Folder => rest::make_dir(&id, node, &path).await,
                // One that came there since the directory was read stays as it is.
                Naming::File => rest::write_file(&id, node, &path, "", If::New).await.map(drop),
                Naming::Rename(_) => rest::rename(&id, node, &old, &path).await,
            };
            match done {
                Err(problem) if self.naming.with_untracked(|now| now.as_ref() == Some(&what)) => {
                    self.refused.set(problem.message);
                }
                Err(problem) => self.notices.error(problem.message),
                Ok(()) if what == Naming::File => {
                    self.naming.set(None);
                    self.read(node, path, false).await;
                }
                Ok(()) => self.named.set(Some(name)),
            }
            self.reload();
        });
    }

    /// Deletes something of the directory.
    pub fn remove(self, name: &str) {
        let (Some(id), Some(node)) = (self.session.id.get_untracked(), self.node.get_untracked()) else {
            return;
        };
        let path = self.path_of(name);
        spawn_local(async move {
            match rest::remove_file(&id, node, &path).await {
                Ok(()) => self.notices.info(format!("{path} is deleted.")),
                Err(problem) => self.notices.error(problem.message),
            }
            self.reload();
        });
    }

    /// Opens a file of the directory in the editor.
    pub fn edit(self, entry: &Entry) {
        let Some(node) = self.node.get_untracked() else { return };
        if entry.size > EDITABLE {
            let size = units::bytes(entry.size);
            return self.notices.error(format!(
                "{} has {size}; files up to 1 MB can be edited here. Download it instead.",
                entry.name
            ));
        }
        let path = self.path_of(&entry.name);
        spawn_local(async move { self.read(node, path, false).await });
    }

    /// Reads a file into the editor. `again`: what is in the editor goes, but only once there is something in its stead.
    async fn read(self, node: NodeName, path: String, again: bool) {
        let Some(id) = self.session.id.get_untracked() else { return };
        let content = match rest::read_file(&id, node, &path).await {
            Ok(content) => content,
            Err(problem) if again && problem.status == 404 => return self.saving.set(Saving::Gone),
            Err(problem) => return self.notices.error(problem.message),
        };
        let text = String::from_utf8(content.bytes).ok().filter(|text| !text.contains('\0'));
        let Some(text) = text else {
            return self.notices.error(format!("{path} is not a text file. Download it instead."));
        };
        if again && self.editing.with_untracked(Option::is_none) {
            // Closed meanwhile.
            return;
        }
        let reading = self.readings.update(|n| {
            *n += 1;
            *n
        });
        self.saving.set(Saving::Clean);
        self.editing.set(Some(OpenFile { node, path, text, modified: content.modified_micros, reading }));
    }

    /// Reads the file in the editor again; what was typed is lost if that works.
    pub fn read_again(self) {
        if let Some(file) = self.editing.get_untracked() {
            spawn_local(async move { self.read(file.node, file.path, true).await });
        }
    }

    /// Saves the editor's text. `even_if_changed`: also over what somebody else has written meanwhile.
    pub fn save(self, text: String, even_if_changed: bool) {
        let (Some(id), Some(file)) = (self.session.id.get_untracked(), self.editing.get_untracked()) else {
            return;
        };
        if self.saving.get_untracked() == Saving::Busy {
            return;
        }
        self.saving.set(Saving::Busy);
        spawn_local(async move {
            let since = file.modified.as_deref().filter(|_| !even_if_changed);
            let condition = since.map_or(If::Any, If::UnchangedSince);
            match rest::write_file(&id, file.node, &file.path, &text, condition).await {
                Ok(modified) => self.saved(file, text, modified),
                Err(problem) => match conflict(&problem).filter(|_| since.is_some()) {
                    Some(conflict) => self.saving.set(conflict),
                    None => {
                        self.saving.set(Saving::Dirty);
                        self.notices.error(problem.message);
                    }
                },
            }
        });
    }

    /// The file has a new modification time, against which the next save is checked. It is that of our own writing: the file may have
    /// been changed again since.
    fn saved(self, file: OpenFile, text: String, modified: Option<String>) {
        self.notices.info(format!("{} is saved.", file.path));
        // The editor stays as it is; only what the next save is compared with changes.
        self.editing.update_untracked(|open| {
            if let Some(open) = open.as_mut().filter(|open| open.path == file.path) {
                open.modified = modified;
                open.text = text;
            }
        });
        if self.saving.get_untracked() == Saving::Busy {
            self.saving.set(Saving::Clean);
        }
        self.reload();
    }

    /// The text in the editor was changed.
    pub fn changed(self) {
        let known = [Saving::Dirty, Saving::Conflict, Saving::Gone];
        if !known.contains(&self.saving.get_untracked()) {
            self.saving.set(Saving::Dirty);
        }
    }

    /// True if closing the page would lose something.
    pub fn unsaved(self) -> bool {
        self.editing.with_untracked(Option::is_some) && self.saving.get_untracked() != Saving::Clean
    }

    /// Closes the editor; what was typed since the last save is lost.
    pub fn close_file(self) {
        self.editing.set(None);
        self.saving.set(Saving::Clean);
    }
}

/// Whether saving was refused because of what others did with the file meanwhile. Only the words tell that
/// (sandbox/runtime/src/files.rs); a node that is off answers with the same status.
fn conflict(problem: &Problem) -> Option<Saving> {
    let says = |word| problem.status == 409 && problem.message.split(' ').any(|w| w == word);
    if says("changed") { Some(Saving::Conflict) } else { says("deleted").then_some(Saving::Gone) }
}
