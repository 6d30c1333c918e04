//! Volumes of pods: directories below `/var/lib/kubelet/pods/UID/volumes` that are filled, or places of the node. Setting up is done
//! anew with every sync of a pod and changes only what has changed, so files of ConfigMaps and Secrets follow their objects.

mod atomic;
mod claims;
mod host_path;
pub mod image;
pub mod inside;
mod nested;
mod payload;
pub mod sub_path;
mod tokens;

pub use tokens::Tokens;

use crate::{
    kubelet::Kubelet,
    paths,
    pods::{fields::Here, pod},
    quantity,
};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Files and directories of one volume that get a group, at most.
const MAX_ENTRIES: usize = 100_000;
/// Deepest tree of a volume that gets a group.
const MAX_DEPTH: usize = 64;

/// What a group may do with files of a volume that it gets: of one that containers write to, and of one that the kubelet writes.
const RW: u32 = 0o660;
const RO: u32 = 0o440;

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is on the node.
    pub path: PathBuf,
    /// Nobody may write to it.
    pub read_only: bool,
}

/// The volumes of a pod by name.
pub type Volumes = BTreeMap<String, Mounted>;

/// A volume that can't be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step}{message}", step = .failure.step.failed(.failure.name.as_ref().unwrap_or(.volume)), message = .failure.message)]
pub struct VolumeError {
    /// Which: its name in the pod.
    pub volume: String,
    /// Why.
    pub failure: Failure,
}

/// Why a volume can't be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What could not be done.
    pub step: Step,
    /// The PersistentVolume, if it is one: then that is the volume's name (`Spec.Name` of `pkg/volume/plugins.go`).
    pub name: Option<String>,
    /// The reason.
    pub message: String,
}

/// What is done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To find out what it is (`createVolumeSpec` of `desired_state_of_world_populator.go`).
    Process,
    /// To have something that mounts it.
    NewMounter,
    /// To mount it.
    SetUp,
    /// To have something that gives it to containers as a device.
    Map,
}

impl Step {
    /// The reason of the event that it failed.
    pub fn reason(self) -> &'static str {
        if self == Self::Map { "FailedMapVolume" } else { "FailedMount" }
    }

    /// That it failed, before the why.
    fn failed(self, volume: &str) -> String {
        let step = match self {
            // The why says it all.
            Self::Process => return String::new(),
            Self::NewMounter => "MountVolume.NewMounter initialization",
            Self::SetUp => "MountVolume.SetUp",
            Self::Map => "MapVolume.FindMapperPluginBySpec",
        };
        format!("{step} failed for volume {volume:?} : ")
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { step: Step::SetUp, name: None, message }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        error.to_string().into()
    }
}

/// Sets up all volumes of a pod. One that fails does not keep the others from being set up.
pub async fn set_up(kubelet: &Kubelet, pod: &Pod, here: &Here) -> Result<Volumes, Vec<VolumeError>> {
    let (mut volumes, mut errors) = (Volumes::new(), Vec::new());
    for volume in pod::spec(pod).volumes.iter().flatten() {
        match one(kubelet, pod, volume, here).await {
            Ok(mounted) => {
                volumes.insert(volume.name.clone(), mounted);
            }
            Err(failure) => errors.push(VolumeError { volume: volume.name.clone(), failure }),
        }
    }
    if errors.is_empty() { Ok(volumes) } else { Err(errors) }
}

/// For how long a pod waits for its volumes before it is said that it waited in vain (`podAttachAndMountTimeout`).
const PATIENCE: Duration = Duration::from_secs(123);

/// How soon after the first time it is said again that a volume cannot be set up; each time twice as late, and not later than the last
/// (`pkg/util/goroutinemap/exponentialbackoff`).
const SAID_AGAIN: Duration = Duration::from_millis(500);
const SAID_AGAIN_LAST: Duration = Duration::from_secs(122);

/// Since when a pod waits for its volumes (`WaitForAttachAndMount`), and what was said of each.
#[derive(Debug, Default)]
pub struct Unmounted {
    since: Option<Instant>,
    /// When each volume is spoken of next, and after how long again.
    said: BTreeMap<String, (Instant, Duration)>,
}

impl Unmounted {
    /// Whether it is time to say that the volume cannot be set up.
    pub fn is_due(&mut self, volume: &str, now: Instant) -> bool {
        let (next, delay) = self.said.entry(volume.to_owned()).or_insert((now, SAID_AGAIN));
        let is_due = now >= *next;
        if is_due {
            (*next, *delay) = (now + *delay, (*delay * 2).min(SAID_AGAIN_LAST));
        }
        is_due
    }

    /// Some volumes still cannot be set up. Which, when the pod has waited too long; then the wait begins anew.
    pub fn waited(&mut self, errors: &[VolumeError], now: Instant) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < PATIENCE {
            return None;
        }
        self.since = None;
        Some(waiting(errors.iter(), "context deadline exceeded"))
    }
}

/// What a pod waits for that has some volumes of which it is not known what they are; `None`: all are known.
pub fn unprocessed(errors: &[VolumeError]) -> Option<String> {
    let why: Vec<_> = unknown(errors.iter()).map(ToString::to_string).collect();
    (!why.is_empty()).then(|| waiting(errors.iter(), &why.join("; ")))
}

fn unknown<'a>(errors: impl Iterator<Item = &'a VolumeError>) -> impl Iterator<Item = &'a VolumeError> {
    errors.filter(|error| error.failure.step == Step::Process)
}

/// What a pod waits for, and why (`WaitForAttachAndMount`).
fn waiting<'a>(errors: impl Iterator<Item = &'a VolumeError> + Clone, why: &str) -> String {
    let names = |errors: &mut dyn Iterator<Item = &VolumeError>| {
        let mut names: Vec<&str> = errors.map(|error| error.volume.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    let (all, unknown) = (names(&mut errors.clone()), names(&mut unknown(errors)));
    format!("unmounted volumes=[{all}], unattached volumes=[], failed to process volumes=[{unknown}]: {why}")
}

async fn one(kubelet: &Kubelet, pod: &Pod, volume: &Volume, here: &Here) -> Result<Mounted, Failure> {
    let uid = pod::uid(pod);
    let writable = |path: PathBuf| Mounted { path, read_only: false };
    let group = pod::spec(pod).security_context.as_ref().and_then(|s| s.fs_group);
    if let Some(source) = &volume.host_path {
        let path = host_path::check(&source.path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(writable(path));
    }
    if let Some(source) = &volume.empty_dir {
        let path = paths::volume(uid, "empty-dir", &volume.name);
        let ready = paths::plugin(uid, "empty-dir", &volume.name).join("ready");
        let medium = medium(source, kubelet.machine.memory);
        empty(&path, &ready, medium, group, |path| nested::make(pod, &volume.name, path))?;
        return Ok(writable(path));
    }
    if volume.image.is_some() {
        return Ok(image::place(uid, volume)?);
    }
    let claim =
        volume.persistent_volume_claim.as_ref().map(|c| (c.claim_name.clone(), c.read_only == Some(true)));
    let ephemeral = volume.ephemeral.as_ref().map(|_| (format!("{}-{}", pod::name(pod), volume.name), false));
    if let Some((name, read_only)) = claim.or(ephemeral) {
        let unknown = |message| Failure { step: Step::Process, name: None, message };
        let (name, spec) = claims::find(kubelet, pod, &name).await.map_err(unknown)?;
        let used = claims::usage(pod, &volume.name, &spec).map_err(unknown)?;
        let mounted = claims::mount(&spec, used, read_only).and_then(|mounted| {
            give_to_group(&mounted.path, group, RW, true)?;
            Ok(mounted)
        });
        return mounted.map_err(|failure| Failure { name: Some(name), ..failure });
    }
    let (plugin, files) = payload::of(kubelet, pod, volume, here).await?;
    let path = paths::volume(uid, plugin, &volume.name);
    let medium = if plugin == "configmap" { Medium::Disk } else { Medium::Memory(kubelet.machine.memory) };
    directory(&path, medium)?;
    nested::make(pod, &volume.name, &path)?;
    let changed = atomic::write(&path, &files)?;
    if changed {
        give_to_group(&path, group, RO, false)?;
    }
    // What the kubelet writes is not a container's to change.
    Ok(Mounted { path, read_only: true })
}

/// An `emptyDir`, once: what containers have made there since is theirs, also its group and modes. A file says that it is ready
/// (`pkg/volume/emptydir`, `SetUpAt`).
fn empty(
    path: &Path,
    ready: &Path,
    medium: Medium,
    group: Option<i64>,
    nested: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let is_there = match medium {
        Medium::Disk => path.exists(),
        Medium::Memory(_) => drydock_runtime::mounts::is_mount_point(path),
    };
    if is_there && ready.exists() {
        return Ok(());
    }
    directory(path, medium)?;
    nested(path)?;
    give_to_group(path, group, RW, false)?;
    ready.parent().map(fs::create_dir_all).transpose()?;
    fs::write(ready, "")
}

/// What a volume's directory lies on.
#[derive(Debug, Clone, Copy)]
enum Medium {
    Disk,
    /// A file system of its own that holds so many bytes.
    Memory(i64),
}

/// An `emptyDir`'s. One in memory holds what it may, or as much as the node has.
fn medium(source: &EmptyDirVolumeSource, memory: i64) -> Medium {
    if source.medium.as_deref() != Some("Memory") {
        return Medium::Disk;
    }
    let limit = source.size_limit.as_ref().and_then(|q| quantity::milli(&q.0));
    let limit = limit.and_then(|m| i64::try_from(m / 1000).ok()).filter(|l| *l > 0);
    Medium::Memory(limit.map_or(memory, |limit| limit.min(memory)))
}

/// Makes a volume's directory, which everybody may write to; in memory it has the mode of a tmpfs (`pkg/volume/emptydir`). What was in
/// memory is gone when the node was off: then the directory is there without its mount.
fn directory(path: &Path, medium: Medium) -> io::Result<()> {
    fs::create_dir_all(path)?;
    match medium {
        Medium::Memory(_) if drydock_runtime::mounts::is_mount_point(path) => Ok(()),
        Medium::Memory(bytes) => {
            let flags = nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV;
            let options = format!("size={bytes},mode=1777");
            Ok(nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?)
        }
        // Past the umask.
        Medium::Disk => fs::set_permissions(path, fs::Permissions::from_mode(0o777)),
    }
}

/// Largest file that is read for the kubelet's own use.
const MAX_FILE: u64 = 1 << 20;

/// A file of a volume as text.
pub fn read(volume: &Mounted, path: &str) -> io::Result<String> {
    inside::read(&volume.path, path, MAX_FILE)
}

/// `fsGroup`: everything belongs to the group, which may read and write it, and what is made there later too
/// (`pkg/volume/volume_linux.go`).
fn give_to_group(path: &Path, group: Option<i64>, bits: u32, once: bool) -> io::Result<()> {
    let Some(group) = group.and_then(|g| u32::try_from(g).ok()) else { return Ok(()) };
    let top = fs::metadata(path)?;
    if once && top.gid() == group && top.mode() & 0o2000 != 0 {
        return Ok(());
    }
    let mut left = MAX_ENTRIES;
    let mut open = vec![(path.to_path_buf(), 0_usize)];
    while let Some((path, depth)) = open.pop() {
        let found = fs::symlink_metadata(&path)?;
        if left == 0 || found.is_symlink() {
            continue;
        }
        left -= 1;
        chown(&path, None, Some(group))?;
        let mode = found.mode() & 0o7777 | if found.is_dir() { bits | 0o2110 } else { bits };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if found.is_dir() && depth < MAX_DEPTH {
            open.extend(fs::read_dir(&path)?.flatten().map(|e| (e.path(), depth + 1)));
        }
    }
    Ok(())
}

/// Takes away everything that a pod had on the node. What is mounted there is let go of first.
pub fn tear_down(uid: &str) -> io::Result<()> {
    let plugins = fs::read_dir(paths::pod(uid).join("volumes")).into_iter().flatten().flatten();
    for entry in plugins.flat_map(|plugin| fs::read_dir(plugin.path())).flatten().flatten() {
        if drydock_runtime::mounts::is_mount_point(&entry.path()) {
            nix::mount::umount2(&entry.path(), nix::mount::MntFlags::MNT_DETACH)?;
        }
    }
    match fs::remove_dir_all(paths::pod(uid)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containers_made_in_an_empty_volume_stays_theirs() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (path, ready) = (dir.path().join("v"), dir.path().join("plugin/ready"));
        let set_up = || empty(&path, &ready, Medium::Disk, Some(3000), |_| Ok(())).unwrap();
        set_up();
        let of = |path: &Path| fs::metadata(path).unwrap();
        assert_eq!((of(&path).gid(), of(&path).mode() & 0o7777), (3000, 0o2777));
        let file = path.join("f");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        set_up();
        assert_eq!(of(&file).mode() & 0o777, 0o644);
        fs::remove_dir_all(&path).unwrap();
        set_up();
        assert_eq!(of(&path).gid(), 3000, "one that is gone is made anew");
    }

    #[test]
    fn who_waits_long_for_volumes_is_told_which() {
        let error =
            |volume: &str| VolumeError { volume: volume.into(), failure: Failure::from("no".to_owned()) };
        let (mut unmounted, now) = (Unmounted::default(), Instant::now());
        let errors = [error("v"), error("s")];
        assert_eq!(unmounted.waited(&errors, now), None);
        assert_eq!(unmounted.waited(&errors, now + Duration::from_secs(100)), None);
        assert_eq!(
            unmounted.waited(&errors, now + PATIENCE).as_deref(),
            Some(
                "unmounted volumes=[s v], unattached volumes=[], failed to process volumes=[]: context deadline exceeded"
            )
        );
        assert_eq!(unmounted.waited(&errors, now + PATIENCE), None, "it begins anew");
    }

    #[test]
    fn a_claimed_volume_is_called_by_its_own_name() {
        let error = |failure: Failure| VolumeError { volume: "data".into(), failure }.to_string();
        assert_eq!(error("no".to_owned().into()), "MountVolume.SetUp failed for volume \"data\" : no");
        let spec = serde_json::json!({ "local": { "path": "/nowhere/at/all" } });
        let spec = serde_json::from_value(spec).unwrap();
        let failure = claims::mount(&spec, claims::Usage::Directory, false).unwrap_err();
        let words = "MountVolume.NewMounter initialization failed for volume \"loc\" : path \"/nowhere/at/all\" does not exist";
        assert_eq!(error(Failure { name: Some("loc".into()), ..failure }), words);
    }

    #[test]
    fn a_claimed_volume_is_used_as_what_it_is() {
        let pod = |how: &str| -> Pod {
            let uses = if how == "volumeMounts" {
                serde_json::json!([{ "name": "data", "mountPath": "/d" }])
            } else {
                serde_json::json!([{ "name": "data", "devicePath": "/dev/d" }])
            };
            let spec = serde_json::json!({ "containers": [{ "name": "c", how: uses }] });
            serde_json::from_value(serde_json::json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
        };
        let spec = |mode: Option<&str>| {
            let host = serde_json::json!({ "path": "/" });
            serde_json::from_value(serde_json::json!({ "volumeMode": mode, "hostPath": host })).unwrap()
        };
        let said = |how: &str, mode| claims::usage(&pod(how), "data", &spec(mode));
        assert_eq!(said("volumeMounts", None), Ok(claims::Usage::Directory));
        let words = "volume data has volumeMode Filesystem, but is specified in volumeDevices";
        assert_eq!(said("volumeDevices", None), Err(words.into()));
        let words = "volume data has volumeMode Block, but is specified in volumeMounts";
        assert_eq!(said("volumeMounts", Some("Block")), Err(words.into()));
        let used = said("volumeDevices", Some("Block")).unwrap();
        let failure = claims::mount(&spec(Some("Block")), used, false).unwrap_err();
        assert_eq!(failure.step.reason(), "FailedMapVolume");
        let error =
            VolumeError { volume: "data".into(), failure: Failure { name: Some("pv".into()), ..failure } };
        let words = "MapVolume.FindMapperPluginBySpec failed for volume \"pv\" : block devices are not given to containers on this node";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn volumes_that_nobody_knows_are_told_apart() {
        let error = |volume: &str, step, message: &str| VolumeError {
            volume: volume.into(),
            failure: Failure { step, name: None, message: message.into() },
        };
        let errors = [error("s", Step::SetUp, "no"), error("data", Step::Process, "why")];
        assert_eq!(unprocessed(&errors[..1]), None);
        assert_eq!(
            unprocessed(&errors).as_deref(),
            Some("unmounted volumes=[data s], unattached volumes=[], failed to process volumes=[data]: why")
        );
    }

    #[test]
    fn a_broken_volume_is_told_less_and_less_often() {
        let (mut unmounted, now) = (Unmounted::default(), Instant::now());
        let told = (0..300_u64).filter(|second| unmounted.is_due("v", now + Duration::from_secs(*second)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 1, 2, 4, 8, 16, 32, 64, 128, 250]);
        assert!(unmounted.is_due("s", now), "another one is told at once");
    }

    #[test]
    fn a_group_gets_all_but_where_links_lead_to() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        fs::create_dir(volume.path().join("d")).unwrap();
        fs::write(volume.path().join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), volume.path().join("link")).unwrap();
        give_to_group(volume.path(), Some(2000), RW, true).unwrap();
        let of = |path: &str| fs::metadata(volume.path().join(path)).unwrap();
        assert_eq!((of("d").gid(), of("d").mode() & 0o7070), (2000, 0o2070));
        assert_eq!((of("d/f").gid(), of("d/f").mode() & 0o60), (2000, 0o60));
        assert_ne!(fs::metadata(outside.path()).unwrap().gid(), 2000);
        fs::set_permissions(volume.path().join("d/f"), fs::Permissions::from_mode(0o400)).unwrap();
        give_to_group(volume.path(), Some(2000), RO, false).unwrap();
        assert_eq!(of("d/f").mode() & 0o777, 0o440);
    }
}
