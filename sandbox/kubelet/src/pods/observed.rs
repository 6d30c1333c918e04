//! What there is of a pod in the engine: its sandboxes and containers, newest first. Read anew for every sync, so the kubelet may die
//! at any moment and misses nothing.

use super::{labels, pod};
use crate::docker::{Container, Docker, DockerError};
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerUser, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::collections::BTreeMap;

/// Longest last word of a container (`MaxContainerTerminationMessageLength`).
const MAX_MESSAGE: usize = 4096;
/// Longest part of its log that counts as one (`MaxContainerTerminationMessageLogLength`).
const MAX_LOG_MESSAGE: usize = 2048;

/// See the top of the file.
#[derive(Debug, Default, Clone)]
pub struct Observed {
    /// First containers, newest first.
    pub sandboxes: Vec<Container>,
    /// The others by name, newest first.
    pub containers: BTreeMap<String, Vec<Container>>,
}

impl Observed {
    /// Asks the engine.
    pub async fn of(docker: &Docker, uid: &str) -> Result<Self, DockerError> {
        let mut observed = Self::default();
        for listed in docker.list(&format!("{}={uid}", labels::POD_UID)).await? {
            let details = match docker.inspect(&listed.id).await {
                Ok(details) => details,
                // Removed meanwhile.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            match listed.labels.get(labels::TYPE).map(String::as_str) {
                Some(labels::SANDBOX) => observed.sandboxes.push(details),
                _ => {
                    let name = listed.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
                    observed.containers.entry(name).or_default().push(details);
                }
            }
        }
        observed.sandboxes.sort_by(|a, b| b.created.cmp(&a.created));
        for list in observed.containers.values_mut() {
            list.sort_by_key(|c| std::cmp::Reverse(restart_count(c)));
        }
        Ok(observed)
    }

    /// The sandbox that runs.
    pub fn sandbox(&self) -> Option<&Container> {
        self.sandboxes.first().filter(|s| s.state.running)
    }

    /// The newest container of this name.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.get(name)?.first()
    }

    /// Containers that run, whatever they are called.
    pub fn running(&self) -> impl Iterator<Item = (&str, &Container)> {
        let newest =
            self.containers.iter().flat_map(|(name, list)| list.iter().map(move |c| (name.as_str(), c)));
        newest.filter(|(_, c)| c.state.running)
    }
}

fn label<'a>(container: &'a Container, key: &str) -> &'a str {
    container.config.labels.get(key).map_or("", String::as_str)
}

/// How often it was started before.
pub fn restart_count(container: &Container) -> u32 {
    label(container, labels::RESTART_COUNT).parse().unwrap_or(0)
}

/// Whom its first process was made to run as.
pub fn user(container: &Container) -> Option<ContainerUser> {
    let linux = serde_json::from_str(label(container, labels::IDENTITY)).ok()?;
    Some(ContainerUser { linux: Some(linux) })
}

/// Digest of the specification that it was made from.
pub fn hash(container: &Container) -> &str {
    label(container, labels::HASH)
}

/// It was started, or could not be: it does not wait for its start any more.
pub fn has_ended(container: &Container) -> bool {
    !container.state.running && (container.state.status != "created" || container.state.exit_code != 0)
}

/// As the API shows it; none if it waits for its start.
pub fn state(container: &Container, message: Option<String>) -> Option<ContainerState> {
    let state = &container.state;
    let time = |text: &str| pod::time(text).map(Time);
    if state.running {
        let running = ContainerStateRunning { started_at: time(&state.started_at) };
        return Some(ContainerState { running: Some(running), ..ContainerState::default() });
    }
    if !has_ended(container) {
        return None;
    }
    // One that could not be started has no times of its own (dockershim, `ContainerStatus`).
    let never = time(&state.finished_at).is_none();
    let reason = if never {
        "ContainerCannotRun"
    } else if state.oom_killed {
        "OOMKilled"
    } else if state.exit_code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let made = time(&container.created);
    let terminated = ContainerStateTerminated {
        container_id: Some(id(container)),
        exit_code: state.exit_code,
        reason: Some(reason.into()),
        message: message
            .filter(|word| !word.is_empty())
            .or_else(|| never.then(|| state.error.clone()).filter(|error| !error.is_empty())),
        started_at: time(&state.started_at).or_else(|| made.clone()),
        finished_at: time(&state.finished_at).or(made),
        signal: None,
    };
    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}

/// `docker://ID`.
pub fn id(container: &Container) -> String {
    format!("docker://{}", container.id)
}

/// A container's last word: what it wrote to its file, or the end of its log if that says so.
pub async fn last_word(docker: &Docker, pod: &Pod, container: &Container) -> Option<String> {
    if !has_ended(container) {
        return None;
    }
    let name = label(container, labels::CONTAINER_NAME);
    let path = crate::paths::termination_log(pod::uid(pod), name, restart_count(container));
    if let Ok(text) = std::fs::read(&path)
        && !text.is_empty()
    {
        let text = &text[..text.len().min(MAX_MESSAGE)];
        return Some(String::from_utf8_lossy(text).into_owned());
    }
    let fallback = label(container, labels::TERMINATION_POLICY) == "FallbackToLogsOnError";
    if !fallback || container.state.exit_code == 0 {
        return None;
    }
    let text = crate::logs::tail(docker, container, 80).await?;
    let start = text.len().saturating_sub(MAX_LOG_MESSAGE);
    Some(String::from_utf8_lossy(&text[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, oom: bool) -> Container {
        let mut container = Container { id: "abc".into(), ..Container::default() };
        container.state.status = "exited".into();
        container.state.exit_code = code;
        container.state.oom_killed = oom;
        container.state.started_at = "2026-11-28T06:00:00Z".into();
        container.state.finished_at = "2026-11-28T06:00:01Z".into();
        container
    }

    fn reason(container: &Container) -> String {
        state(container, None).unwrap().terminated.unwrap().reason.unwrap()
    }

    #[test]
    fn reasons_are_those_of_the_kubelet() {
        assert_eq!(reason(&ended(0, false)), "Completed");
        assert_eq!(reason(&ended(1, false)), "Error");
        assert_eq!(reason(&ended(137, true)), "OOMKilled");
        let mut never = ended(127, false);
        never.state.status = "created".into();
        never.state.finished_at = "0001-01-01T00:00:00Z".into();
        never.state.error = "no such file".into();
        assert_eq!(reason(&never), "ContainerCannotRun");
        // It has left no last word; the engine says why.
        let told = state(&never, Some(String::new())).unwrap().terminated.unwrap();
        assert_eq!(told.message.as_deref(), Some("no such file"));
        never.state.exit_code = 0;
        assert!(state(&never, None).is_none());
    }
}
