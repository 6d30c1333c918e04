//! `drydock stop`: ends all sessions, the warden, and the server if one runs. Without a server it talks to the warden
//! itself.

use super::Output;
use crate::{
    client::Client,
    warden::{Event, Warden, connect_packet_socket},
};
use anyhow::ensure;
use drydock_warden::messages::{Answer, Request};
use hyper::Method;
use nix::unistd::Uid;
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn run(state_dir: &Path, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let ended = match crate::commands::block_on(async {
        if !client.is_there().await {
            return Ok(None);
        }
        let (_, answer): (_, serde_json::Value) =
            client.json::<(), _>(Method::POST, "/operator/stop", None).await?;
        anyhow::Ok(Some(answer["ended"].as_u64().unwrap_or(0)))
    })? {
        Some(ended) => Some(ended),
        None => without_server(state_dir)?,
    };
    let text = match ended {
        Some(n) => format!("Stopped: {n} sessions ended."),
        None => "Nothing runs.".to_owned(),
    };
    output.print(&serde_json::json!({ "ended": ended.unwrap_or(0) }), |_| text)
}

fn without_server(state_dir: &Path) -> anyhow::Result<Option<u64>> {
    let socket = state_dir.join("run/warden.sock");
    if connect_packet_socket(&socket).is_err() {
        return Ok(None);
    }
    ensure!(Uid::effective().is_root(), "drydock stop must be run as root. Try: sudo drydock stop");
    crate::commands::block_on(end_all(socket)).map(Some)
}

async fn end_all(socket: PathBuf) -> anyhow::Result<u64> {
    let (warden, mut events) = Warden::start(socket);
    while events.recv().await != Some(Event::Connected) {}
    let Answer::Sessions { sessions } = warden.call(Request::List).await? else {
        anyhow::bail!("the warden gave an answer to another question")
    };
    for id in &sessions {
        warden.call(Request::Destroy { id: id.clone() }).await?;
    }
    warden.done(Request::Exit).await?;
    Ok(sessions.len() as u64)
}
