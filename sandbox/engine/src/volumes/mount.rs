//! Options of volumes: what `docker volume create -o type=… -o device=… -o o=…` mounts. The words are those of mount(8).

use crate::error::{Error, Result};
use drydock_go::io_text;
use nix::mount::{MntFlags, MsFlags};
use std::collections::BTreeMap;
use std::path::Path;

/// Refuses options that the local driver does not have, and halves of them.
pub fn check_options(options: Option<&BTreeMap<String, String>>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    if let Some(unknown) = options.keys().find(|key| !["type", "o", "device", "size"].contains(&key.as_str()))
    {
        return Err(Error::invalid(format!("invalid option: {unknown:?}")));
    }
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    for (option, needed) in [("device", "type"), ("type", "device"), ("o", "device"), ("o", "type")] {
        if options.contains_key(option) && !options.contains_key(needed) {
            return Err(Error::invalid(format!("missing required option: {needed:?}")));
        }
    }
    Ok(())
}

/// Mounts on a volume's directory. What the kernel refuses (a network or block file system) is told in its words.
pub fn mount(target: &Path, options: &BTreeMap<String, String>) -> Result<()> {
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let (device, kind) = (get("device"), get("type"));
    let (flags, data) = parse(get("o"));
    let data = (!data.is_empty()).then_some(data.as_str());
    let bind = flags.contains(MsFlags::MS_BIND);
    let done =
        nix::mount::mount(Some(device), target, Some(kind).filter(|_| !bind), flags, data).and_then(|()| {
            // A bind takes other flags only with a second call.
            let more = flags - MsFlags::MS_BIND - MsFlags::MS_REC;
            if !bind || more.is_empty() {
                return Ok(());
            }
            let again = flags | MsFlags::MS_REMOUNT;
            nix::mount::mount(None::<&str>, target, None::<&str>, again - MsFlags::MS_REC, None::<&str>)
                .inspect_err(|_| {
                    let _half_mounted = unmount(target);
                })
        });
    done.map_err(|error| {
        // As `mountError` of moby/sys/mount has it.
        let target = target.display();
        let flags = if flags.is_empty() { String::new() } else { format!(", flags: {:#x}", flags.bits()) };
        let data = data.map(|data| format!(", data: {data}")).unwrap_or_default();
        let words = io_text(&error.into());
        Error::internal(format!(
            "failed to mount local volume: mount {device}:{target}{flags}{data}: {words}"
        ))
    })
}

/// Takes it away, also while a process still has a file of it.
pub fn unmount(target: &Path) -> nix::Result<()> {
    nix::mount::umount2(target, MntFlags::MNT_DETACH)
}

/// mount(8) options → flags, and what is left for the file system.
fn parse(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = vec![];
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (set, flag) = match option {
            "bind" => (true, MsFlags::MS_BIND),
            "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
            "ro" => (true, MsFlags::MS_RDONLY),
            "rw" => (false, MsFlags::MS_RDONLY),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "sync" => (true, MsFlags::MS_SYNCHRONOUS),
            "async" => (false, MsFlags::MS_SYNCHRONOUS),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            "defaults" => (false, MsFlags::empty()),
            other => {
                data.push(other);
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &[(&str, &str)]) -> String {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check_options(Some(&options)).unwrap_err().message
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        assert_eq!(refused(&[("foo", "x")]), "invalid option: \"foo\"");
        assert_eq!(refused(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(refused(&[("device", "tmpfs")]), "missing required option: \"type\"");
        assert_eq!(refused(&[("size", "1g")]), "quota size requested but no quota support");
        assert!(check_options(None).is_ok());
    }

    #[test]
    fn a_refusal_of_the_kernel_tells_flags_and_data() {
        let refusal = |o: &str| {
            let options = [("device", "/nosuchd"), ("o", o), ("type", "none")];
            let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            mount(Path::new("/nosuch/_data"), &options).unwrap_err().message
        };
        let start = "failed to mount local volume: mount /nosuchd:/nosuch/_data";
        assert_eq!(refusal("bind"), format!("{start}, flags: 0x1000: no such file or directory"));
        let both = format!("{start}, flags: 0x1001, data: x=1: no such file or directory");
        assert_eq!(refusal("bind,ro,x=1"), both);
        assert_eq!(refusal(""), format!("{start}: no such file or directory"));
    }

    #[test]
    fn mount_words_become_flags_and_data() {
        assert_eq!(
            parse("size=100m,uid=1000,noexec,ro,rw"),
            (MsFlags::MS_NOEXEC, "size=100m,uid=1000".to_owned())
        );
        assert_eq!(parse("bind,ro").0, MsFlags::MS_BIND | MsFlags::MS_RDONLY);
        assert_eq!(parse(""), (MsFlags::empty(), String::new()));
    }
}
