//! What is mounted in a container: `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the volumes that its image wants, read as
//! Docker reads them (`volume/mounts/linux_parser.go`) and refused in its words.

use super::{
    model::{Config, HostConfig, MountPoint, MountRequest, Texts},
    names::new_id,
    record::Mounted,
};
use crate::{
    engine::Engine,
    error::{Error, Result},
};
use drydock_go::io_text;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// How mounts of one side show on the other.
pub const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// A request for a mount before its volume is there.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wish {
    mounted: Mounted,
    options: Texts,
    labels: Texts,
    /// A bind whose source is made if it is missing (`-v`; not `--mount`).
    make_source: bool,
}

/// Everything that a container shall have mounted; makes volumes and missing sources of binds.
pub fn resolve(engine: &Engine, config: &Config, host: &HostConfig) -> Result<Vec<Mounted>> {
    let mut wishes: BTreeMap<String, Wish> = BTreeMap::new();
    for from in host.volumes_from.iter().flatten() {
        for wish in of_other(engine, from)? {
            wishes.insert(wish.mounted.point.destination.clone(), wish);
        }
    }
    let mut named = BTreeSet::new();
    let mut add = |wishes: &mut BTreeMap<String, Wish>, wish: Wish| {
        let target = wish.mounted.point.destination.clone();
        if !named.insert(target.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
        wishes.insert(target, wish);
        Ok(())
    };
    for bind in host.binds.iter().flatten() {
        add(&mut wishes, bind_spec(bind, &host.volume_driver)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut wishes, mount_spec(mount)?)?;
    }
    for target in host.tmpfs.iter().flatten().map(|(target, _)| target) {
        check_target(target)
            .map_err(|why| Error::invalid(format!("invalid tmpfs target '{target}': {why}")))?;
        if wishes.contains_key(&clean(target)) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", clean(target))));
        }
    }
    for target in config.volumes.iter().flatten().map(|(target, _)| target) {
        let target = clean(target);
        let tmpfs = host.tmpfs.iter().flatten().any(|(t, _)| clean(t) == target);
        if !target.starts_with('/') || target == "/" {
            return Err(Error::invalid(format!("invalid volume specification: '{target}'")));
        }
        if !tmpfs && !wishes.contains_key(&target) {
            let mut mounted = volume("", &target, true, "");
            mounted.point.driver.clone_from(&host.volume_driver);
            wishes.insert(target, Wish { mounted, ..Wish::default() });
        }
    }
    wishes.into_values().map(|wish| grant(engine, wish)).collect()
}

/// Makes what a wish names.
fn grant(engine: &Engine, wish: Wish) -> Result<Mounted> {
    let Wish { mut mounted, options, labels, make_source } = wish;
    let point = &mut mounted.point;
    match point.kind.as_str() {
        "volume" if point.source.is_empty() => {
            mounted.anonymous = point.name.is_empty();
            if mounted.anonymous {
                point.name = new_id();
            }
            let volume =
                engine.volumes.ensure(&point.name, &point.driver, &options, &labels, mounted.anonymous)?;
            if volume.new {
                let attributes = [("driver".to_string(), volume.driver.clone())].into();
                engine.events.emit("volume", "create", &volume.name, attributes);
            }
            point.driver = volume.driver;
            point.source = volume.mountpoint.to_string_lossy().into_owned();
        }
        "bind" => match fs::metadata(&point.source) {
            Ok(_) => {}
            Err(_) if make_source => fs::create_dir_all(&point.source).map_err(|e| {
                let words = io_text(&e);
                Error::internal(format!(
                    "error while creating mount source path '{0}': mkdir {0}: {words}",
                    point.source
                ))
            })?,
            Err(_) => {
                return Err(Error::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    point.source
                )));
            }
        },
        _ => {}
    }
    Ok(mounted)
}

/// `container[:mode]`: all that another container has mounted.
fn of_other(engine: &Engine, text: &str) -> Result<Vec<Wish>> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(Error::invalid("malformed volumes-from specification: empty container"));
    }
    check_mode_of_other(mode)?;
    // Not as what is not found: clients would take that for the image, and pull it.
    let other = engine.containers.get(name).map_err(|error| Error::invalid(error.message))?;
    let record = other.record();
    let of_theirs =
        record.mount_points.iter().filter(|m| !matches!(m.point.kind.as_str(), "tmpfs" | "image")).map(
            |theirs| {
                let mut mounted = theirs.clone();
                mounted.copy = false;
                mounted.point.rw = theirs.point.rw && mode != "ro";
                Wish { mounted, ..Wish::default() }
            },
        );
    Ok(of_theirs.collect())
}

/// Neither propagation nor copying is for volumes that another container has.
fn check_mode_of_other(mode: &str) -> Result<()> {
    let other = |word: &str| PROPAGATIONS.contains(&word) || word == "nocopy";
    if is_mode(mode) && !mode.split(',').any(other) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid mode: {mode}")))
}

fn volume(name: &str, target: &str, rw: bool, mode: &str) -> Mounted {
    Mounted {
        point: MountPoint {
            kind: "volume".into(),
            name: name.into(),
            destination: target.into(),
            driver: "local".into(),
            mode: mode.into(),
            rw,
            ..MountPoint::default()
        },
        copy: true,
        ..Mounted::default()
    }
}

/// `source:target:mode`, `source:target`, `target`.
fn bind_spec(text: &str, driver: &str) -> Result<Wish> {
    let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    if text.is_empty() || parts.iter().take(2).any(|p| p.is_empty()) {
        return Err(bad());
    }
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        // A volume without a name has no mode.
        [_, mode] if is_mode(mode) => return Err(bad()),
        [source, target] => (source, target, ""),
        [source, target, mode] if !target.is_empty() => (source, target, mode),
        _ => return Err(bad()),
    };
    if !is_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let words: Vec<&str> = mode.split(',').collect();
    let refused = |why: &str| {
        let kind = if source.starts_with('/') { "bind" } else { "volume" };
        Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {why}"
        ))
    };
    check_target(target).map_err(|why| refused(&why))?;
    let target = clean(target);
    let rw = !words.contains(&"ro");
    let propagation = words.iter().find(|w| PROPAGATIONS.contains(w)).copied().unwrap_or("");
    if source.starts_with('/') {
        if words.contains(&"nocopy") {
            return Err(refused("field VolumeOptions must not be specified"));
        }
        let point = MountPoint {
            kind: "bind".into(),
            source: clean(source),
            destination: target,
            mode: mode.into(),
            rw,
            propagation: if propagation.is_empty() { "rprivate".into() } else { propagation.into() },
            ..MountPoint::default()
        };
        let mounted = Mounted { point, ..Mounted::default() };
        return Ok(Wish { mounted, make_source: true, ..Wish::default() });
    }
    if !propagation.is_empty() {
        return Err(refused("field BindOptions must not be specified"));
    }
    if source.contains('/') || source == "." || source == ".." {
        return Err(Error::invalid(format!(
            "create {source}: \"{source}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    let mut mounted = volume(source, &target, rw, if mode.is_empty() { "z" } else { mode });
    mounted.copy = !words.contains(&"nocopy");
    mounted.point.driver = driver.into();
    Ok(Wish { mounted, ..Wish::default() })
}

/// Known words, and only one of each kind (`linuxValidMountMode`).
fn is_mode(text: &str) -> bool {
    const KINDS: [&[&str]; 5] =
        [&["ro", "rw"], &["z", "Z"], &PROPAGATIONS, &["nocopy"], &["cached", "delegated", "consistent"]];
    let mut found = [false; KINDS.len()];
    let once = |word: &str| {
        let kind = KINDS.iter().position(|kind| kind.contains(&word));
        kind.is_some_and(|kind| !std::mem::replace(&mut found[kind], true))
    };
    text.is_empty() || text.split(',').all(once)
}

/// Refuses what the kernel's tmpfs has not, as `mount.MergeTmpfsOptions` does.
pub fn check_tmpfs(options: &str) -> Result<()> {
    const FLAGS: [&str; 34] = [
        "defaults",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "unbindable",
        "runbindable",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "",
    ];
    const VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    for option in options.rsplit(',').filter(|option| !FLAGS.contains(option)) {
        let words: Vec<&str> = option.splitn(2, '=').collect();
        if words.len() != 2 || !VALUES.contains(&words[0]) {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            return Err(Error::internal(format!("invalid tmpfs option [{}]", words.join(" "))));
        }
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(())
}

/// One of `--mount`.
fn mount_spec(request: &MountRequest) -> Result<Wish> {
    let kind = request.kind.as_str();
    let bad = |why: &str| Error::invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    let others = [
        ("bind", "BindOptions", request.bind_options.is_some()),
        ("volume", "VolumeOptions", request.volume_options.is_some()),
        ("image", "ImageOptions", request.image_options.is_some()),
        ("tmpfs", "TmpfsOptions", request.tmpfs_options.is_some()),
    ];
    if let Some((_, field, _)) = others.iter().find(|(of, _, present)| *present && *of != kind) {
        return Err(bad(&format!("field {field} must not be specified")));
    }
    if request.target.is_empty() {
        return Err(bad("field Target must not be empty"));
    }
    check_target(&request.target).map_err(|why| bad(&why))?;
    let target = clean(&request.target);
    let mut wish = match kind {
        "bind" => bind_mount(request),
        "volume" => volume_mount(request, &target),
        "image" => image_mount(request),
        "tmpfs" if request.source.is_empty() => Ok(Wish::default()),
        "tmpfs" => Err("field Source must not be specified".into()),
        _ => Err("mount type unknown".into()),
    }
    .map_err(|why| bad(&why))?;
    wish.mounted.point.kind = kind.into();
    wish.mounted.point.destination = target;
    wish.mounted.point.rw = !request.read_only && kind != "image";
    wish.mounted.spec = Some(request.clone());
    Ok(wish)
}

fn bind_mount(request: &MountRequest) -> Result<Wish, String> {
    if request.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    if !request.source.starts_with('/') {
        return Err(format!("invalid mount path: '{}' mount path must be absolute", request.source));
    }
    let options = request.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    let propagation = if options.propagation.is_empty() { "rprivate".into() } else { options.propagation };
    let point = MountPoint { source: clean(&request.source), propagation, ..MountPoint::default() };
    let mounted = Mounted { point, ..Mounted::default() };
    Ok(Wish { mounted, make_source: options.create_mountpoint, ..Wish::default() })
}

fn volume_mount(request: &MountRequest, target: &str) -> Result<Wish, String> {
    let options = request.volume_options.clone().unwrap_or_default();
    if request.source.is_empty() && !options.subpath.is_empty() {
        return Err("must not set Subpath when using anonymous volumes".into());
    }
    check_subpath(&options.subpath)?;
    let driver = options.driver_config.unwrap_or_default();
    let mut mounted = volume(&request.source, target, true, "z");
    mounted.copy = !options.no_copy;
    mounted.point.driver = driver.name;
    Ok(Wish {
        mounted,
        options: driver.options.unwrap_or_default(),
        labels: options.labels.unwrap_or_default(),
        make_source: false,
    })
}

fn image_mount(request: &MountRequest) -> Result<Wish, String> {
    if request.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    check_subpath(request.image_options.as_ref().map_or("", |options| options.subpath.as_str()))?;
    let mut wish = Wish::default();
    wish.mounted.point.name.clone_from(&request.source);
    Ok(wish)
}

fn check_subpath(path: &str) -> Result<(), String> {
    let local = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if local { Ok(()) } else { Err("subpath must be a relative path within the volume".into()) }
}

/// A path without `.`, `..` and double slashes, as Go's `path.Clean`.
pub fn clean(path: &str) -> String {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::ImageOptions;

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        let wish = bind_spec("/a/../b:/c/:ro,rslave", "").unwrap();
        assert_eq!(
            wish.mounted.point,
            MountPoint {
                kind: "bind".into(),
                source: "/b".into(),
                destination: "/c".into(),
                mode: "ro,rslave".into(),
                propagation: "rslave".into(),
                ..MountPoint::default()
            }
        );
        let wish = bind_spec("data:/d:nocopy", "").unwrap();
        assert_eq!((wish.mounted.point.name.as_str(), wish.mounted.copy), ("data", false));
        assert_eq!(bind_spec("v:/d", "").unwrap().mounted.point.mode, "z");
        for (text, why) in [
            (
                "a:b",
                "invalid volume specification: 'a:b': invalid mount config for type \"volume\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "a:/",
                "invalid volume specification: 'a:/': invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
            ),
            (
                "/:/",
                "invalid volume specification: '/:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "/a:/b:nocopy",
                "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                "a:/b:rslave",
                "invalid volume specification: 'a:/b:rslave': invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
            ("/a:/b:xx", "invalid mode: xx"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/x:/y:ro,rw", "invalid mode: ro,rw"),
            ("/x:/y:readonly", "invalid mode: readonly"),
            ("aa:ro", "invalid volume specification: 'aa:ro'"),
            ("/aa:rslave", "invalid volume specification: '/aa:rslave'"),
        ] {
            assert_eq!(bind_spec(text, "").unwrap_err().message, why);
        }
    }

    #[test]
    fn modes_of_others_and_options_of_tmpfs_are_checked() {
        for mode in ["foo", "nocopy", "rslave", "ro,rw"] {
            assert_eq!(check_mode_of_other(mode).unwrap_err().message, format!("invalid mode: {mode}"));
        }
        assert_eq!(check_mode_of_other("ro,z"), Ok(()));
        assert_eq!(check_tmpfs("foo").unwrap_err().message, "invalid tmpfs option [\"foo\"]");
        assert_eq!(check_tmpfs("a=b,ro").unwrap_err().message, "invalid tmpfs option [\"a\" \"b\"]");
        assert_eq!(check_tmpfs("rw,noexec,size=64k,mode=1777"), Ok(()));
        assert_eq!(check_tmpfs(""), Ok(()));
    }

    #[test]
    fn mounts_are_checked_by_type() {
        let request = |kind: &str, source: &str| MountRequest {
            kind: kind.into(),
            source: source.into(),
            target: "/t".into(),
            ..MountRequest::default()
        };
        assert_eq!(
            mount_spec(&request("bind", "")).unwrap_err().message,
            "invalid mount config for type \"bind\": field Source must not be empty"
        );
        assert_eq!(
            mount_spec(&request("x", "")).unwrap_err().message,
            "invalid mount config for type \"x\": mount type unknown"
        );
        assert!(mount_spec(&request("volume", "")).unwrap().mounted.copy);
        let image = mount_spec(&request("image", "busybox")).unwrap().mounted.point;
        assert_eq!((image.name.as_str(), image.rw), ("busybox", false));
        let mut outside = request("image", "busybox");
        outside.image_options = Some(ImageOptions { subpath: "../x".into() });
        assert_eq!(
            mount_spec(&outside).unwrap_err().message,
            "invalid mount config for type \"image\": subpath must be a relative path within the volume"
        );
    }
}
