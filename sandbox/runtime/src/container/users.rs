//! Who a container's process runs as: `docker run --user` looked up in the container's own `/etc/passwd` and `/etc/group`, as
//! github.com/moby/sys/user does, with its words. The files are the image's: read bounded, never waited for.

use rustix::fs::{Mode, OFlags, open};
use std::io::Read;

/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Largest id that a session has.
const MAX_ID: u32 = 65_535;

/// Ids of a process and its home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, with [`Self::gid`].
    pub groups: Vec<u32>,
    /// From `/etc/passwd`, or `/`.
    pub home: String,
}

/// Looks a user up in the root directory that the process has now.
pub fn find(user: &str, groups: &[String]) -> Result<User, String> {
    resolve(user, groups, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Most are read at once.
    let mut bytes = Vec::with_capacity(4096);
    if let Ok(fd) = open(path, flags, Mode::empty())
        && rustix::fs::fstat(&fd).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file())
    {
        let _what_there_is = std::fs::File::from(fd).take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same with the text of these files.
pub fn resolve(user: &str, more: &[String], passwd: &str, group: &str) -> Result<User, String> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = number(name)?;
    let entry = passwd.lines().map(fields).find(|f| {
        let uid = f.get(2).and_then(|v| v.parse::<u32>().ok());
        f.len() >= 6 && (f[0] == name || (number.is_some() && uid == number))
    });
    let (uid, mut gid, home, login) = match (&entry, number) {
        (Some(f), _) => {
            let id = |i: usize| f[i].parse().map_err(|_| format!("invalid entry for {name} in passwd file"));
            (id(2)?, id(3)?, f[5].to_owned(), f[0].to_owned())
        }
        (None, Some(uid)) => (uid, 0, "/".to_owned(), String::new()),
        (None, None) => {
            return Err(format!("unable to find user {name}: no matching entries in passwd file"));
        }
    };
    let mut groups = Vec::new();
    match wanted_group {
        Some(wanted) => gid = find_group(wanted, group)?,
        None if !login.is_empty() => {
            let member = |f: &Vec<&str>| f.len() >= 4 && f[3].split(',').any(|m| m == login);
            groups.extend(group.lines().map(fields).filter(member).filter_map(|f| f[2].parse::<u32>().ok()));
        }
        None => {}
    }
    for wanted in more {
        groups.push(find_group(wanted, group)?);
    }
    groups.insert(0, gid);
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|g| *g <= MAX_ID && seen.insert(*g));
    if uid > MAX_ID || gid > MAX_ID {
        return Err(format!("uids and gids must be in range 0-{MAX_ID}"));
    }
    let home = if home.is_empty() { "/".into() } else { home };
    Ok(User { uid, gid, groups, home })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, String> {
    let number = number(wanted)?;
    let entry = group.lines().map(fields).find(|f| f.len() >= 3 && f[0] == wanted);
    match (entry.and_then(|f| f[2].parse().ok()), number) {
        (Some(gid), _) | (None, Some(gid)) => Ok(gid),
        (None, None) => Err(format!("unable to find group {wanted}: no matching entries in group file")),
    }
}

fn number(text: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(format!("uids and gids must be in range 0-{MAX_ID}")),
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.trim().split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102:nginx:/nonexistent:/bin/false\n\nbroken\n";
    const GROUP: &str = "root:x:0:\nnginx:x:102:\nweb:x:200:nginx,root\nadm:x:4:\n";

    fn find(user: &str, more: &[&str]) -> Result<User, String> {
        resolve(user, &more.iter().map(ToString::to_string).collect::<Vec<_>>(), PASSWD, GROUP)
    }

    #[test]
    fn users_by_name_and_number() {
        let nginx = User { uid: 101, gid: 102, groups: vec![102, 200], home: "/nonexistent".into() };
        assert_eq!(find("nginx", &[]).unwrap(), nginx);
        assert_eq!(find("101", &[]).unwrap(), nginx);
        assert_eq!(find("", &[]).unwrap().groups, [0, 200]);
        assert_eq!(find("1000", &[]).unwrap(), User { uid: 1000, gid: 0, groups: vec![0], home: "/".into() });
        let both = find("nginx:adm", &["web", "77"]).unwrap();
        assert_eq!((both.gid, both.groups), (4, vec![4, 200, 77]));
    }

    #[test]
    fn refusals_are_dockers() {
        assert_eq!(
            find("joe", &[]).unwrap_err(),
            "unable to find user joe: no matching entries in passwd file"
        );
        assert_eq!(
            find("root:joe", &[]).unwrap_err(),
            "unable to find group joe: no matching entries in group file"
        );
        for beyond in ["70000", "-1"] {
            assert!(find(beyond, &[]).unwrap_err().contains("uids and gids must be in range"));
        }
    }
}
