//! Whether something that was away is there again.

/// What is known of the connection and of a node.
#[derive(Debug, Default)]
pub struct Back {
    up: bool,
    on: bool,
}

impl Back {
    /// Notes how things are now: whether the connection is up, and whether the node is on as far as anybody knows. Answers whether one of
    /// them has come back, so that what failed can be tried again.
    pub fn note(&mut self, up: bool, on: bool) -> bool {
        let before = std::mem::replace(self, Self { up, on });
        up && (!before.up || on && !before.on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_nodes_come_back() {
        let mut back = Back::default();
        assert!(back.note(true, false), "the connection");
        assert!(back.note(true, true), "the node");
        assert!(!back.note(true, true), "something else has changed");
        assert!(!back.note(false, true), "the connection is lost");
        assert!(back.note(true, true), "and is back");
        assert!(!back.note(true, false), "the node is off");
        assert!(back.note(true, true), "and on");
        assert!(!back.note(false, false) && back.note(true, true), "both");
    }
}
