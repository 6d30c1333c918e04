//! `drydock stop`: ends all sessions, the warden, and the server if one runs. Without a server it talks to the warden
//! itself.

use super::Output;
use crate::{
    client::Client,
    warden::{Event, Warden, connect_packet_socket},
};
use anyhow::{Context, ensure};
use drydock_warden::messages::{Answer, Request};
use hyper::Method;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Uid,
};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    fs::File,
    io::ErrorKind,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Time for the server to say goodbye, and for the warden to end after it.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(state_dir: &Path, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    let ended = match crate::commands::block_on(async {
        if !client.is_there().await? {
            return Ok(None);
        }
        let (_, answer): (_, serde_json::Value) =
            client.json::<(), _>(Method::POST, "/operator/stop", None).await?;
        anyhow::Ok(Some(answer["ended"].as_u64().unwrap_or(0)))
    })? {
        Some(ended) => Some(ended),
        None => without_server(state_dir)?,
    };
    if ended.is_some() {
        await_warden(state_dir, WITHIN)?;
    }
    let text = match ended {
        Some(n) => format!("Stopped: {n} sessions ended."),
        None => "Nothing runs.".to_owned(),
    };
    output.print(&serde_json::json!({ "ended": ended.unwrap_or(0) }), |_| text)
}

fn without_server(state_dir: &Path) -> anyhow::Result<Option<u64>> {
    let socket = state_dir.join("run/warden.sock");
    match connect_packet_socket(&socket) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
        Err(_) => return Ok(None),
        Ok(_) => {}
    }
    ensure!(Uid::effective().is_root(), "drydock stop must be run as root. Try: sudo drydock stop");
    crate::commands::block_on(end_all(socket)).map(Some)
}

/// Waits until no warden has the state directory: the server says that it will end, but something may keep it.
fn await_warden(state_dir: &Path, within: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + within;
    while let Some(pid) = warden_of(state_dir)? {
        ensure!(
            Instant::now() < end,
            "all sessions were ended, but the warden (process {pid}) still runs: something of them cannot be deleted, and it goes on \
             trying. {} tells what. `kill {pid}` ends it; the next start clears the rest away",
            state_dir.join("log/warden.log").display()
        );
        await_end(pid, end.saturating_duration_since(Instant::now()))?;
    }
    Ok(())
}

/// Waits until a process has ended, at most for a time.
fn await_end(pid: i32, most: Duration) -> anyhow::Result<()> {
    // Its number is not told across process namespaces.
    ensure!(pid > 0, "the warden runs in another process namespace: stop the server there");
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX)).context("poll")?;
            Ok(())
        }
        // It has ended meanwhile.
        Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot watch the warden (process {pid:?})")),
    }
}

/// The process that has the warden's lock.
fn warden_of(state_dir: &Path) -> anyhow::Result<Option<i32>> {
    let path = state_dir.join("run/warden.lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let mut asked = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&lock, FcntlArg::F_GETLK(&mut asked)).context("cannot see whether the warden runs")?;
    Ok((asked.l_type != libc::F_UNLCK as i16).then_some(asked.l_pid))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warden_that_goes_on_is_told() {
        let dir = tempfile::tempdir().unwrap();
        await_warden(dir.path(), Duration::ZERO).unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let lock = dir.path().join("run/warden.lock");
        File::create(&lock).unwrap();
        await_warden(dir.path(), Duration::ZERO).unwrap();
        // As the warden's own, but one that another file of the same process can see.
        let held = File::options().write(true).open(&lock).unwrap();
        let mut whole =
            libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        fcntl(&held, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        let error = await_warden(dir.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("still runs"), "{error}");
        whole.l_type = libc::F_UNLCK as i16;
        fcntl(&held, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        await_warden(dir.path(), Duration::ZERO).unwrap();
    }
}
