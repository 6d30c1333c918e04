//! Which of a session's links is this browser's own right to it. The server does not tell, and a browser that revokes it locks
//! itself out. Called by the share dialog, which only owners see.

use drydock_protocol::{api::Link, state::Role};

/// What is known of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This browser is here by it.
    Own,
    /// Perhaps it is here by this one.
    PerhapsOwn,
    /// Others'.
    Others,
}

/// Whose right a link is. `made_here`: this browser made the session, and so holds the first link, with which it was made. Else it
/// holds one of those that let people do everything; if there is but one, that.
pub fn whose(link: &Link, all: &[Link], made_here: bool, now: u64) -> Whose {
    let owns = |l: &&Link| l.role == Role::Own && !l.revoked && l.expires_at > now;
    if !owns(&link) {
        return Whose::Others;
    }
    let first = all.iter().map(|l| l.id).min() == Some(link.id);
    match (all.iter().filter(owns).count(), made_here) {
        (1, _) => Whose::Own,
        (_, true) if first => Whose::Own,
        (_, true) => Whose::Others,
        (_, false) => Whose::PerhapsOwn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u64, role: Role) -> Link {
        Link { id, role, expires_at: 100, revoked: false, url: None, qr_svg: None }
    }

    #[test]
    fn an_owner_is_not_locked_out() {
        let mut all = vec![link(7, Role::Own), link(8, Role::Type)];
        assert_eq!(whose(&all[0], &all, false, 5), Whose::Own);
        assert_eq!(whose(&all[1], &all, false, 5), Whose::Others);
        all.push(link(9, Role::Own));
        assert_eq!([0, 2].map(|i| whose(&all[i], &all, true, 5)), [Whose::Own, Whose::Others]);
        assert_eq!([0, 2].map(|i| whose(&all[i], &all, false, 5)), [Whose::PerhapsOwn; 2]);
        // One that is over is nobody's.
        all[0].revoked = true;
        assert_eq!([0, 2].map(|i| whose(&all[i], &all, false, 5)), [Whose::Others, Whose::Own]);
    }
}
