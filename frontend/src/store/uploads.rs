//! Files on their way from this computer to a node.

use super::known::Known;
use super::session::SessionStore;
use crate::reactive::*;
use crate::{
    browser,
    logic::{paths, units},
    net::{rest, upload},
};
use drydock_protocol::NodeName;
use wasm_bindgen_futures::spawn_local;
use web_sys::{File, XmlHttpRequest};

/// How far a file has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// This part, 0..=1.
    Part(f64),
    /// All of it.
    Done,
    /// It did not arrive; why.
    Failed(String),
}

/// One file.
#[derive(Clone)]
pub struct Upload {
    /// Number, unique in the page.
    pub id: u32,
    /// Where it goes.
    pub node: NodeName,
    /// Its path there.
    pub path: String,
    /// How far it has come.
    pub sent: Known<Sent>,
    request: StoredValue<Option<XmlHttpRequest>, LocalStorage>,
}

impl Upload {
    /// Gives it up.
    pub fn cancel(&self) {
        if let Some(request) = self.request.get_value() {
            let _ = request.abort();
        }
    }
}

impl SessionStore {
    /// Uploads files into a directory of a node; `after` is called when all have ended.
    pub fn upload(self, node: NodeName, directory: &str, files: Vec<File>, after: impl Fn() + 'static) {
        let directory = directory.to_owned();
        spawn_local(async move {
            let to_leave = self.to_leave(node, &directory, &files).await;
            // One after the other: a terminal keeps its share of the connection.
            let (mut done, mut size) = (0, 0);
            let mut last = String::new();
            for file in files {
                let name = file.name();
                if !to_leave.contains(&name)
                    && self.upload_one(node, paths::join(&directory, &name), &file).await
                {
                    (done, size) = (done + 1, size + file.size() as u64);
                    last = name;
                }
            }
            // Said once: each sentence is read out, and lies over something.
            if done > 0 {
                let what = if done == 1 { last } else { format!("{done} files") };
                let verb = if done == 1 { "is" } else { "are" };
                let size = units::bytes(size);
                self.notices.info(format!("{what} ({size}) {verb} now in {directory} on {node}."));
            }
            after();
        });
    }

    /// The names among these that are in the directory already and shall stay as they are.
    async fn to_leave(self, node: NodeName, directory: &str, files: &[File]) -> Vec<String> {
        let mut taken: Vec<String> = files.iter().map(File::name).collect();
        let Some(id) = self.id.get_untracked() else { return taken };
        // A directory that can't be read is told by the upload itself.
        let Ok(listing) = rest::list(&id, node, directory).await else { return Vec::new() };
        taken.retain(|name| listing.entries.iter().any(|e| e.name == *name));
        if !taken.is_empty() && browser::ask(&paths::replace(&taken, directory)) {
            taken.clear();
        }
        taken
    }

    /// True while a file is on its way.
    pub fn uploading(self) -> bool {
        self.uploads.with_untracked(|all| {
            all.iter().any(|u| u.sent.with_untracked(|sent| matches!(sent, Sent::Part(_))))
        })
    }

    /// Whether it arrived.
    async fn upload_one(self, node: NodeName, path: String, file: &File) -> bool {
        let Some(id) = self.id.get_untracked() else { return false };
        let number = self.uploads.with_untracked(|all| all.iter().map(|u| u.id).max().unwrap_or(0)) + 1;
        let sent = Known::new(Sent::Part(0.0));
        let request = StoredValue::new_local(None);
        let entry = Upload { id: number, node, path: path.clone(), sent, request };
        self.uploads.update(|all| all.push(entry));
        let progress = sent;
        let url = rest::upload_url(&id, node, &path);
        let result = upload::put(
            &url,
            file,
            move |started| request.set_value(Some(started)),
            move |part| progress.set(Sent::Part(part)),
        )
        .await;
        let arrived = result.is_ok();
        match result {
            Ok(()) => {
                sent.set(Sent::Done);
                self.drop_upload(number);
            }
            Err(problem) => sent.set(Sent::Failed(problem.message)),
        }
        arrived
    }

    /// Takes an upload off the list.
    pub fn drop_upload(self, number: u32) {
        self.uploads.update(|all| all.retain(|u| u.id != number));
    }
}
