//! Tokens of a file (`--token-auth-file`): lines of `token,user,uid,"group1,group2"`.

use super::User;
use std::collections::HashMap;

/// The file's lines.
#[derive(Debug, Default)]
pub struct StaticTokens(HashMap<String, User>);

impl StaticTokens {
    /// Reads the file's text; lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(line).collect())
    }

    /// Whose token it is.
    pub fn user(&self, token: &str) -> Option<User> {
        self.0.get(token).cloned()
    }
}

fn line(text: &str) -> Option<(String, User)> {
    let mut fields = text.trim().splitn(4, ',');
    let token = fields.next().filter(|token| !token.is_empty() && !token.starts_with('#'))?;
    let name = fields.next()?.to_string();
    let uid = fields.next().unwrap_or_default().to_string();
    let groups = fields.next().unwrap_or_default().trim_matches('"').split(',');
    let groups = groups.map(str::trim).filter(|group| !group.is_empty()).map(String::from).collect();
    Some((token.into(), User { name, uid, groups, ..User::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_users_and_groups() {
        let tokens = StaticTokens::parse("abc,alice,1,\"dev,system:masters\"\n\n# no\nxyz,bob,2\n");
        let alice = tokens.user("abc").expect("known");
        assert_eq!((alice.name.as_str(), alice.groups.len()), ("alice", 2));
        assert_eq!(tokens.user("xyz").expect("known").groups.len(), 0);
        assert!(tokens.user("# no").is_none());
    }
}
