//! Files on their way from this computer to a node.

use super::known::Known;
use super::session::SessionStore;
use crate::reactive::*;
use crate::{
    logic::{paths, units},
    net::{rest, upload},
};
use drydock_protocol::NodeName;
use wasm_bindgen_futures::spawn_local;
use web_sys::{File, FileList, XmlHttpRequest};

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
    pub fn upload(self, node: NodeName, directory: &str, files: &FileList, after: impl Fn() + 'static) {
        let files: Vec<File> = (0..files.length()).filter_map(|i| files.get(i)).collect();
        let directory = directory.to_owned();
        spawn_local(async move {
            // One after the other: a terminal keeps its share of the connection.
            for file in files {
                self.upload_one(node, paths::join(&directory, &file.name()), file).await;
            }
            after();
        });
    }

    async fn upload_one(self, node: NodeName, path: String, file: File) {
        let Some(id) = self.id.get_untracked() else { return };
        let number = self.uploads.with_untracked(|all| all.iter().map(|u| u.id).max().unwrap_or(0)) + 1;
        let sent = Known::new(Sent::Part(0.0));
        let request = StoredValue::new_local(None);
        let entry = Upload { id: number, node, path: path.clone(), sent, request };
        self.uploads.update(|all| all.push(entry));
        let progress = sent;
        let url = rest::upload_url(&id, node, &path);
        let result = upload::put(
            &url,
            &file,
            move |started| request.set_value(Some(started)),
            move |part| progress.set(Sent::Part(part)),
        )
        .await;
        match result {
            Ok(()) => {
                sent.set(Sent::Done);
                let size = units::bytes(file.size() as u64);
                self.notices.info(format!("{} ({size}) is now {path} on {node}.", file.name()));
                self.drop_upload(number);
            }
            Err(problem) => sent.set(Sent::Failed(problem.message)),
        }
    }

    /// Takes an upload off the list.
    pub fn drop_upload(self, number: u32) {
        self.uploads.update(|all| all.retain(|u| u.id != number));
    }
}
