//! The line to the node's init: it clones what the engine describes, keeps process descriptors and the engine's ends of pipes,
//! and tells when something ends. A thread of its own reads, so that the init never waits for us; anybody may send.

use crate::error::{Error, Result};
use drydock_runtime::{
    channel::Channel,
    container::messages::{EngineToInit, FRESH, InitToEngine, Key},
};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde::Serialize;
use std::{
    collections::HashMap,
    fs::File,
    io::{Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::oneshot;

/// The engine's end.
#[derive(Debug)]
pub struct Init {
    channel: Channel,
    /// A child that waits for a container.
    expected: Mutex<Option<Expected>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    starts: HashMap<Key, oneshot::Sender<Result<Started, Refused>>>,
    exits: HashMap<Key, oneshot::Sender<i32>>,
}

/// A child that the init has cloned, or soon will have.
#[derive(Debug)]
struct Expected {
    /// To it. When this is closed, it ends.
    channel: Channel,
    since: Instant,
}

type Started = (i32, OwnedFd);

/// The init could not clone it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What failed.
    pub message: String,
}

/// A process that runs under the init for us.
#[derive(Debug)]
pub struct Process {
    /// Process id in the node.
    pub pid: i32,
    /// Process descriptor.
    pub pidfd: OwnedFd,
    /// Its exit status, 128 + n for signal n. An error: the init is gone, and with it the node.
    pub exit: oneshot::Receiver<i32>,
}

/// What an earlier engine has left behind.
#[derive(Debug)]
pub struct Survivor {
    /// Its name.
    pub key: Key,
    /// The process.
    pub process: Process,
    /// Descriptors that the earlier engine gave to keep.
    pub kept: Vec<OwnedFd>,
}

impl Init {
    /// Starts to listen. The receiver yields what survived an earlier engine, once.
    pub fn connect(
        channel: Channel,
        gone: oneshot::Sender<()>,
    ) -> (Arc<Self>, oneshot::Receiver<Vec<Survivor>>) {
        let init = Arc::new(Self { channel, expected: Mutex::default(), waiting: Mutex::default() });
        let (synced, survivors) = oneshot::channel();
        let reader = init.clone();
        std::thread::spawn(move || {
            reader.read(synced);
            let _nobody_waits = gone.send(());
        });
        (init, survivors)
    }

    fn read(&self, synced: oneshot::Sender<Vec<Survivor>>) {
        let mut synced = Some(synced);
        let mut survivors = Vec::new();
        loop {
            let (message, fds) = match self.channel.recv::<InitToEngine>() {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the init can't be understood");
                    return;
                }
            };
            let mut fds = fds.into_iter();
            match message {
                InitToEngine::Alive { key, pid, exited } => {
                    let Some(pidfd) = fds.next() else { continue };
                    let exit = self.expect_exit(&key);
                    if let Some(status) = exited {
                        self.exited(&key, status);
                    }
                    survivors.push(Survivor {
                        key,
                        process: Process { pid, pidfd, exit },
                        kept: fds.collect(),
                    });
                }
                InitToEngine::Synced => {
                    if let Some(synced) = synced.take() {
                        let _engine_ends = synced.send(std::mem::take(&mut survivors));
                    }
                }
                InitToEngine::Started { key, pid } => {
                    let started = fds.next().map(|fd| (pid, fd));
                    let started =
                        started.ok_or_else(|| Refused { message: "no process descriptor came".into() });
                    self.answer(&key, started);
                }
                InitToEngine::Refused { key, message, .. } => self.answer(&key, Err(Refused { message })),
                InitToEngine::Exited { key, status } => self.exited(&key, status),
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, key: &str, answer: Result<Started, Refused>) {
        if let Some(asked) = self.waiting().starts.remove(key) {
            let _given_up = asked.send(answer);
        }
    }

    fn exited(&self, key: &str, status: i32) {
        if let Some(waits) = self.waiting().exits.remove(key) {
            let _given_up = waits.send(status);
        }
    }

    fn expect_exit(&self, key: &str) -> oneshot::Receiver<i32> {
        let (tell, exit) = oneshot::channel();
        self.waiting().exits.insert(key.into(), tell);
        exit
    }

    /// Sends something that is not answered. Fails only when the node ends.
    pub fn tell(&self, message: &EngineToInit, fds: &[BorrowedFd<'_>]) {
        if let Err(error) = self.channel.send(message, fds) {
            tracing::warn!(%error, ?message, "the init does not listen");
        }
    }

    /// A container will soon be started: its child can be cloned while it is made. To be told again costs nothing.
    pub fn expect(&self) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.as_ref().is_some_and(|expected| expected.since.elapsed() < FRESH) {
            return;
        }
        match Channel::pair() {
            Ok((channel, theirs)) => {
                self.tell(&EngineToInit::Expect, &[theirs.as_fd()]);
                *expected = Some(Expected { channel, since: Instant::now() });
            }
            Err(error) => tracing::debug!(%error, "no child waits for the next container"),
        }
    }

    /// Sends what asks for a process: a container goes to the child that waits for one, if one does and it is as the container wants it.
    fn send(&self, message: &EngineToInit, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        // Held until the init is told: it takes the last child that was expected for the one that is adopted.
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        match hand_over(&mut expected, message, fds) {
            Some(adopt) => self.channel.send(&adopt, &[]),
            None => self.channel.send(message, fds),
        }
    }

    /// Asks for a process and waits until it is cloned. `message` is a `Run` or an `Exec` of this `key`.
    pub async fn start(
        &self,
        key: &str,
        message: &EngineToInit,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Process, Refused> {
        let (tell, started) = oneshot::channel();
        self.waiting().starts.insert(key.into(), tell);
        let exit = self.expect_exit(key);
        let answer = match self.send(message, fds) {
            Ok(()) => started.await.unwrap_or_else(|_| Err(Refused { message: "the node ends".into() })),
            Err(e) => Err(Refused { message: e.to_string() }),
        };
        match answer {
            Ok((pid, pidfd)) => Ok(Process { pid, pidfd, exit }),
            Err(refused) => {
                let mut waiting = self.waiting();
                waiting.starts.remove(key);
                waiting.exits.remove(key);
                Err(refused)
            }
        }
    }
}

/// Gives a container to the child that is expected. Answers what is still to be told to the init.
fn hand_over(
    expected: &mut Option<Expected>,
    message: &EngineToInit,
    fds: &[BorrowedFd<'_>],
) -> Option<EngineToInit> {
    let EngineToInit::Run { key, flags, join_pid: None, with } = message else { return None };
    let left = with.of_expected(*flags)?;
    let expected = expected.take().filter(|expected| expected.since.elapsed() < FRESH)?;
    // It is gone if somebody has ended it.
    expected.channel.send(&(*with, left), fds).ok()?;
    Some(EngineToInit::Adopt { key: key.clone() })
}

/// A sealed memory file with a specification from its start.
pub fn memory_file<T: Serialize>(specification: &T) -> Result<OwnedFd> {
    let bytes = postcard::to_stdvec(specification).map_err(|e| Error::internal(e.to_string()))?;
    let failed = |e: std::io::Error| Error::internal(format!("memory file: {e}"));
    let fd = memfd_create("spec", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|e| failed(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(&bytes).and_then(|()| file.rewind()).map_err(failed)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals)).map_err(|e| failed(e.into()))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_runtime::container::messages::With;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[tokio::test]
    async fn starts_and_exits_find_who_waits() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (gone, _) = oneshot::channel();
        let (init, survivors) = Init::connect(ours, gone);
        theirs
            .send(&InitToEngine::Alive { key: "old".into(), pid: 7, exited: Some(3) }, &[null().as_fd()])
            .unwrap();
        theirs.send(&InitToEngine::Synced, &[]).unwrap();
        let mut survivors = survivors.await.unwrap();
        let old = survivors.remove(0);
        assert_eq!((old.key.as_str(), old.process.pid, old.process.exit.await), ("old", 7, Ok(3)));

        let node = std::thread::spawn(move || {
            let (asked, _) = theirs.recv::<EngineToInit>().unwrap().unwrap();
            let EngineToInit::Run { key, .. } = asked else { panic!("a run expected") };
            theirs.send(&InitToEngine::Started { key: key.clone(), pid: 9 }, &[null().as_fd()]).unwrap();
            theirs.send(&InitToEngine::Exited { key, status: 137 }, &[]).unwrap();
            theirs.recv::<EngineToInit>().unwrap().unwrap();
            theirs
                .send(&InitToEngine::Refused { key: "b".into(), errno: 12, message: "clone: no".into() }, &[])
                .unwrap();
        });
        let run = |key: &str| EngineToInit::Run {
            key: key.into(),
            flags: 0,
            join_pid: None,
            with: With::default(),
        };
        let process = init.start("a", &run("a"), &[]).await.unwrap();
        assert_eq!((process.pid, process.exit.await), (9, Ok(137)));
        assert_eq!(init.start("b", &run("b"), &[]).await.unwrap_err().message, "clone: no");
        node.join().unwrap();
    }

    /// As the init does it: of the children that were expected the last one is adopted.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_container_goes_to_the_child_that_is_adopted_for_it() {
        const EACH: usize = 500;
        let (ours, theirs) = Channel::pair().unwrap();
        let (gone, _) = oneshot::channel();
        let (init, survivors) = Init::connect(ours, gone);
        theirs.send(&InitToEngine::Synced, &[]).unwrap();
        survivors.await.unwrap();
        let node = std::thread::spawn(move || {
            let (mut expected, mut mistaken) = (None, Vec::new());
            for _ in 0..2 * EACH {
                let (key, fds) = loop {
                    match theirs.recv::<EngineToInit>().unwrap().unwrap() {
                        (EngineToInit::Expect, mut fds) => expected = fds.pop().map(Channel::from),
                        (EngineToInit::Run { key, .. }, fds) => break (key, fds),
                        (EngineToInit::Adopt { key }, _) => {
                            let given = expected.take().and_then(|c| c.recv::<(With, i32)>().unwrap());
                            break (key, given.map(|(_, fds)| fds).unwrap_or_default());
                        }
                        _ => {}
                    }
                };
                let is = fds.into_iter().next().map(|file| {
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut File::from(file), &mut text).unwrap();
                    text
                });
                if is.as_ref() != Some(&key) {
                    mistaken.push((key.clone(), is));
                }
                theirs.send(&InitToEngine::Started { key, pid: 9 }, &[null().as_fd()]).unwrap();
            }
            mistaken
        });
        let run = |who: &'static str| {
            let init = Arc::clone(&init);
            tokio::spawn(async move {
                for number in 0..EACH {
                    let key = format!("{who}{number}");
                    let file = memfd_create("key", MFdFlags::MFD_CLOEXEC).unwrap();
                    let mut file = File::from(file);
                    file.write_all(key.as_bytes()).and_then(|()| file.rewind()).unwrap();
                    let with = With::default();
                    let flags = drydock_runtime::container::messages::EXPECTED;
                    let message = EngineToInit::Run { key: key.clone(), flags, join_pid: None, with };
                    init.expect();
                    init.start(&key, &message, &[file.as_fd()]).await.unwrap();
                }
            })
        };
        let (a, b) = tokio::join!(run("a"), run("b"));
        a.and(b).unwrap();
        assert_eq!(node.join().unwrap(), []);
    }

    #[test]
    fn a_memory_file_is_read_from_its_start() {
        let mut file = File::from(memory_file(&("x".to_string(), 5u32)).unwrap());
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert_eq!(postcard::from_bytes::<(String, u32)>(&bytes).unwrap(), ("x".into(), 5));
        assert!(file.write_all(b"y").is_err());
    }
}
