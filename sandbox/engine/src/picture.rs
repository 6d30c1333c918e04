//! What the page shows of this engine: containers, images, and the work that takes a while. A picture goes to the session
//! process whenever something has changed, whole, at most ten times a second. Nothing here ever holds up the engine: a
//! picture that the session process has no time for is left out, and without a session process there are none.

use crate::containers::Container;
use crate::containers::record::Phase;
use crate::engine::Engine;
use crate::filters::Filters;
use crate::images;
use drydock_network::Protocol;
use drydock_protocol::docker::{self, Activity, Docker, MAX_SHOWN};
use drydock_runtime::channel::Channel;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Least time between two pictures.
const GAP: Duration = Duration::from_millis(100);
/// After so long without a change another look is taken: an event may be told a moment before all of it is true.
const SETTLED: Duration = Duration::from_secs(1);
/// Most bytes of a text. With the next two, the largest picture fits into one message.
const MAX_TEXT: usize = 128;
/// Most names of one image.
const MAX_NAMES: usize = 4;
/// Most ports of one container.
const MAX_PORTS: usize = 16;
/// What a finished layer counts.
const WHOLE: u64 = 1000;
/// The part of it that is done when its bytes are here and wait to be unpacked.
const FETCHED: u64 = 700;

/// Sends pictures until the session process is gone.
pub async fn send(engine: Arc<Engine>, pictures: Channel) {
    let pictures = pictures.into_fd();
    let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    if let Err(error) = nix::fcntl::fcntl(&pictures, flags) {
        tracing::warn!(%error, "no pictures of this engine");
        return;
    }
    let pictures = Channel::from(pictures);
    let (mut told, mut settled) = (None, false);
    loop {
        let looked = engine.clone();
        let Ok(picture) = tokio::task::spawn_blocking(move || look(&looked)).await else { return };
        let mut patience = SETTLED;
        if told.as_ref() != Some(&picture) {
            settled = false;
            match pictures.send(&picture, &[]) {
                Ok(()) => told = Some(picture),
                Err(error) if error.kind() == ErrorKind::WouldBlock => patience = GAP,
                Err(error) if error.kind() == ErrorKind::InvalidData => tracing::warn!(%error, "no picture"),
                Err(_) => return,
            }
        }
        tokio::time::sleep(GAP).await;
        if settled {
            changed(&engine).await;
            settled = false;
        } else {
            settled = tokio::time::timeout(patience, changed(&engine)).await.is_err() && patience == SETTLED;
        }
    }
}

async fn changed(engine: &Engine) {
    tokio::select! {
        () = engine.events.changed.notified() => {}
        () = engine.activities.0.changed.notified() => {}
    }
}

/// The picture of this moment.
fn look(engine: &Engine) -> Docker {
    let mut containers = engine.containers.all();
    containers.retain(|container| !container.record().step);
    let images = images::select(&engine.images, &Filters::default(), false).unwrap_or_default();
    let image = |image: &drydock_images::local::Image| docker::Image {
        id: image.id.hex().chars().take(12).collect(),
        names: image.repo_tags.iter().take(MAX_NAMES).map(|name| cut(name)).collect(),
        size: image.size,
    };
    Docker {
        container_count: count(containers.len()),
        containers: containers.iter().rev().take(MAX_SHOWN).map(|c| container(c)).collect(),
        image_count: count(images.len()),
        images: images.iter().take(MAX_SHOWN).map(image).collect(),
        activities: engine.activities.0.all().values().take(MAX_SHOWN).cloned().collect(),
    }
}

fn container(container: &Container) -> docker::Container {
    let record = container.record();
    let state = &record.state;
    let has_ended = record.has_been_started_before && !state.phase.alive();
    let health = state.health.as_ref().filter(|health| state.phase.alive() && health.status != "none");
    let tcp = record.published.iter().filter(|port| port.protocol == Protocol::Tcp);
    // A port is bound twice, for IPv4 and for IPv6.
    let ports: BTreeSet<u16> = tcp.filter(|_| state.phase.alive()).map(|port| port.host_port).collect();
    // One that was named by its id is shown as `docker ps` does.
    let image = &record.config.image;
    let image = image.strip_prefix("sha256:").and_then(|id| id.get(..12)).unwrap_or(image);
    docker::Container {
        id: record.short().to_owned(),
        name: cut(&record.name),
        image: cut(image),
        state: state.phase.name().to_owned(),
        health: health.map(|health| health.status.clone()),
        exit_code: (has_ended && state.phase != Phase::Created).then_some(state.exit_code),
        ports: ports.into_iter().take(MAX_PORTS).collect(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The text, or its beginning.
fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT - '…'.len_utf8());
    format!("{}…", &text[..end])
}

// === What takes a while

/// The pulls, pushes and builds under way.
#[derive(Debug, Clone, Default)]
pub struct Activities(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    running: Mutex<BTreeMap<u64, Activity>>,
    changed: Notify,
}

impl Registry {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Activity>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activities {
    /// Something has begun; it has ended when the last clone of what this returns is dropped.
    pub fn begin(&self, title: &str) -> Doing {
        let mut running = self.0.all();
        let number = running.last_key_value().map_or(0, |(last, _)| last + 1);
        let activity = Activity { title: cut(title), detail: String::new(), done: None, total: None };
        running.insert(number, activity);
        drop(running);
        self.0.changed.notify_one();
        Doing(Arc::new(Work { registry: self.0.clone(), number, layers: Mutex::default() }))
    }
}

/// Something under way.
#[derive(Debug, Clone)]
pub struct Doing(Arc<Work>);

#[derive(Debug)]
struct Work {
    registry: Arc<Registry>,
    number: u64,
    /// How far each layer of a pull or push is, of [`WHOLE`].
    layers: Mutex<BTreeMap<String, u64>>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.registry.all().remove(&self.number);
        self.registry.changed.notify_one();
    }
}

impl Doing {
    /// How far it is: in words, and as a part of the whole if that can be told.
    pub fn tell(&self, detail: &str, part: Option<(u64, u64)>) {
        let mut running = self.0.registry.all();
        let Some(activity) = running.get_mut(&self.0.number) else { return };
        activity.detail = cut(detail);
        (activity.done, activity.total) = part.unzip();
        drop(running);
        self.0.registry.changed.notify_one();
    }

    /// A step of a build begins, counted from 1.
    pub fn step(&self, number: u64, total: u64, command: &str) {
        let command = command.lines().next().unwrap_or_default();
        let words = format!("step {number}/{total}: {command}");
        self.tell(&words, Some((number.saturating_sub(1), total)));
    }

    /// Takes from a line that a client is told how far the work is.
    pub fn hear(&self, line: &Value) {
        if let Some(text) = line["stream"].as_str() {
            if let Some((number, total, command)) = step(text) {
                self.step(number, total, command);
            }
        } else if let (Some(id), Some(status)) = (line["id"].as_str(), line["status"].as_str()) {
            let mut layers = self.0.layers.lock().unwrap_or_else(PoisonError::into_inner);
            match layer(status, &line["progressDetail"]) {
                Some(done) => layers.insert(id.to_owned(), done),
                // What comes before the layers: how far an image is that the host makes first.
                None if layers.is_empty() => return self.tell(status, None),
                None => return,
            };
            let whole = layers.values().filter(|done| **done == WHOLE).count();
            let total = WHOLE * layers.len() as u64;
            let words = format!("{whole} of {} layers", layers.len());
            self.tell(&words, Some((layers.values().sum(), total)));
        }
    }
}

/// `Step 2/3 : RUN make` → 2, 3, `RUN make`.
fn step(text: &str) -> Option<(u64, u64, &str)> {
    let (numbers, command) = text.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, total) = numbers.split_once('/')?;
    Some((number.parse().ok()?, total.parse().ok()?, command))
}

/// How far a layer is by its line; `None` for lines that are about something else.
fn layer(status: &str, progress: &Value) -> Option<u64> {
    let part = |of: u64| {
        let (current, total) = (progress["current"].as_u64()?, progress["total"].as_u64()?);
        let part = u128::from(current.min(total)) * u128::from(of) / u128::from(total.max(1));
        u64::try_from(part).ok()
    };
    Some(match status {
        "Pulling fs layer" | "Waiting" | "Preparing" | "Retrying" => 0,
        "Downloading" => part(FETCHED).unwrap_or(0),
        "Verifying Checksum" | "Download complete" => FETCHED,
        "Extracting" => FETCHED + part(WHOLE - FETCHED).unwrap_or(0),
        "Pushing" => part(WHOLE).unwrap_or(0),
        "Pull complete" | "Already exists" | "Pushed" | "Layer already exists" => WHOLE,
        _ if status.starts_with("Mounted from ") => WHOLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(activities: &Activities) -> Vec<Activity> {
        activities.0.all().values().cloned().collect()
    }

    fn activity(title: &str, detail: &str, done: Option<u64>, total: Option<u64>) -> Activity {
        Activity { title: title.into(), detail: detail.into(), done, total }
    }

    #[test]
    fn a_pull_is_shown_from_its_lines_until_it_ends() {
        let activities = Activities::default();
        let pull = activities.begin("pull nginx:latest");
        assert_eq!(shown(&activities), [activity("pull nginx:latest", "", None, None)]);
        pull.hear(&json!({"status": "4 s  debian: extracting archives", "id": "nginx"}));
        let made = activity("pull nginx:latest", "4 s  debian: extracting archives", None, None);
        assert_eq!(shown(&activities), [made]);
        pull.hear(&json!({"status": "Pulling from library/nginx", "id": "latest"}));
        assert_eq!(shown(&activities)[0].total, None);
        for line in [
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "a"}),
            json!({"status": "Already exists", "progressDetail": {}, "id": "b"}),
            json!({"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "a"}),
        ] {
            pull.hear(&line);
        }
        let half = activity("pull nginx:latest", "1 of 2 layers", Some(1350), Some(2000));
        assert_eq!(shown(&activities), [half]);
        let (other, build) = (pull.clone(), activities.begin("build web"));
        drop(pull);
        assert_eq!(shown(&activities).len(), 2);
        drop((other, build));
        assert_eq!(shown(&activities), []);
    }

    #[test]
    fn a_build_is_shown_by_its_steps() {
        let activities = Activities::default();
        let build = activities.begin("build web");
        build.hear(&json!({"stream": "Step 2/3 : RUN make\n"}));
        build.hear(&json!({"stream": "output\n"}));
        let second = activity("build web", "step 2/3: RUN make", Some(1), Some(3));
        assert_eq!(shown(&activities), [second]);
    }

    #[test]
    fn progress_of_a_layer_never_goes_back_or_over() {
        let part = |status: &str, current: u64, total: u64| {
            layer(status, &json!({"current": current, "total": total})).unwrap()
        };
        let told = [
            part("Downloading", 1, 9),
            part("Downloading", 90, 9),
            part("Extracting", 1, 9),
            part("Extracting", 9, 9),
            part("Pull complete", 0, 0),
        ];
        assert!(told.is_sorted() && told[4] == WHOLE, "{told:?}");
        assert_eq!(part("Pushing", u64::MAX, u64::MAX), WHOLE);
        assert_eq!(layer("Digest: sha256:1", &Value::Null), None);
    }

    #[test]
    fn the_largest_picture_fits_into_a_message() {
        let text = cut(&"ä€".repeat(1000));
        assert!(text.len() <= MAX_TEXT && text.ends_with('…'));
        let container = docker::Container {
            id: "0".repeat(12),
            name: text.clone(),
            image: text.clone(),
            state: "restarting".into(),
            health: Some("unhealthy".into()),
            exit_code: Some(i32::MIN),
            ports: vec![u16::MAX; MAX_PORTS],
        };
        let image =
            docker::Image { id: "0".repeat(12), names: vec![text.clone(); MAX_NAMES], size: u64::MAX };
        let largest = Docker {
            containers: vec![container; MAX_SHOWN],
            container_count: u32::MAX,
            images: vec![image; MAX_SHOWN],
            image_count: u32::MAX,
            activities: vec![activity(&text, &text, Some(u64::MAX), Some(u64::MAX)); MAX_SHOWN],
        };
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&largest, &[]).unwrap();
        assert_eq!(theirs.recv::<Docker>().unwrap().map(|(picture, _)| picture), Some(largest));
    }
}
