//! `ADD https://…` and `ADD …​.git`: got by the node's own `curl` and `git`, so that the node's proxies, certificates and way out
//! hold for builds too.

use super::git_ref::GitRef;
use super::{Cancel, Scratch};
use crate::engine::Engine;
use crate::error::{Context as _, Error, Result};
use drydock_dockerfile::build::{Download, Files};
use drydock_registry::Client;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::runtime::Handle;

/// How often a cancelled build is noticed while a program runs.
const LOOK: Duration = Duration::from_millis(100);
/// How Go's words for a name that nobody knows end.
const NO_HOST: &str = ": no such host";
/// What is said of the answer of a server that refuses.
const MAX_REFUSAL: u64 = 4 << 10;
/// How long it takes at most to find out why an address can't be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest file that is got.
const MAX_FILE: u64 = 2 << 30;

/// A file that goes when it has been read.
struct Content {
    file: fs::File,
    _scratch: Scratch,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

/// Why something could not be had. As an [`Error`] it has the classic builder's words.
#[derive(Debug)]
pub(super) enum Failed {
    /// `curl` said this about an address, because of this answer if there was one.
    Web { url: String, said: String, answer: Option<Refusal> },
    /// `git` said this about a repository, and ended with this status.
    Repository { url: String, said: String, status: i32 },
    /// Something else.
    Other(Error),
}

/// What a web server answered instead of the file.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `404 Not Found`
    status: String,
    body: String,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            // moby's `builder/remotecontext/remote.go`.
            Failed::Web { url, answer: Some(Refusal { status, body }), .. } => {
                let text = format!("failed to GET {url} with status {status}: {body}");
                match status.split(' ').next() {
                    Some("400") => Self::invalid(text),
                    Some("403") => Self::forbidden(text),
                    Some("404") => Self::not_found(text),
                    _ => Self::internal(text),
                }
            }
            Failed::Web { url, said, answer: None } => {
                let text = web_words(&url, &said);
                if text.ends_with(NO_HOST) { Self::not_found(text) } else { Self::internal(text) }
            }
            Failed::Repository { url, said, .. } => {
                Self::internal(format!("failed to load git source {url}: {said}"))
            }
            Failed::Other(error) => error,
        }
    }
}

impl Failed {
    /// In BuildKit's words (`source/http`, `source/git`).
    pub(super) fn in_buildkits_words(self) -> Error {
        match self {
            Self::Web { url, said, .. } => Error::internal(web_words(&url, &said)),
            Self::Repository { url, said, status } => {
                let (remote, fragment) = url.split_once('#').unwrap_or((&url, ""));
                let what = if fragment.split(':').next().is_some_and(|reference| !reference.is_empty()) {
                    "failed to fetch remote"
                } else {
                    "error fetching default branch for repository"
                };
                Error::internal(format!("{what} {remote}: git stderr:\n{said}\n: exit status {status}"))
            }
            Self::Other(error) => error,
        }
    }
}

/// What Go's client says where `curl` says this.
fn web_words(url: &str, said: &str) -> String {
    if let Some((_, status)) = said.split_once("The requested URL returned error: ") {
        return format!("invalid response status {status}");
    }
    let said = said.split_once(") ").filter(|(code, _)| code.starts_with("curl: (")).map_or(said, |(_, s)| s);
    match said.strip_prefix("Could not resolve host: ") {
        Some(host) => format!("Get {url:?}: dial tcp: lookup {host}{NO_HOST}"),
        None => format!("Get {url:?}: {said}"),
    }
}

/// Gets a file.
pub(super) fn file(engine: &Engine, url: &str, cancel: &Cancel) -> Result<Download, Failed> {
    let scratch = Scratch::new(engine, "add")?;
    let (body, head) = (scratch.path().join("body"), scratch.path().join("head"));
    let mut command = Command::new("curl");
    command.args([
        "--fail-with-body",
        "--silent",
        "--show-error",
        "--location",
        "--remote-time",
        "--proto",
        "=http,https",
    ]);
    command.arg("--max-filesize").arg(MAX_FILE.to_string());
    command.arg("--output").arg(&body).arg("--dump-header").arg(&head).arg("--").arg(url);
    run(command, cancel).map_err(|ended| match ended {
        Ended::Badly { said, .. } => {
            let answer = refusal(&said, &head, &body);
            let reason = if answer.is_none() { unreachable(engine, url) } else { None };
            Failed::Web { url: url.to_owned(), said: reason.unwrap_or(said), answer }
        }
        Ended::Not(error) => Failed::Other(error),
    })?;
    let head = fs::read_to_string(&head).unwrap_or_default();
    let file = fs::File::open(&body).or_else(|_| fs::File::create(&body)).doing(|| format!("read {url}"))?;
    let modified = header(&head, "last-modified").and_then(|_| file.metadata().ok()).and_then(|meta| {
        let modified = crate::clock::Timestamp::from(meta.modified().ok()?);
        Some(modified.seconds())
    });
    let name = header(&head, "content-disposition").and_then(file_name);
    Ok(Download { name, modified, content: Box::new(Content { file, _scratch: scratch }) })
}

/// What Go's client says of an address that `curl` has not reached. Where there is a proxy only `curl` knows the way.
fn unreachable(engine: &Engine, url: &str) -> Option<String> {
    let proxies = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    if proxies.iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    let (runtime, url) = (Handle::try_current().ok()?, url.to_owned());
    let asked = engine.registries.with(async move |client: Client| {
        Ok(tokio::time::timeout(PATIENCE, client.unreachable(&url)).await.ok().flatten())
    });
    runtime.block_on(asked).ok()?
}

/// What the server said, if that is why there is no file.
fn refusal(said: &str, head: &Path, body: &Path) -> Option<Refusal> {
    said.contains("The requested URL returned error: ").then_some(())?;
    let head = fs::read_to_string(head).ok()?;
    let line = head.lines().rfind(|line| line.starts_with("HTTP/"))?;
    let mut text = Vec::new();
    fs::File::open(body).ok()?.take(MAX_REFUSAL).read_to_end(&mut text).ok()?;
    let status = line.split_once(' ')?.1.trim().to_owned();
    Some(Refusal { status, body: String::from_utf8_lossy(text.trim_ascii()).into_owned() })
}

/// The last value of a header: that of the answer after all redirections.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let of = |line: &'a str| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().rev().take_while(|line| !line.starts_with("HTTP/")).find_map(of)
}

/// `attachment; filename="x.tar"` → `x.tar`, never a path.
fn file_name(disposition: &str) -> Option<String> {
    let value = disposition.split(';').find_map(|part| part.trim().strip_prefix("filename="))?;
    let name = value.trim_matches('"').rsplit(['/', '\\']).next()?;
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// A working tree.
pub(super) struct Tree {
    path: PathBuf,
    _scratch: Scratch,
}

impl Files for Tree {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// Gets a repository: `https://host/x.git#branch:directory`.
pub(super) fn git(
    engine: &Engine,
    url: &str,
    keep_git_dir: bool,
    checksum: &str,
    cancel: &Cancel,
) -> Result<Tree, Failed> {
    let git_ref = GitRef::parse(url)?;
    let scratch = Scratch::new(engine, "git")?;
    let at = scratch.path().to_owned();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // Nothing of a repository or of a user is run, and nobody is asked for a password.
        command.arg("-C").arg(&at).args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "protocol.file.allow=never",
        ]);
        command.args(args).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
        run(command, cancel).map_err(|ended| match ended {
            Ended::Badly { said, status } => Failed::Repository { url: url.to_owned(), said, status },
            Ended::Not(error) => Failed::Other(error),
        })
    };
    // As BuildKit: servers that only serve files know nothing of shallow copies.
    let shallow = |before: &[&str], after: &[&str]| match git(&[before, &["--depth", "1"], after].concat()) {
        Err(Failed::Repository { said, .. }) if said.contains("shallow") || said.contains("--depth") => {
            git(&[before, after].concat())
        }
        done => done,
    };
    git(&["init", "--quiet"])?;
    git(&["remote", "add", "origin", "--", &git_ref.remote])?;
    let reference = if git_ref.reference.is_empty() { "HEAD" } else { &git_ref.reference };
    shallow(&["fetch", "--quiet"], &["origin", reference])?;
    git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    for checksum in [checksum, &git_ref.checksum] {
        if !commit.trim().starts_with(checksum) {
            let commit = commit.trim();
            let text = format!("expected checksum to match {checksum}, got {commit}");
            return Err(Error::internal(text).into());
        }
    }
    if git_ref.submodules {
        shallow(&["submodule", "update", "--quiet", "--init", "--recursive"], &[])?;
    }
    if !git_ref.keep_git_dir.unwrap_or(keep_git_dir) {
        drydock_runtime::clear::tree(&at.join(".git")).doing(|| "remove .git".to_owned())?;
    }
    let tree = drydock_dockerfile::files::Tree::open(&at).doing(|| format!("read {url}"))?;
    let directory = &git_ref.directory;
    let path = tree.real_path(directory).doing(|| format!("subdirectory {directory} of {url}"))?;
    Ok(Tree { path, _scratch: scratch })
}

/// How a program ended that did not do its work.
#[derive(Debug)]
enum Ended {
    /// With this status, and this on standard error.
    Badly { said: String, status: i32 },
    /// It could not be run, or is not wanted any more.
    Not(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Not(error)
    }
}

/// Runs a program of the node and tells what it printed, or why it failed.
fn run(mut command: Command, cancel: &Cancel) -> Result<String, Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = tempfile_pair()?;
    command.stdin(Stdio::null()).stdout(output.0.1).stderr(output.1.1);
    let mut child = command.spawn().doing(|| format!("exec {program}"))?;
    let status = loop {
        if let Some(status) = child.try_wait().doing(|| format!("wait for {program}"))? {
            break status;
        }
        if cancel.is_set() {
            let _ended = child.kill().and_then(|()| child.wait());
            return Err(Error::internal("context canceled").into());
        }
        std::thread::sleep(LOOK);
    };
    if status.success() {
        return Ok(read(output.0.0)?);
    }
    let text = read(output.1.0)?;
    let text = text.trim();
    let said = if text.is_empty() { format!("{program}: {status}") } else { text.to_owned() };
    Err(Ended::Badly { said, status: status.code().unwrap_or(-1) })
}

type Ends = (fs::File, fs::File);

/// Files in memory for standard output and error: programs never wait for us to read them.
fn tempfile_pair() -> Result<(Ends, Ends)> {
    let one = || -> Result<Ends> {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let file = memfd_create(c"output", MFdFlags::MFD_CLOEXEC).doing(|| "memfd_create".to_owned())?;
        let file = fs::File::from(file);
        let again = file.try_clone().doing(|| "dup".to_owned())?;
        Ok((file, again))
    };
    Ok((one()?, one()?))
}

fn read(mut file: fs::File) -> Result<String> {
    use std::io::Seek;
    let mut bytes = vec![];
    file.rewind()
        .and_then(|()| file.take(1 << 20).read_to_end(&mut bytes))
        .doing(|| "read output".to_owned())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let head = "HTTP/1.1 302 Found\r\nLast-Modified: no\r\n\r\nHTTP/1.1 200 OK\r\nContent-Disposition: attachment; filename=\"../a b.tar\"\r\n\r\n";
        assert_eq!(header(head, "last-modified"), None);
        assert_eq!(header(head, "content-disposition").and_then(file_name).as_deref(), Some("a b.tar"));
        assert_eq!(file_name("inline"), None);
        assert_eq!(file_name("attachment; filename=.."), None);
    }

    #[test]
    fn what_could_not_be_had_is_told_in_buildkits_words() {
        let web =
            |said: &str| Failed::Web { url: "https://h.example/f".into(), said: said.into(), answer: None };
        for (said, words) in [
            ("curl: (22) The requested URL returned error: 404", "invalid response status 404"),
            (
                "curl: (6) Could not resolve host: h.example",
                "Get \"https://h.example/f\": dial tcp: lookup h.example: no such host",
            ),
            ("curl: (35) TLS", "Get \"https://h.example/f\": TLS"),
        ] {
            assert_eq!(web(said).in_buildkits_words().message, words);
        }
        assert_eq!(Error::from(web("why")).message, "Get \"https://h.example/f\": why");
        let git = |url: &str| Failed::Repository { url: url.into(), said: "fatal: no".into(), status: 128 };
        assert_eq!(
            git("https://h.example/r.git#:dir").in_buildkits_words().message,
            "error fetching default branch for repository https://h.example/r.git: git stderr:\nfatal: no\n: exit status 128"
        );
        let named = git("https://h.example/r.git#v1").in_buildkits_words().message;
        assert!(named.starts_with("failed to fetch remote https://h.example/r.git: git stderr:"), "{named}");
    }

    #[test]
    fn a_server_that_refuses_is_quoted() {
        let scratch = tempfile::tempdir().unwrap();
        let (head, body) = (scratch.path().join("head"), scratch.path().join("body"));
        fs::write(&head, "HTTP/1.1 302 Found\r\nLocation: /f\r\n\r\nHTTP/1.1 404 Not Found\r\nA: b\r\n\r\n")
            .unwrap();
        fs::write(&body, "404 page not found\n").unwrap();
        let said = "curl: (22) The requested URL returned error: 404";
        let answer = refusal(said, &head, &body);
        let error = Error::from(Failed::Web { url: "http://h.example/f".into(), said: said.into(), answer });
        let words = "failed to GET http://h.example/f with status 404 Not Found: 404 page not found";
        assert_eq!((error.status.as_u16(), error.message.as_str()), (404, words));
        assert!(refusal("curl: (7) Failed to connect", &head, &body).is_none());
    }

    #[test]
    fn programs_tell_what_they_print_and_why_they_fail() {
        let shell = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            run(command, &Cancel::default())
        };
        assert_eq!(shell("echo out").unwrap(), "out\n");
        let Err(Ended::Badly { said, status }) = shell("echo why >&2; exit 3") else { panic!() };
        assert_eq!((said.as_str(), status), ("why", 3));
        let cancel = Cancel::default();
        cancel.set();
        let mut command = Command::new("sleep");
        command.arg("60");
        let Err(Ended::Not(error)) = run(command, &cancel) else { panic!() };
        assert_eq!(error.message, "context canceled");
    }
}
