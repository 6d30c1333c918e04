//! The session process of these tests: starts a command in a node for each connection, and answers with its output.
//! A request is one line of JSON; the answer is the exit status on a line and then the output, until the end.

use drydock_protocol::NodeName;
use drydock_runtime::{
    channel::Channel,
    messages::{FromInit, FromSpawner, SessionBoot, ToInit, ToSpawner},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
};

#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Run a shell script in a node.
    Run(NodeName, String),
    /// Run a program in a node.
    Exec(NodeName, Vec<String>),
    /// Wait for a node that is being added.
    Await(NodeName),
    Off(NodeName),
    On(NodeName),
    Remove(NodeName),
}

struct Agent {
    boot: SessionBoot,
    inits: BTreeMap<NodeName, Channel>,
    next: u32,
}

pub fn main(boot: SessionBoot) -> i32 {
    let listener = UnixListener::from(boot.listener.try_clone().unwrap());
    let mut agent = Agent { boot, inits: BTreeMap::new(), next: 0 };
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let mut line = String::new();
        BufReader::new(&connection).read_line(&mut line).unwrap();
        let (status, output) = agent.answer(serde_json::from_str(&line).unwrap());
        let _asker_gone = write!(connection, "{status}\n{output}");
    }
    0
}

impl Agent {
    fn answer(&mut self, ask: Ask) -> (i32, String) {
        match ask {
            Ask::Run(node, script) => self.run(node, ["bash", "-c", &script].map(String::from).to_vec()),
            Ask::Exec(node, argv) => self.run(node, argv),
            Ask::Await(node) => self.until(|agent| agent.inits.contains_key(&node)),
            Ask::Off(node) => {
                self.tell(ToSpawner::PowerOff(node));
                self.until(|agent| !agent.inits.contains_key(&node))
            }
            Ask::On(node) => {
                self.tell(ToSpawner::PowerOn(node));
                self.until(|agent| agent.inits.contains_key(&node))
            }
            Ask::Remove(node) => {
                self.tell(ToSpawner::Remove(node));
                self.until(|agent| !agent.inits.contains_key(&node))
            }
        }
    }

    fn tell(&self, message: ToSpawner) {
        self.boot.spawner.send(&message, &[]).unwrap();
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) -> (i32, String) {
        while !done(self) {
            let (message, mut fds) = self.boot.spawner.recv::<FromSpawner>().unwrap().unwrap();
            match message {
                FromSpawner::Up { node, .. } => {
                    self.inits.insert(node, Channel::from(fds.pop().unwrap()));
                }
                FromSpawner::Down { node, .. } => {
                    self.inits.remove(&node);
                }
                FromSpawner::Failed { node, message } => return (1, format!("{node}: {message}")),
                FromSpawner::Given(_) | FromSpawner::Added(_) | FromSpawner::Removed(_) => {}
            }
        }
        (0, String::new())
    }

    fn run(&mut self, node: NodeName, argv: Vec<String>) -> (i32, String) {
        let up = self.until(|agent| agent.inits.contains_key(&node));
        if up.0 != 0 {
            return up;
        }
        self.next += 1;
        let argv = argv.into_iter().map(String::into_bytes).collect();
        let request = ToInit::Spawn { id: self.next, argv, env: vec![], cwd: None, tty: None };
        let init = &self.inits[&node];
        init.send(&request, &[]).unwrap();
        let mut fds = loop {
            match init.recv() {
                Ok(Some((FromInit::Spawned { .. }, fds))) => break fds,
                Ok(Some((FromInit::Engine, _))) => {}
                other => return (1, format!("not spawned: {other:?}")),
            }
        };
        let (stderr, stdout) = (fds.pop().unwrap(), fds.pop().unwrap());
        drop(fds);
        let mut output = String::new();
        for pipe in [stdout, stderr] {
            let mut bytes = Vec::new();
            File::from(pipe).take(1 << 20).read_to_end(&mut bytes).unwrap();
            output.push_str(&String::from_utf8_lossy(&bytes));
        }
        loop {
            match init.recv() {
                Ok(Some((FromInit::Exited { status, .. }, _))) => return (status, output),
                Ok(Some((FromInit::Engine, _))) => {}
                other => return (1, format!("{output}\nno exit status: {other:?}")),
            }
        }
    }
}
