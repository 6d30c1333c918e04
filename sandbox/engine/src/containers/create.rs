//! `docker create`: from a request to a container that can be started. Nothing is mounted here unless an image has content for
//! a new volume; nothing is left behind when something is refused.

use super::{
    Container, addresses, image, links,
    model::{CreateRequest, Created, EndpointSettings, HostConfig, NetworkingConfig},
    mounts, names, net,
    record::{Mounted, Record},
    sources, validate,
};
use crate::{
    clock::Timestamp,
    containers::copy,
    engine::Engine,
    error::{Context, Error, Result},
    images, wasm,
};
use drydock_images::local::{Image, LayerStack};
use drydock_registry::Platform;
use drydock_runtime::clear;
use std::{collections::BTreeMap, fs, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

/// Hidden or read-only in every container that is not privileged.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes a container. `name`: as the client gave it, if it did.
pub fn create(
    engine: &Arc<Engine>,
    name: Option<&str>,
    platform: Option<&str>,
    request: CreateRequest,
) -> Result<Created> {
    let CreateRequest { mut config, host_config: mut host, mut networking_config } = request;
    // Most are started as soon as they are made.
    engine.init.expect();
    let mut warnings = Vec::new();
    if matches!(host.network_mode.as_str(), "" | "default")
        && let Some(settings) = networking_config.endpoints_config.remove("default")
    {
        networking_config.endpoints_config.insert("bridge".into(), settings);
    }
    addresses::check(engine, &networking_config.endpoints_config)?;
    let found = engine.images.find(&config.image)?;
    let wanted = platform.filter(|p| !p.is_empty()).map(str::parse::<Platform>).transpose();
    let wanted = wanted.map_err(|error| Error::invalid(error.to_string()))?.map(shortened);
    images::platform::check(&found, wanted.as_ref(), &config.image)?;
    warnings.extend(other_platform(platform, &found));
    validate::check_exposed(&config, &host)?;
    image::merge(&mut config, &found.config.config);
    let (path, args) = image::command(&mut config)?;
    engine.config.get().complete(&mut host);
    let chosen = !matches!(host.network_mode.as_str(), "" | "default");
    warnings.extend(validate::check(&mut config, &mut host, &engine.groups)?);
    // 0 and all below is how a client asks for none.
    host.resources.pids_limit = host.resources.pids_limit.filter(|limit| *limit > 0);
    if wasm::is_runtime(&host.runtime) {
        check_wasm(engine, &host.runtime, &found, &config.image)?;
    }
    paths(&mut host);
    warnings.extend(net::check_ports(&config, &host)?);
    check_containers(engine, &host)?;
    links::resolve(engine, &mut host)?;

    let id = names::new_id();
    let name = take_name(engine, name, &id)?;
    let hostname_of_node = host.uts_mode == "host" || host.network_mode == "host";
    if config.hostname.is_empty() && !host.network_mode.starts_with("container:") {
        config.hostname = if hostname_of_node { engine.node.to_string() } else { id[..12].to_string() };
    }
    let networks = wanted_networks(engine, networking_config, &host, chosen);
    let record = Record {
        created: Timestamp::now(),
        path,
        args,
        image: found.id.to_string(),
        image_size: found.size,
        platform: if wasm::is_platform(&found.config) { found.config.os.clone() } else { "linux".into() },
        config,
        host,
        wished_macs: net::wished_macs(&networks),
        networks,
        name,
        id,
        ..Record::default()
    };
    let made = furnish(engine, record, &found);
    made.map(|id| Created { id, warnings })
}

/// The name that is asked for, or a new one.
fn take_name(engine: &Engine, name: Option<&str>, id: &str) -> Result<String> {
    match name.map(|n| n.strip_prefix('/').unwrap_or(n)).filter(|n| !n.is_empty()) {
        Some(name) => {
            names::check(name)?;
            engine.containers.reserve(name, id)?;
            Ok(name.to_string())
        }
        None => names::generate(&engine.containers, id),
    }
}

/// The networks that a container shall join. `chosen`: the request says which network is its own.
fn wanted_networks(
    engine: &Engine,
    config: NetworkingConfig,
    host: &HostConfig,
    chosen: bool,
) -> BTreeMap<String, EndpointSettings> {
    let mut networks: BTreeMap<String, EndpointSettings> =
        config.endpoints_config.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect();
    if host.network_mode.starts_with("container:") {
        networks.clear();
    } else if !networks.contains_key(&host.network_mode) && (chosen || networks.is_empty()) {
        // The client may name the network by its id in one place and by its name in the other.
        let default = networks.remove("default").unwrap_or_default();
        let same = engine.networks.find(&host.network_mode).ok();
        if !same.is_some_and(|n| networks.contains_key(&n.name) || networks.contains_key(&n.id)) {
            networks.insert(host.network_mode.clone(), default);
        }
    }
    networks
}

/// Gives the container its layers, directories and volumes, and makes it known.
fn furnish(engine: &Arc<Engine>, mut record: Record, image: &Image) -> Result<String> {
    let id = record.id.clone();
    let dir = engine.containers.dir(&id);
    let make = |record: &mut Record| -> Result<()> {
        let layers = engine.images.hold(&id, &image.id)?;
        engine.roots.create(&id)?;
        fs::DirBuilder::new().mode(0o710).create(&dir).doing(|| format!("mkdir {}", dir.display()))?;
        record.mount_points = mounts::resolve(engine, &record.config, &record.host)?;
        check_anonymous(engine, record, &layers)?;
        sources::hold_images(engine, record)?;
        populate(engine, record, &layers)?;
        record.save(&dir).doing(|| format!("write {}", dir.display()))
    };
    if let Err(error) = make(&mut record) {
        engine.containers.release(&record.name, &id);
        for volume in record.mount_points.iter().filter(|m| m.anonymous) {
            engine.volumes.remove_unused(&volume.point.name);
        }
        sources::forget_images(engine, &record);
        let _not_made = clear::tree(&dir);
        if let Ok(doomed) = engine.roots.discard(&id) {
            let _not_made = clear::tree(&doomed);
        }
        let _not_held = engine.images.release(&id);
        return Err(error);
    }
    engine.container_event(&record, "create", &[]);
    engine.containers.add(Arc::new(Container::new(record, engine.containers.root())));
    Ok(id)
}

/// Without the variant that a processor has anyway, as containerd's `platforms.Parse` leaves it out.
fn shortened(platform: Platform) -> Platform {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("arm64", "v8") | ("arm", "v7") => Platform { variant: String::new(), ..platform },
        _ => platform,
    }
}

/// What Docker says if nobody asked for the platform that an image turns out to be for.
fn other_platform(wanted: Option<&str>, image: &Image) -> Option<String> {
    let own = Platform::host();
    let of = Platform::new(&image.config.os, &image.config.architecture);
    let expected =
        wanted.is_some_and(|p| !p.is_empty()) || image.config.os.is_empty() || own.rank(&of).is_some();
    (!expected).then(|| {
        format!(
            "The requested image's platform ({of}) does not match the detected host platform ({own}) and no specific platform was requested"
        )
    })
}

fn check_wasm(engine: &Engine, runtime: &str, image: &Image, reference: &str) -> Result<()> {
    if engine.wasm.is_none() {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {runtime} (this server was built without its WebAssembly runtime)"
        )));
    }
    if wasm::is_platform(&image.config) {
        return Ok(());
    }
    let (os, architecture) = (&image.config.os, &image.config.architecture);
    Err(Error::invalid(format!(
        "runtime {runtime} runs images of the platform wasi/wasm, and {reference} is for {os}/{architecture}"
    )))
}

/// What is hidden and read-only, as inspection shows it.
pub fn paths(host: &mut HostConfig) {
    if host.security_opt.iter().flatten().any(|o| o == "systempaths=unconfined") {
        host.masked_paths.get_or_insert_default();
        host.readonly_paths.get_or_insert_default();
    } else if !host.privileged {
        host.masked_paths.get_or_insert_with(|| MASKED.map(Into::into).to_vec());
        host.readonly_paths.get_or_insert_with(|| READ_ONLY.map(Into::into).to_vec());
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "private".into();
    }
}

/// Containers whose processes or memory this one shares must be there. Not those whose network it has: they are looked for at its start.
fn check_containers(engine: &Engine, host: &HostConfig) -> Result<()> {
    for mode in [&host.pid_mode, &host.ipc_mode] {
        if let Some(other) = mode.strip_prefix("container:") {
            // Not as what is not found: clients would take that for the image, and pull it.
            engine.containers.get(other).map_err(|error| Error::invalid(error.message))?;
        }
    }
    Ok(())
}

/// No volume of an image, or of `-v TARGET`, hides a file. (moby `daemon/create_unix.go`)
fn check_anonymous(engine: &Engine, record: &Record, layers: &LayerStack) -> Result<()> {
    let wanted = |target: &str| record.config.volumes.iter().flatten().any(|(path, _)| path == target);
    for mounted in record.mount_points.iter().filter(|m| m.anonymous && wanted(&m.point.destination)) {
        let inside = mounted.point.destination.trim_start_matches('/');
        if found(layers, inside).is_some_and(|found| found.is_file()) {
            let path = engine.roots.parts(&record.id).merged.join(inside);
            let path = path.display();
            return Err(Error::internal(format!(
                "cannot mount volume over existing file, file exists {path}"
            )));
        }
    }
    Ok(())
}

/// What the uppermost layer that knows a path has there.
fn found(layers: &LayerStack, inside: &str) -> Option<fs::Metadata> {
    layers.dirs.iter().find_map(|dir| fs::symlink_metadata(dir.join(inside)).ok())
}

/// Copies what the image has at the place of a volume into the volume, if that is empty (`docker run -v new:/usr/share`), and makes the
/// directory that the program shall work in.
fn populate(engine: &Engine, record: &Record, layers: &LayerStack) -> Result<()> {
    let empty = |path: &PathBuf| fs::read_dir(path).is_ok_and(|mut d| d.next().is_none());
    let wanted = record.mount_points.iter().filter(|m| m.copy && m.point.kind == "volume");
    let volumes: Vec<(&Mounted, PathBuf)> =
        wanted.filter_map(|m| Some((m, content(m).filter(empty)?))).collect();
    // Only if one of the layers has something there is it worth mounting them all.
    let found = |inside: &str| found(layers, inside);
    let has = |(m, _): &(&Mounted, PathBuf)| {
        let inside = m.point.destination.trim_start_matches('/');
        found(inside).is_some() || inside.contains('/')
    };
    if found(record.config.working_dir.trim_start_matches('/')).is_some_and(|found| found.is_file()) {
        let path = &record.config.working_dir;
        return Err(Error::internal(format!("Cannot mkdir: {path} is not a directory")));
    }
    let work = Some(record.config.working_dir.trim_start_matches('/'))
        .filter(|work| !work.is_empty() && found(work).is_none());
    if work.is_none() && !volumes.iter().any(has) {
        return Ok(());
    }
    let root = engine.roots.mount(&record.id, layers)?;
    let copied = volumes.iter().try_for_each(|(m, content)| {
        copy::fill_volume(&root, &m.point.destination, content)
            .doing(|| format!("failed to populate volume {}", m.point.name))
    });
    let made = work.map_or(Ok(()), |work| {
        copy::make_dirs(&root, work).doing(|| format!("mkdir {}", record.config.working_dir))
    });
    engine.roots.unmount(&record.id);
    copied.and(made)
}

/// The directory of a volume that is mounted. A subpath that is not there, or leads out, is told at the start.
fn content(mounted: &Mounted) -> Option<PathBuf> {
    let volume = fs::canonicalize(&mounted.point.source).ok()?;
    let path = fs::canonicalize(volume.join(sources::subpath(mounted).unwrap_or_default())).ok()?;
    path.starts_with(&volume).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_hidden_from_a_privileged_container() {
        let mut host = HostConfig { privileged: true, ..HostConfig::default() };
        paths(&mut host);
        assert_eq!(
            (&host.masked_paths, &host.readonly_paths, host.cgroupns_mode.as_str()),
            (&None, &None, "private")
        );
        let mut host =
            HostConfig { security_opt: Some(vec!["systempaths=unconfined".into()]), ..HostConfig::default() };
        paths(&mut host);
        assert_eq!((host.masked_paths, host.readonly_paths), (Some(vec![]), Some(vec![])));
    }
}
