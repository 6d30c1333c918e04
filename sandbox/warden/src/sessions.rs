//! The sessions of this warden: how one is made, given nodes, ended and swept up. Every step that leaves something on the
//! host is undone by `Sessions::sweep`, which works from the record alone; so a warden killed at any point leaves nothing that the next
//! one does not clear away.

mod ready;
mod sweep;

use self::{
    ready::Ready,
    sweep::{Dying, Lingering},
};
use crate::{
    disk::Disk,
    error::{Error, at},
    place::{Place, state_paths},
    record::{self, Record},
};
use drydock_images::{Image, Store};
use drydock_protocol::{NodeName, SessionId, pipe::Step};
use drydock_runtime::{
    cgroup::{self, Hierarchies, SessionGroup, UnusedHierarchies},
    channel::{Channel, Listener},
    cluster::{ClusterSeed, ClusterWish},
    egress::Egress,
    launch::{Launch, Mains, NodeDisk, Shared},
    limits::Limits,
    messages::{FromWarden, Given},
    mounts, overlay, pidfd, seccomp, session_root,
    trace::Trace,
    uplink::Uplink,
    userns,
};
use nix::unistd::{Gid, Uid, chown};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::PathBuf,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Most egress rules, and most name servers, of a session.
const MAX_RULES: usize = 200;

/// What a session needs beside its namespaces: control group, socket for serve, socket for the warden, log.
type Prepared = (SessionGroup, UnixListener, Listener, fs::File);

/// A session whose processes run (or have just ended).
#[derive(Debug)]
pub struct Session {
    record: Record,
    pidfd: OwnedFd,
    /// Its user namespace, for mounting the roots of nodes.
    userns: OwnedFd,
    /// Zero of the time line of its spawner.
    origin: Instant,
}

/// What a session shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How many nodes.
    pub nodes: u8,
    /// The node image.
    pub image: &'a str,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach outside.
    pub egress: &'a Egress,
    /// Whether its nodes make up a Kubernetes cluster.
    pub cluster: bool,
}

/// What all sessions share.
pub struct Stores {
    /// Node images. Open for as long as their layers are mounted.
    pub images: Store,
    /// Container images.
    pub catalogue: Store,
    /// The program of WebAssembly containers.
    pub wasm: Option<OwnedFd>,
}

/// All sessions, and what they are made with.
pub struct Sessions {
    place: Place,
    disk: Disk,
    stores: Stores,
    hierarchies: Hierarchies,
    filter: seccompiler::BpfProgram,
    mains: Mains,
    running: BTreeMap<SessionId, Session>,
    ready: Ready,
    /// Where sessions are in the hierarchies that limit none of them.
    unused: UnusedHierarchies,
    /// Holds [`cgroup::favor_moves`].
    _fast_moves: Option<OwnedFd>,
    /// Swept up but for a control group that a dying process still holds.
    dying: Vec<Dying>,
    lingering: Vec<Lingering>,
}

impl Sessions {
    /// Takes over what an earlier warden of this state directory has left: goes on with sessions that run, clears the rest away.
    pub fn new(place: Place, stores: Stores, disk_bytes: u64, mains: Mains) -> Result<Self, Error> {
        let hierarchies = Hierarchies::detect()?;
        let filter = seccomp::compile()?;
        let (alive, dead): (Vec<Record>, Vec<Record>) =
            Record::all(place.state()).into_iter().partition(|record| record.runs() && !record.unasked);
        let disk = Disk::mount(place.state(), disk_bytes, !alive.is_empty())?;
        let unused = UnusedHierarchies::enter(&hierarchies, &place.server());
        let mut sessions = Self {
            place,
            disk,
            stores,
            hierarchies,
            unused,
            filter,
            mains,
            running: BTreeMap::new(),
            ready: Ready::default(),
            _fast_moves: cgroup::favor_moves()
                .inspect_err(|e| tracing::info!("sessions start some 12 ms later than they could: {e}"))
                .ok(),
            dying: vec![],
            lingering: vec![],
        };
        for record in alive {
            let Some((pid, _)) = record.spawner else { continue };
            match open_process(&record, pid) {
                Ok((pidfd, userns)) => {
                    tracing::info!(session = %record.id, "goes on");
                    let session = Session { pidfd, userns, record, origin: Instant::now() };
                    sessions.running.insert(session.record.id.clone(), session);
                }
                Err(e) => {
                    tracing::warn!(session = %record.id, "ended: {e}");
                    sessions.sweep(Lingering::new(record));
                }
            }
        }
        for record in dead {
            sessions.sweep(Lingering::new(record));
        }
        Ok(sessions)
    }

    /// The state directory and ids.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Ids of the sessions that run.
    pub fn ids(&self) -> Vec<SessionId> {
        self.running.keys().cloned().collect()
    }

    /// The host's user ids of each session that runs.
    pub fn users(&self) -> BTreeMap<SessionId, std::ops::Range<u32>> {
        self.running.iter().map(|(id, s)| (id.clone(), self.place.users(s.record.slot))).collect()
    }

    /// Descriptors that become readable when a session has ended, also one that is kept ready.
    pub fn pidfds(&self) -> impl Iterator<Item = (&SessionId, BorrowedFd<'_>)> {
        let running = self.running.iter().map(|(id, s)| (id, s.pidfd.as_fd()));
        running.chain(self.ready.session().map(|s| (&s.record.id, s.pidfd.as_fd())))
    }

    /// Makes a session and starts it.
    pub fn create(&mut self, id: &SessionId, wish: &Wish<'_>) -> Result<Vec<Step>, Error> {
        let mut trace = Trace::new();
        check(&wish.limits, wish.nodes)?;
        check_egress(wish.egress)?;
        if self.is_in_use(id) {
            return Err(Error::SessionExists(id.clone()));
        }
        let image = self.stores.images.resolve(wish.image)?;
        let cluster = wish.cluster.then(|| new_cluster(wish.nodes)).transpose()?;
        let mut session = match self.take_ready(id, wish)? {
            Some(session) => session,
            None => self.make(id, wish.limits, wish.egress, &mut trace)?,
        };
        let given = Given { after: trace.origin().saturating_duration_since(session.origin), cluster };
        if let Err(e) = self.fill(&mut session, wish, &image, given, &mut trace) {
            self.abandon(session.record);
            return Err(e);
        }
        self.running.insert(id.clone(), session);
        Ok(trace.into_steps())
    }

    /// Whether there is a session of this id, or something is left of one.
    fn is_in_use(&self, id: &SessionId) -> bool {
        self.running.contains_key(id) || self.lingering.iter().any(|left| left.record.id == *id)
    }

    /// Makes a session without nodes.
    fn make(
        &mut self,
        id: &SessionId,
        limits: Limits,
        egress: &Egress,
        trace: &mut Trace,
    ) -> Result<Session, Error> {
        let used = |slot: u32| {
            let running = self.running.values().chain(self.ready.session()).map(|s| &s.record);
            running.chain(self.lingering.iter().map(|l| &l.record)).any(|record| record.slot == slot)
        };
        let slots = self.place.slots();
        let slot = (1..=slots).find(|slot| !used(*slot)).ok_or(Error::Full(slots))?;
        let uplink = !egress.allow.is_empty();
        let (nodes, image) = (vec![], String::new());
        let mut record =
            Record { id: id.clone(), slot, nodes, image, limits, unasked: true, uplink, spawner: None };
        let made = self.launch(&mut record, egress, trace);
        made.inspect_err(|_| self.abandon(record))
    }

    fn launch(&self, record: &mut Record, egress: &Egress, trace: &mut Trace) -> Result<Session, Error> {
        record.save(self.place.state())?;
        trace.step("record");
        let base = self.place.base(record.slot);
        // Its process works while this one does what needs no user namespace.
        let userns = userns::Pending::begin(base)?;
        let prepared = self.prepare(record, base, trace);
        let userns = userns.finish()?;
        let (group, listener, control, log) = prepared?;
        trace.step("user namespace");
        let images = mounts::idmapped(self.stores.catalogue.dir(), userns.as_fd())?;
        let place = state_paths::devices(self.place.state());
        let devices = session_root::session_devices(&place, userns.as_fd())?;
        let pid = Launch {
            id: &record.id,
            limits: &record.limits,
            userns: userns.as_fd(),
            group: &group,
            shared: Some(Shared { devices, images, place: &place }),
            wasm: self.stores.wasm.as_ref().map(AsFd::as_fd),
            listener: listener.as_fd(),
            control: &control,
            log: log.as_fd(),
            resolvers: record.uplink.then_some(&egress.resolvers[..]),
            filter: &self.filter,
            mains: self.mains,
            origin: trace.origin(),
        }
        .start()?;
        record.spawner = record::start_time(pid).map(|start| (pid, start));
        trace.step("clone namespaces");
        let pidfd = pidfd::open(pid).map_err(at("pidfd"))?;
        if record.uplink {
            self.uplink(record).create(pid, egress)?;
            trace.step("uplink");
        }
        Ok(Session { record: record.clone(), pidfd, userns, origin: trace.origin() })
    }

    /// Gives a session without nodes its first ones.
    fn fill(
        &self,
        session: &mut Session,
        wish: &Wish<'_>,
        image: &Image,
        given: Given,
        trace: &mut Trace,
    ) -> Result<(), Error> {
        let record = &mut session.record;
        let has = std::mem::take(&mut record.nodes);
        record.nodes = (1..=wish.nodes).filter_map(NodeName::new).collect();
        record.image = wish.image.into();
        let new: Vec<_> = record.nodes.iter().copied().filter(|node| !has.contains(node)).collect();
        let to = self.hand_in(record, &new, image, session.userns.as_fd())?;
        self.tell(&to, record, &FromWarden::Start { names: record.nodes.clone(), given: Some(given) })?;
        trace.step("disks of the nodes");
        // Not sooner: a session that goes on without this warden keeps the pool of disks mounted.
        record.unasked = false;
        record.save(self.place.state())?;
        trace.step("record");
        Ok(())
    }

    /// Makes the disks of nodes and hands them to the spawner, to which it returns the connection.
    fn hand_in(
        &self,
        record: &Record,
        nodes: &[NodeName],
        image: &Image,
        userns: BorrowedFd<'_>,
    ) -> Result<Channel, Error> {
        let disks = nodes.iter().map(|node| self.node_disk(record, *node, image, userns));
        let disks = disks.collect::<Result<Vec<_>, _>>()?;
        let fds: Vec<_> = disks.iter().flat_map(|disk| [disk.root.as_fd(), disk.docker.as_fd()]).collect();
        let path = self.control_path(&record.id);
        let spawner = Channel::connect(&path).map_err(at(&path))?;
        if !nodes.is_empty() {
            spawner.send(&FromWarden::Disks(nodes.to_vec()), &fds).map_err(at(path))?;
        }
        Ok(spawner)
    }

    fn tell(&self, spawner: &Channel, record: &Record, message: &FromWarden) -> Result<(), Error> {
        spawner.send(message, &[]).map_err(at(self.control_path(&record.id)))
    }

    /// Leaves nothing of a session that nobody knows of.
    fn abandon(&mut self, record: Record) {
        let spawner = record.spawner;
        let id = record.id.clone();
        self.sweep(Lingering::new(record));
        // Killed by the sweep; as our child it must be taken in.
        if let Some((pid, _)) = spawner
            && let Err(e) = drydock_runtime::process::wait(pid)
        {
            tracing::warn!(session = %id, "{e}");
        }
    }

    /// Makes the disk of a node: its root over the image's layers, and its `/var/lib/docker`.
    fn node_disk(
        &self,
        record: &Record,
        node: NodeName,
        image: &Image,
        userns: BorrowedFd<'_>,
    ) -> Result<NodeDisk, Error> {
        self.disk.prepare_node(&record.id, node, &record.limits)?;
        let (disk, base) = (self.disk.path(&record.id), self.place.base(record.slot));
        let root = overlay::create(&image.layers, userns, &disk, &node.to_string(), base)?;
        let docker = disk.join(node.to_string()).join("docker");
        fs::create_dir(&docker).map_err(at(&docker))?;
        chown(&docker, Some(Uid::from_raw(base)), Some(Gid::from_raw(base)))
            .map_err(|e| Error::File(docker.clone(), e.into()))?;
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o710)).map_err(at(&docker))?;
        let docker = mounts::copy(rustix::fs::CWD, &docker.to_string_lossy(), false)?;
        Ok(NodeDisk { root, docker })
    }

    /// Disk, control group, sockets and log of a session.
    fn prepare(&self, record: &Record, base: u32, trace: &mut Trace) -> Result<Prepared, Error> {
        self.disk.create(&record.id, &record.limits)?;
        trace.step("disk");
        let group = self.group(&record.id);
        group.create(&record.limits, base)?;
        trace.step("control groups");
        let listener = self.bind_session_socket(&record.id)?;
        let control =
            Listener::bind(&self.control_path(&record.id)).map_err(at(self.control_path(&record.id)))?;
        let log_path = self.log_path(&record.id);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(at(&log_path))?;
        trace.step("sockets");
        Ok((group, listener, control, log))
    }

    fn bind_session_socket(&self, id: &SessionId) -> Result<UnixListener, Error> {
        let path = state_paths::session_socket(self.place.state(), id);
        let _left_by_a_crash = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(at(&path))?;
        let web = self.place.web_user();
        chown(&path, Some(Uid::from_raw(web)), Some(Gid::from_raw(web)))
            .map_err(|e| Error::File(path.clone(), e.into()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(at(&path))?;
        Ok(listener)
    }

    /// Gives a session a new node.
    pub fn add_node(&mut self, id: &SessionId, node: NodeName) -> Result<(), Error> {
        let session = self.running.get_mut(id).ok_or_else(|| Error::NoSession(id.clone()))?;
        let record = &mut session.record;
        if record.nodes.contains(&node) {
            return Err(Error::NodeExists(id.clone(), node));
        }
        let most = record.limits.nodes.min(Limits::MAX_NODES);
        if record.nodes.len() >= usize::from(most) || node.number() > Limits::MAX_NODES {
            return Err(Error::Invalid(format!("session {id} may have {most} nodes: remove one first")));
        }
        let image = self.stores.images.resolve(&record.image)?;
        let userns = session.userns.try_clone().map_err(at("userns"))?;
        // From here on something may be left of a node, also by a warden that is killed.
        let mut record = record.clone();
        record.nodes.push(node);
        record.save(self.place.state())?;
        session.record = record.clone();
        let start = FromWarden::Start { names: vec![node], given: None };
        let handed_in = self.hand_in(&record, &[node], &image, userns.as_fd());
        let made = handed_in.and_then(|spawner| self.tell(&spawner, &record, &start));
        if made.is_err()
            && let Err(e) = self.forget_node(id, node)
        {
            tracing::warn!(session = %id, %node, "half-made node: {e}");
        }
        made
    }

    /// Deletes the disk of a node that the session process has removed.
    pub fn forget_node(&mut self, id: &SessionId, node: NodeName) -> Result<(), Error> {
        let session = self.running.get_mut(id).ok_or_else(|| Error::NoSession(id.clone()))?;
        if !session.record.nodes.contains(&node) {
            return Err(Error::NoNode(id.clone(), node));
        }
        // If this fails the record keeps the node, so that it can be asked again.
        self.disk.delete_node(id, node, &session.record.limits)?;
        session.record.nodes.retain(|n| *n != node);
        session.record.save(self.place.state())
    }

    /// Freezes or thaws a session's nodes.
    pub fn freeze(&self, id: &SessionId, frozen: bool) -> Result<(), Error> {
        if !self.running.contains_key(id) {
            return Err(Error::NoSession(id.clone()));
        }
        Ok(self.group(id).freeze(frozen)?)
    }

    /// Kills a session; false if there is none. [`Self::ended`] follows when its descriptor becomes readable.
    pub fn kill(&mut self, id: &SessionId) -> Result<bool, Error> {
        let Some(session) = self.running.get(id) else { return Ok(false) };
        let (slot, signalled) = (session.record.slot, pidfd::signal(session.pidfd.as_fd(), 9));
        if let Err(e) = signalled
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::File("pidfd".into(), e));
        }
        // A frozen process dies only when it is thawed (control groups v1). From here on nobody is left to freeze another.
        self.group(id).thaw_all()?;
        if self.dying.iter().all(|one| one.id != *id) {
            self.dying.push(Dying::new(id.clone(), slot));
        }
        Ok(true)
    }

    /// Clears away a session whose spawner has ended. Returns why it ended, as far as the kernel tells, and the steps.
    pub fn ended(&mut self, id: &SessionId) -> (String, Vec<Step>) {
        let mut trace = Trace::new();
        let Some(session) = self.running.remove(id) else { return (String::new(), vec![]) };
        let status = rustix::process::waitid(
            rustix::process::WaitId::PidFd(session.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG,
        );
        let how = match status {
            Ok(Some(status)) if status.terminating_signal().is_some() => {
                format!("killed by signal {}", status.terminating_signal().unwrap_or(0))
            }
            Ok(Some(status)) => format!("exit status {}", status.exit_status().unwrap_or(0)),
            // Not our child: an earlier warden's.
            Ok(None) | Err(_) => "its first process ended".into(),
        };
        let reason = match self.group(id).oom_kills() {
            0 => how,
            kills => format!("{how}; the kernel killed {kills} of its processes for want of memory"),
        };
        trace.step("processes");
        self.sweep(Lingering::new(session.record));
        trace.step("control groups, disk, sockets");
        (reason, trace.into_steps())
    }

    /// Gives everything back: called when the warden ends without sessions.
    pub fn close(self) {
        let disk = self.place.state().join("disk");
        if drydock_runtime::mounts::is_mount_point(&disk)
            && let Err(e) = drydock_runtime::mounts::detach(&disk)
        {
            tracing::warn!("{e}");
        }
        let _never_made = fs::remove_file(self.place.state().join("disk.btrfs"));
        SessionGroup::remove_parents(&self.hierarchies, &self.place.server());
        self.unused.leave();
        self.place.release();
    }

    fn uplink(&self, record: &Record) -> Uplink {
        Uplink { server: self.place.number(), slot: record.slot }
    }

    fn group(&self, id: &SessionId) -> SessionGroup {
        SessionGroup::new(self.hierarchies.clone(), &self.place.server(), id.as_str())
    }

    fn control_path(&self, id: &SessionId) -> PathBuf {
        self.place.state().join("run/warden").join(format!("{id}.sock"))
    }

    fn log_path(&self, id: &SessionId) -> PathBuf {
        self.place.state().join("log").join(format!("{id}.log"))
    }
}

/// Descriptors of a record's process and its user namespace. What was opened by number is looked at again afterwards: the process may
/// have ended and left its number to another.
fn open_process(record: &Record, pid: i32) -> Result<(OwnedFd, OwnedFd), Error> {
    let namespace = format!("/proc/{pid}/ns/user");
    let pidfd = pidfd::open(pid).map_err(at("pidfd"))?;
    let userns = fs::File::open(&namespace).map_err(at(namespace))?;
    if !record.runs() {
        return Err(Error::NoSession(record.id.clone()));
    }
    Ok((pidfd, userns.into()))
}

/// A cluster with keys of its own.
fn new_cluster(nodes: u8) -> Result<ClusterWish, Error> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut seed[filled..], flags)
            .map_err(|e| Error::Host(format!("random bytes: {e}")))?;
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let created = since_1970.map_err(|_| Error::Host("the clock is before 1970".into()))?.as_secs();
    Ok(ClusterWish { seed: ClusterSeed(seed), created, nodes })
}

/// The warden's own bounds, whatever serve says.
fn check(limits: &Limits, nodes: u8) -> Result<(), Error> {
    limits.check().map_err(|e| Error::Invalid(e.to_string()))?;
    if !(1..=limits.nodes).contains(&nodes) {
        return Err(Error::Invalid(format!("nodes is {nodes}; it must be 1 to {}", limits.nodes)));
    }
    Ok(())
}

fn check_egress(egress: &Egress) -> Result<(), Error> {
    if egress.allow.len() > MAX_RULES || egress.resolvers.len() > MAX_RULES {
        return Err(Error::Invalid(format!("more than {MAX_RULES} egress rules")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_has_by_now_is_no_session() {
        let pid = std::process::id() as i32;
        let mut record = Record {
            id: SessionId::from_random([1; 10]),
            slot: 1,
            nodes: vec![],
            image: "node".into(),
            limits: Limits::default(),
            unasked: false,
            uplink: false,
            spawner: record::start_time(pid).map(|start| (pid, start)),
        };
        assert!(open_process(&record, pid).is_ok());
        record.spawner = record.spawner.map(|(pid, start)| (pid, start - 1));
        assert!(matches!(open_process(&record, pid), Err(Error::NoSession(_))));
    }
}
