//! A node's containers in words and figures. Called by the Docker dock and the node cards.

use drydock_protocol::docker::{Container, Docker};

/// How a container's state looks: the value of `data-look` in the style sheet.
pub fn look(container: &Container) -> &'static str {
    match (container.state.as_str(), container.health.as_deref()) {
        ("running", Some("unhealthy")) | ("dead", _) => "bad",
        ("running", Some("starting")) | ("paused" | "restarting" | "removing", _) => "busy",
        ("running", _) => "good",
        _ if container.exit_code.is_some_and(|code| code != 0) => "bad",
        _ => "idle",
    }
}

/// Its state in words: `running, healthy`, `exited (137)`.
pub fn state(container: &Container) -> String {
    match (&container.health, container.exit_code) {
        (Some(health), _) => [&container.state, ", ", health].concat(),
        (_, Some(code)) => format!("{} ({code})", container.state),
        _ => container.state.clone(),
    }
}

/// How many containers run.
pub fn running(docker: &Docker) -> usize {
    docker.containers.iter().filter(|c| c.state == "running").count()
}

/// The number that stands for an id in a list of the page: its first 32 bits, which no two things of a node share.
pub fn number(id: &str) -> u32 {
    id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: &str, health: Option<&str>, exit_code: Option<i32>) -> Container {
        Container {
            id: "0123456789ab".into(),
            name: "web".into(),
            image: "nginx".into(),
            state: state.into(),
            health: health.map(Into::into),
            exit_code,
            ports: vec![],
        }
    }

    #[test]
    fn states_in_words_and_looks() {
        for (container, words, looks) in [
            (container("created", None, None), "created", "idle"),
            (container("running", None, None), "running", "good"),
            (container("running", Some("starting"), None), "running, starting", "busy"),
            (container("running", Some("healthy"), None), "running, healthy", "good"),
            (container("running", Some("unhealthy"), None), "running, unhealthy", "bad"),
            (container("paused", Some("healthy"), None), "paused, healthy", "busy"),
            (container("restarting", None, Some(1)), "restarting (1)", "busy"),
            (container("exited", None, Some(0)), "exited (0)", "idle"),
            (container("exited", None, Some(137)), "exited (137)", "bad"),
        ] {
            assert_eq!((state(&container).as_str(), look(&container)), (words, looks));
        }
    }

    #[test]
    fn figures() {
        let containers = vec![container("running", None, None), container("exited", None, Some(0))];
        let docker = Docker { containers, ..Docker::default() };
        assert_eq!(running(&docker), 1);
        assert_eq!([number("0123456789ab"), number("fffffffff"), number("x")], [0x0123_4567, u32::MAX, 0]);
    }
}
