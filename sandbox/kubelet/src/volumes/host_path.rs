//! Volumes that are a place of the node (`pkg/volume/hostpath/host_path.go`).

use std::{
    fs::{self, FileType},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Checks that what is there is of the wanted type, and makes it where the type says so.
pub fn check(path: &str, kind: &str) -> Result<PathBuf, String> {
    let place = PathBuf::from(path);
    if !place.is_absolute() || path.split('/').any(|part| part == "..") {
        return Err(format!("hostPath type check failed: {path} must be an absolute path without '..'"));
    }
    let failed = |e: std::io::Error| format!("hostPath type check failed: {path}: {e}");
    match kind {
        "DirectoryOrCreate" if !place.exists() => fs::create_dir_all(&place).map_err(failed)?,
        "FileOrCreate" if !place.exists() => {
            let made =
                fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&place);
            made.map_err(failed)?;
        }
        _ => {}
    }
    let is = |wanted: fn(&FileType) -> bool, what: &str| {
        let found = fs::metadata(&place).ok().map(|m| m.file_type());
        if found.as_ref().is_some_and(wanted) {
            Ok(())
        } else {
            Err(format!("hostPath type check failed: {path} is not {what}"))
        }
    };
    match kind {
        "Directory" | "DirectoryOrCreate" => is(FileType::is_dir, "a directory")?,
        "File" | "FileOrCreate" => is(FileType::is_file, "a file")?,
        "Socket" => is(FileType::is_socket, "a socket file")?,
        "CharDevice" => is(FileType::is_char_device, "a character device")?,
        "BlockDevice" => is(FileType::is_block_device, "a block device")?,
        // As the engine has it for `-v`: made if it is missing.
        _ => {
            if !Path::new(path).exists() {
                fs::create_dir_all(&place).map_err(failed)?;
            }
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_some_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let said = check(&path("no"), "Directory").unwrap_err();
        assert_eq!(said, format!("hostPath type check failed: {} is not a directory", path("no")));
        check(&path("d"), "DirectoryOrCreate").unwrap();
        check(&path("f"), "FileOrCreate").unwrap();
        assert!(check(&path("f"), "Directory").is_err() && check(&path("d"), "File").is_err());
        assert!(check(&path("f"), "Socket").is_err());
        check(&path("f"), "File").unwrap();
        assert!(check("relative", "").is_err() && check("/a/../b", "").is_err());
    }
}
