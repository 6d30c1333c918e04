//! Opening a port of a node in a browser tab of its own.

use super::session::SessionStore;
use crate::{browser, net::rest};
use drydock_protocol::NodeName;
use wasm_bindgen_futures::spawn_local;

impl SessionStore {
    /// Opens a port, at a path of it that begins with a slash. The tab is opened in the click itself, or the browser would take it for a pop-up; it gets its
    /// address as soon as the server has made the link.
    pub fn open_port(self, node: NodeName, port: u16, path: &str) {
        let Some(id) = self.id.get_untracked() else { return };
        let tab = browser::window().open_with_url_and_target("about:blank", "_blank").ok().flatten();
        if let Some(tab) = &tab {
            let _ = tab.set_opener(&wasm_bindgen::JsValue::NULL);
        }
        // The link ends with the slash that the path begins with; so what follows never names another host.
        let path = path.strip_prefix('/').unwrap_or_default().to_owned();
        spawn_local(async move {
            match (rest::port(&id, node, port).await, tab) {
                (Ok(link), Some(tab)) => {
                    let _ = tab.location().replace(&(link.url + &path));
                }
                (Ok(_), None) => self
                    .notices
                    .error("The browser blocked the new tab. Allow pop-ups for this page, then click again."),
                (Err(problem), tab) => {
                    if let Some(tab) = tab {
                        let _ = tab.close();
                    }
                    self.notices.error(problem.message);
                }
            }
        });
    }

    /// Copies the link of a port.
    pub fn copy_port(self, node: NodeName, port: u16) {
        let Some(id) = self.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::port(&id, node, port).await {
                Ok(link) => self.copy(link.url, Some("The link is copied. Who has it can open this port.")),
                Err(problem) => self.notices.error(problem.message),
            }
        });
    }
}
