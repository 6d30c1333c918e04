//! `--chown`: names are looked up in the image that is built, not here.

use super::tree::Tree;

/// `/etc/passwd` and `/etc/group` are read up to this size.
const MAX_DATABASE: u64 = 4 << 20;

/// User and group.
pub type Owner = (u32, u32);

/// The owner that `--chown` names: `user`, `user:group`, numbers or names.
///
/// # Errors
/// In the classic builder's words.
pub fn resolve_owner(tree: &Tree, text: &str) -> Result<Owner, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (user, group) = match parts.as_slice() {
        [both] => (*both, *both),
        [user, group] => (*user, *group),
        _ => return Err(format!("invalid chown string format: {text}")),
    };
    let uid = look_up(tree, user, "/etc/passwd", "user")
        .map_err(|e| format!("can't find uid for user {user}: {e}"))?;
    let gid = look_up(tree, group, "/etc/group", "group")
        .map_err(|e| format!("can't find gid for group {group}: {e}"))?;
    Ok((uid, gid))
}

fn look_up(tree: &Tree, name: &str, file: &str, what: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let content = tree.read(file, MAX_DATABASE).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!("open {file}: no such file or directory"),
        _ => format!("open {file}: {e}"),
    })?;
    let content = String::from_utf8_lossy(&content);
    let mut entries = content.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entries.find_map(|f| (f.first() == Some(&name)).then(|| f.get(2)?.parse().ok())?);
    found.ok_or_else(|| format!("no such {what}: {name}"))
}
