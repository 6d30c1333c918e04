//! The Docker engine of these tests: makes the containers that a test describes, over HTTP so that `curl` in a node can ask.
//! The body of a request is an [`Order`]; the answer is the exit status on a line and then the output.

use drydock_protocol::frame::Size;
use drydock_runtime::{
    channel::Channel,
    container::{
        EngineBoot,
        messages::{EngineToInit, FromChild, InitToEngine, ToChild, With},
        spec::{ContainerSpec, ProcessSpec},
    },
    mounts,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Have a child wait for the next container.
    Expect,
    /// Run a container to its end, with a child that waited for it if it may have one.
    Run(String, ContainerSpec),
    /// Start a container and leave it.
    Start(String, ContainerSpec),
    /// Run a process in a container to its end.
    Exec(String, String, ProcessSpec),
    /// What was told of an earlier engine's containers.
    Told,
}

struct Engine {
    channel: Channel,
    running: BTreeMap<String, OwnedFd>,
    /// To a child that waits for a container.
    expected: Option<Channel>,
    told: String,
}

pub fn main(boot: EngineBoot) -> i32 {
    let mut engine =
        Engine { channel: boot.channel, running: BTreeMap::new(), expected: None, told: String::new() };
    loop {
        match engine.channel.recv::<InitToEngine>().unwrap().unwrap() {
            (InitToEngine::Alive { key, exited, .. }, fds) => {
                engine.told += &format!("{key} {exited:?} {}\n", fds.len());
                engine.running.insert(key, fds.into_iter().next().unwrap());
            }
            (InitToEngine::Synced, _) => break,
            other => panic!("{other:?}"),
        }
    }
    for connection in UnixListener::from(boot.listener).incoming() {
        let mut connection = connection.unwrap();
        let (status, output) = match order(&connection) {
            Some(order) => engine.carry_out(order),
            None => (1, "no order".into()),
        };
        let _asker_gone = write!(connection, "HTTP/1.0 200 OK\r\n\r\n{status}\n{output}");
    }
    0
}

fn order(connection: &UnixStream) -> Option<Order> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

impl Engine {
    fn carry_out(&mut self, order: Order) -> (i32, String) {
        match order {
            Order::Told => (0, self.told.clone()),
            Order::Expect => {
                self.expect();
                (0, String::new())
            }
            Order::Run(key, spec) => {
                if self.expected.is_none() {
                    self.expect();
                }
                let (pidfd, output) = match self.start(&key, &spec) {
                    Ok(started) => started,
                    Err(e) => return (-1, e),
                };
                drop(pidfd);
                self.finish(&key, output)
            }
            Order::Start(key, spec) => match self.start(&key, &spec) {
                Ok((pidfd, outputs)) => {
                    let fds: Vec<_> = outputs.iter().map(AsFd::as_fd).collect();
                    self.channel.send(&EngineToInit::Keep { key: key.clone() }, &fds).unwrap();
                    self.running.insert(key, pidfd);
                    (0, String::new())
                }
                Err(e) => (-1, e),
            },
            Order::Exec(key, container, process) => {
                let pidfd = self.running[&container].try_clone().unwrap();
                let request = EngineToInit::Exec { key: key.clone(), cgroup: format!("docker/{container}") };
                let spec = postcard::to_stdvec(&process).unwrap();
                match self.ask(request, &spec, process.tty, pidfd) {
                    Ok((_, outputs)) => self.finish(&key, outputs),
                    Err(e) => (-1, e),
                }
            }
        }
    }

    fn expect(&mut self) {
        let (ours, theirs) = Channel::pair().unwrap();
        self.channel.send(&EngineToInit::Expect, &[theirs.as_fd()]).unwrap();
        self.expected = Some(ours);
    }

    /// Gives a container to the child that waits, if it can be its.
    fn hand_over(&mut self, request: EngineToInit, fds: &[BorrowedFd<'_>]) -> (EngineToInit, bool) {
        if let EngineToInit::Run { key, flags, join_pid: None, with } = &request
            && let (Some(left), Some(expected)) = (with.of_expected(*flags), self.expected.take())
            && expected.send(&(*with, left), fds).is_ok()
        {
            return (EngineToInit::Adopt { key: key.clone() }, true);
        }
        (request, false)
    }

    fn start(&mut self, key: &str, spec: &ContainerSpec) -> Result<(OwnedFd, Vec<OwnedFd>), String> {
        self.channel.send(&EngineToInit::Forget { key: key.into() }, &[]).unwrap();
        let flags = spec.namespaces.clone_flags();
        let join_pid = match spec.namespaces.pid {
            drydock_runtime::container::spec::Namespace::Of(pid) => Some(pid),
            _ => None,
        };
        let request = EngineToInit::Run { key: key.into(), flags, join_pid, with: With::default() };
        let root = mounts::copy(CWD, &spec.root, false).unwrap();
        self.ask(request, &postcard::to_stdvec(spec).unwrap(), spec.process.tty, root)
    }

    /// Returns the process and its outputs. With a new container comes its root, with another process the container's first one.
    fn ask(
        &mut self,
        request: EngineToInit,
        spec: &[u8],
        tty: Option<Size>,
        with: OwnedFd,
    ) -> Result<(OwnedFd, Vec<OwnedFd>), String> {
        let exec = matches!(request, EngineToInit::Exec { .. });
        let mut memory = File::from(memfd_create(c"spec", MFdFlags::MFD_CLOEXEC).unwrap());
        memory.write_all(spec).unwrap();
        let (report, theirs) = Channel::pair().unwrap();
        let mut give = vec![OwnedFd::from(memory), theirs.into_fd()];
        let root = if exec {
            give.push(with);
            None
        } else {
            Some(with)
        };
        let mut outputs = vec![];
        if tty.is_none() {
            let null = File::open("/dev/null").unwrap();
            let (out_read, out_write) = std::io::pipe().unwrap();
            give.extend([null.into(), out_write.try_clone().unwrap().into(), out_write.into()]);
            outputs.push(OwnedFd::from(out_read));
        }
        let fds: Vec<_> = give.iter().map(AsFd::as_fd).collect();
        let (request, given) = self.hand_over(request, &fds);
        self.channel.send(&request, if given { &[] } else { &fds }).unwrap();
        drop(give);
        if let Some(root) = root {
            report.send(&ToChild::Place, &[]).unwrap();
            report.send(&ToChild::Root, &[root.as_fd()]).unwrap();
        }
        let process = loop {
            match self.channel.recv::<InitToEngine>().unwrap().unwrap() {
                (InitToEngine::Started { .. }, mut fds) => break fds.remove(0),
                (InitToEngine::Refused { message, .. }, _) => return Err(message),
                _ => {}
            }
        };
        let mut told = report.recv::<FromChild>().unwrap();
        if let Some((FromChild::Network, fds)) = &told {
            assert_eq!(fds.len(), 1);
            told = report.recv::<FromChild>().unwrap();
        }
        match told {
            Some((FromChild::Network | FromChild::Linked, _)) => return Err("not now".into()),
            Some((FromChild::Prepared, fds)) => {
                // The master comes non-blocking.
                for fd in &fds {
                    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_RDWR)).unwrap();
                }
                outputs.extend(fds);
            }
            Some((FromChild::Failed(failure), _)) => return Err(format!("{failure:?}")),
            None if exec && tty.is_none() => return Ok((process, outputs)),
            None => return Err("ended without a word".into()),
        }
        if !exec {
            report.send(&ToChild::Go(vec![]), &[]).unwrap();
        }
        match report.recv::<FromChild>().unwrap() {
            None => Ok((process, outputs)),
            Some((FromChild::Failed(failure), _)) => Err(format!("{failure:?}")),
            Some(other) => Err(format!("{other:?}")),
        }
    }

    fn finish(&mut self, key: &str, outputs: Vec<OwnedFd>) -> (i32, String) {
        let mut bytes = Vec::new();
        for output in outputs {
            // The end of a terminal is an error (EIO).
            let _end = File::from(output).read_to_end(&mut bytes);
        }
        loop {
            if let (InitToEngine::Exited { key: ended, status }, _) =
                self.channel.recv::<InitToEngine>().unwrap().unwrap()
                && ended == key
            {
                self.channel.send(&EngineToInit::Forget { key: key.into() }, &[]).unwrap();
                return (status, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
}
