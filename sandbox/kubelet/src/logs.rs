//! Output of containers, read from the engine.

use crate::docker::{Container, Docker, Frames};
use http_body_util::BodyExt;

/// Longest tail that is read for a last word.
const MAX_TAIL: usize = 64 << 10;

/// The last lines of a container's output.
pub async fn tail(docker: &Docker, container: &Container, lines: usize) -> Option<Vec<u8>> {
    let mut body = docker.logs(&container.id, &format!("tail={lines}")).await.ok()?;
    let mut frames = Frames::new(container.config.tty);
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        for (_, piece) in frames.push(data) {
            text.extend_from_slice(&piece);
        }
        if text.len() > MAX_TAIL {
            text.drain(..text.len() - MAX_TAIL);
        }
    }
    Some(text)
}
