//! The state directory: makes it, and refuses one that is something else. Called by `serve` as root; the rest of the layout is
//! made by the warden (`drydock_warden::Place`).

use anyhow::{Context, ensure};
use std::{
    fs::{self, DirBuilder, Metadata, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// File that says what the directory is.
const MARK: &str = ".drydock";
const MARK_TEXT: &str = "This is the state directory of a Drydock server (drydock serve --state-dir).\n";
/// What may be there before the first start: what `drydock image` makes, each store with its locks beside it, and what a file system of
/// its own has.
const BEFORE: [&str; 8] = [
    "images",
    ".images.lock",
    ".images.in-use",
    "catalogue",
    ".catalogue.lock",
    ".catalogue.in-use",
    "lost+found",
    MARK,
];
/// Everybody passes through: sockets below it are for the server's own user and for sessions. Nobody lists it.
const MODE: u32 = 0o711;

/// Makes the directory and its log, and tells its absolute path. Changes nothing in a directory that is not a server's.
pub fn make(path: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot make {}", path.display());
    check_way(path)?;
    match fs::metadata(path) {
        Ok(meta) => check(path, &meta)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(cannot)?;
            }
            fs::create_dir(path).with_context(cannot)?;
            fs::set_permissions(path, Permissions::from_mode(MODE)).with_context(cannot)?;
        }
        Err(e) => return Err(e).context(format!("--state-dir {}", path.display())),
    }
    let path = path.canonicalize().with_context(cannot)?;
    let mark = path.join(MARK);
    if !mark.exists() {
        fs::write(&mark, MARK_TEXT).with_context(|| format!("cannot write {}", mark.display()))?;
    }
    let log = path.join("log");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&log);
    made.with_context(|| format!("cannot make {}", log.display()))?;
    Ok(path)
}

/// The server's own user must get to it: every directory above that is there lets everybody pass.
fn check_way(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    let path = std::path::absolute(path).with_context(|| format!("--state-dir {name}"))?;
    let Some(above) = path.ancestors().skip(1).find_map(|dir| dir.canonicalize().ok()) else { return Ok(()) };
    for dir in above.ancestors() {
        let mode = fs::metadata(dir).with_context(|| format!("--state-dir {name}"))?.mode() & 0o7777;
        ensure!(
            mode & 0o001 == 0o001,
            "--state-dir {name} lies below {}, where only its owner gets in (mode {mode:o}), not the server's own user: choose another \
             place, as /var/lib/drydock is",
            dir.display()
        );
    }
    Ok(())
}

/// A directory that is there must be a server's, or be empty and become one.
fn check(path: &Path, meta: &Metadata) -> anyhow::Result<()> {
    let name = path.display();
    ensure!(meta.is_dir(), "--state-dir {name} is no directory");
    ensure!(
        meta.uid() == 0,
        "--state-dir {name} belongs to user {}, not to root: choose another",
        meta.uid()
    );
    let (mode, of_root) = (meta.mode() & 0o7777, meta.gid() == 0);
    ensure!(
        mode & 0o002 == 0 && (mode & 0o020 == 0 || of_root),
        "others may write to --state-dir {name} (mode {mode:o}): choose another, or take that from them with chmod go-w"
    );
    let names = fs::read_dir(path)
        .and_then(|list| list.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("--state-dir {name}"))?;
    // Servers of earlier versions set no mark.
    let earlier = || path.join("run/warden.lock").is_file() && path.join("web").is_dir();
    let known = |name: &std::ffi::OsString| BEFORE.iter().any(|before| name == before);
    ensure!(
        names.iter().any(|name| name == MARK) || earlier() || names.iter().all(known),
        "--state-dir {name} has other things in it than a Drydock server's: choose an empty or a new directory"
    );
    if mode & 0o001 == 0 {
        // The server's own user must pass through.
        fs::set_permissions(path, Permissions::from_mode(mode | 0o011))
            .with_context(|| format!("chmod {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    /// A directory with this mode and these entries; with a `/` at its end one is a directory.
    fn directory(mode: u32, names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
            if !name.ends_with('/') {
                fs::write(&path, "").unwrap();
            }
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn a_directory_of_something_else_is_left_as_it_is() {
        for (at, names) in
            [(0o755, &["run/", "web/", "etc/"][..]), (0o700, &["notes"]), (0o755, &["run/", "images/"])]
        {
            let dir = directory(at, names);
            let error = make(dir.path()).unwrap_err().to_string();
            assert!(error.contains("other things"), "{error}");
            assert_eq!((mode(dir.path()), fs::read_dir(dir.path()).unwrap().count()), (at, names.len()));
        }
        for at in [0o1777, 0o757] {
            let dir = directory(at, &[]);
            let error = make(dir.path()).unwrap_err().to_string();
            assert!(error.contains("others may write"), "{error}");
            assert_eq!((mode(dir.path()), fs::read_dir(dir.path()).unwrap().count()), (at, 0));
        }
        let dir = directory(0o755, &[]);
        std::os::unix::fs::chown(dir.path(), Some(1000), None).unwrap();
        assert!(make(dir.path()).unwrap_err().to_string().contains("user 1000"));
        let dir = directory(0o755, &["file"]);
        assert!(make(&dir.path().join("file")).is_err() && make(&dir.path().join("file/below")).is_err());
    }

    #[test]
    fn images_may_be_prepared_before_the_first_start() {
        let dir = directory(0o700, &[]);
        for name in ["images", "catalogue"] {
            drydock_images::Store::open(dir.path().join(name)).unwrap();
        }
        make(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o711);
    }

    #[test]
    fn a_servers_directory_is_taken_up_and_its_mode_kept() {
        let earlier = ["run/warden.lock", "web/", "disk/", "programs/"];
        for (at, names, then) in [
            (0o755, &earlier[..], 0o755),
            (0o711, &earlier, 0o711),
            (0o750, &["images/", "catalogue/"], 0o751 | 0o010),
            (0o755, &["lost+found/"], 0o755),
            (0o700, &[], 0o711),
        ] {
            let dir = directory(at, names);
            for _again in 0..2 {
                assert_eq!(make(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
                assert_eq!(mode(dir.path()), then);
            }
            assert_eq!(mode(&dir.path().join("log")), 0o700);
            // With more in it, it is still a server's.
            fs::write(dir.path().join("anything"), "").unwrap();
            make(dir.path()).unwrap();
        }
        let dir = directory(0o755, &[]);
        let made = make(&dir.path().join("a/b")).unwrap();
        assert_eq!((mode(&made), mode(&dir.path().join("a"))), (0o711, 0o755));
    }

    #[test]
    fn the_servers_own_user_must_get_to_it() {
        let dir = directory(0o700, &["there/"]);
        for below in ["there", "new/state"] {
            let error = make(&dir.path().join(below)).unwrap_err().to_string();
            assert!(error.contains("only its owner gets in (mode 700)"), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        make(&dir.path().join("there")).unwrap();
    }
}
