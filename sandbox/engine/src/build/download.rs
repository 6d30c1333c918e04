//! `ADD https://…` and `ADD …​.git`: got by the node's own `curl` and `git`, so that the node's proxies, certificates and way out
//! hold for builds too.

use super::{Cancel, Scratch};
use crate::engine::Engine;
use crate::error::{Context as _, Error, Result};
use drydock_dockerfile::build::{Download, Files};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often a cancelled build is noticed while a program runs.
const LOOK: Duration = Duration::from_millis(100);
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

/// Gets a file.
pub(super) fn file(engine: &Engine, url: &str, cancel: &Cancel) -> Result<Download> {
    let scratch = Scratch::new(engine, "add")?;
    let (body, head) = (scratch.path().join("body"), scratch.path().join("head"));
    let mut command = Command::new("curl");
    command.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--remote-time",
        "--proto",
        "=http,https",
    ]);
    command.arg("--max-filesize").arg(MAX_FILE.to_string());
    command.arg("--output").arg(&body).arg("--dump-header").arg(&head).arg("--").arg(url);
    run(command, cancel)
        .map_err(|error| Error::internal(format!("failed to GET {url}: {}", error.message)))?;
    let head = fs::read_to_string(&head).unwrap_or_default();
    let file = fs::File::open(&body).or_else(|_| fs::File::create(&body)).doing(|| format!("read {url}"))?;
    let modified = header(&head, "last-modified").and_then(|_| file.metadata().ok()).and_then(|meta| {
        let modified = crate::clock::Timestamp::from(meta.modified().ok()?);
        Some(modified.seconds())
    });
    let name = header(&head, "content-disposition").and_then(file_name);
    Ok(Download { name, modified, content: Box::new(Content { file, _scratch: scratch }) })
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

/// Whether an address is one of a repository.
pub(super) fn is_git(url: &str) -> bool {
    let address = url.split('#').next().unwrap_or(url);
    let web = address.starts_with("http://") || address.starts_with("https://");
    let schemes = ["git://", "git@", "ssh://", "github.com/"];
    (web && address.ends_with(".git")) || schemes.iter().any(|scheme| address.starts_with(scheme))
}

/// Gets a repository: `https://host/x.git#branch:directory`.
pub(super) fn git(
    engine: &Engine,
    url: &str,
    keep_git_dir: bool,
    checksum: &str,
    cancel: &Cancel,
) -> Result<Tree> {
    let (remote, fragment) = url.split_once('#').unwrap_or((url, ""));
    let remote = if remote.starts_with("github.com/") { format!("https://{remote}") } else { remote.into() };
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
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
        run(command, cancel)
            .map_err(|error| Error::internal(format!("failed to load git source {url}: {}", error.message)))
    };
    git(&["init", "--quiet"])?;
    git(&["remote", "add", "origin", "--", &remote])?;
    let reference = if reference.is_empty() { "HEAD" } else { reference };
    if reference.starts_with('-') {
        return Err(Error::invalid(format!("invalid git reference {reference:?}")));
    }
    git(&["fetch", "--quiet", "--depth", "1", "origin", reference])?;
    git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    if !checksum.is_empty() && !commit.trim().starts_with(checksum) {
        return Err(Error::internal(format!("expected checksum to match {checksum}, got {}", commit.trim())));
    }
    git(&["submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1"])?;
    if !keep_git_dir {
        drydock_runtime::clear::tree(&at.join(".git")).doing(|| "remove .git".to_owned())?;
    }
    let tree = drydock_dockerfile::files::Tree::open(&at).doing(|| format!("read {url}"))?;
    let path = tree.real_path(directory).doing(|| format!("subdirectory {directory} of {url}"))?;
    Ok(Tree { path, _scratch: scratch })
}

/// Runs a program of the node and tells what it printed, or why it failed.
fn run(mut command: Command, cancel: &Cancel) -> Result<String> {
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
            return Err(Error::internal("context canceled"));
        }
        std::thread::sleep(LOOK);
    };
    if status.success() {
        return read(output.0.0);
    }
    let text = read(output.1.0)?;
    let text = text.trim();
    Err(Error::internal(if text.is_empty() { format!("{program}: {status}") } else { text.to_owned() }))
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
    fn repositories_are_known_by_their_address() {
        for url in [
            "https://example.org/x.git",
            "https://example.org/x.git#main:dir",
            "git://example.org/x",
            "git@example.org:x",
            "ssh://git@example.org/x",
            "github.com/a/b",
        ] {
            assert!(is_git(url), "{url}");
        }
        for url in ["https://example.org/x.tar.gz", "https://example.org/git", "http://github.com/a/b"] {
            assert!(!is_git(url), "{url}");
        }
    }

    #[test]
    fn programs_tell_what_they_print_and_why_they_fail() {
        let shell = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            run(command, &Cancel::default())
        };
        assert_eq!(shell("echo out").unwrap(), "out\n");
        assert_eq!(shell("echo why >&2; exit 3").unwrap_err().message, "why");
        let cancel = Cancel::default();
        cancel.set();
        let mut command = Command::new("sleep");
        command.arg("60");
        assert_eq!(run(command, &cancel).unwrap_err().message, "context canceled");
    }
}
