//! What the kubelet tells of itself and its node: its configuration (`/configz`), its health, what runs, and the files below `/var/log`.

use super::{Answer, full, json, text};
use crate::{kubelet::Kubelet, pods::pod};
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json as object};
use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// Where logs of the node are.
const LOGS: &str = "/var/log";
/// Largest log that is given.
const MAX_LOG: u64 = 16 << 20;

/// `/healthz`, and one check of it: `/healthz/syncloop`.
pub fn health(check: Option<&str>, verbose: bool) -> Answer {
    const CHECKS: [&str; 3] = ["ping", "log", "syncloop"];
    match check {
        None if verbose => {
            let lines: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
            text(StatusCode::OK, format!("{lines}healthz check passed\n"))
        }
        None => text(StatusCode::OK, "ok"),
        Some(check) if CHECKS.contains(&check) => text(StatusCode::OK, "ok"),
        Some(_) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// `/runningpods/`: what runs, whatever the API server knows of it.
pub fn running(kubelet: &Kubelet) -> Answer {
    let running = |pod: &Arc<Pod>| -> Option<Value> {
        let status = kubelet.status_of(pod::uid(pod))?;
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let running = lists.into_iter().flatten().flatten();
        let running = running.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
        let containers: Vec<Value> = running
            .map(|c| {
                let image =
                    c.image_id.trim_start_matches("docker://").trim_start_matches("docker-pullable://");
                object!({ "name": c.name, "image": image, "resources": {} })
            })
            .collect();
        let metadata =
            object!({ "name": pod::name(pod), "namespace": pod::namespace(pod), "uid": pod::uid(pod) });
        (!containers.is_empty())
            .then(|| object!({ "metadata": metadata, "spec": { "containers": containers }, "status": {} }))
    };
    let items: Vec<Value> = kubelet.pods.all().iter().filter_map(running).collect();
    json(&object!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
}

/// `/logs/…`: a file below `/var/log`, or what a directory has (Go's `http.FileServer`).
pub fn logs(path: &str) -> Answer {
    file(Path::new(LOGS), path)
}

fn file(root: &Path, path: &str) -> Answer {
    let missing = || text(StatusCode::NOT_FOUND, "404 page not found\n");
    // As a browser writes it: without steps up.
    let clean: PathBuf =
        Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let place = root.join(clean);
    let Ok(found) = fs::metadata(&place) else { return missing() };
    if found.is_dir() {
        if !path.is_empty() && !path.ends_with('/') {
            let mut answer = text(StatusCode::MOVED_PERMANENTLY, "");
            let name = place.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(there) = HeaderValue::from_str(&format!("{name}/")) {
                answer.headers_mut().insert(LOCATION, there);
            }
            return answer;
        }
        return match listing(&place) {
            Ok(page) => html(page),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "Error reading directory\n"),
        };
    }
    if !found.is_file() {
        return missing();
    }
    match tail(&place, found.len()) {
        Ok(bytes) => {
            let mut answer = Response::new(full(bytes));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// A file, or the end of a very large one.
fn tail(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    use io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG)))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn html(page: String) -> Answer {
    let mut answer = Response::new(full(page));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

fn listing(directory: &Path) -> io::Result<String> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| {
            let slash = if entry.file_type().is_ok_and(|kind| kind.is_dir()) { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let escaped = |name: &str| {
        name.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;")
    };
    let lines: String = names.iter().map(|n| format!("<a href=\"{0}\">{0}</a>\n", escaped(n))).collect();
    Ok(format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn said(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn logs_are_listed_and_read_and_nothing_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        fs::create_dir_all(root.join("pods")).unwrap();
        fs::write(root.join("a<b"), "text").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let (status, page) = said(file(&root, "")).await;
        assert_eq!(status, 200);
        assert!(page.contains("<a href=\"a&lt;b\">a&lt;b</a>\n<a href=\"pods/\">pods/</a>\n"), "{page}");
        assert_eq!(said(file(&root, "a<b")).await, (200, "text".into()));
        assert_eq!(file(&root, "pods").headers()[LOCATION], "pods/");
        for path in ["../secret", "pods/../../secret", "none"] {
            assert_eq!(said(file(&root, path)).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn health_is_told_check_by_check() {
        let all = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n";
        assert_eq!(said(health(None, true)).await, (200, all.into()));
        assert_eq!(said(health(Some("syncloop"), false)).await, (200, "ok".into()));
        assert_eq!(said(health(Some("none"), false)).await.0, 404);
    }
}
