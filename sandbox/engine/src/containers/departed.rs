//! Containers that were removed a moment ago, for clients that hear of an end by its event and then ask about the container. dockerd takes
//! long enough over a removal to answer them; a client that learns nothing may give up (Compose 2.40 panics, docker/compose#13559).
//! Only a process that listens to events gets an answer, and not of what it has removed itself: for everybody else what is removed is
//! gone.

use super::Container;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many are remembered, and for how long.
const MOST: usize = 16;
const REMEMBERED: Duration = Duration::from_secs(10);

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Departed {
    /// Processes and how many streams of events each of them reads.
    listening: Mutex<HashMap<i32, usize>>,
    gone: Mutex<VecDeque<Gone>>,
}

#[derive(Debug)]
struct Gone {
    when: Instant,
    container: Arc<Container>,
    /// The process that asked for it, if one did.
    removed_by: Option<i32>,
}

impl Gone {
    fn is_remembered(&self) -> bool {
        self.when.elapsed() < REMEMBERED
    }
}

/// A process reads events, until this is dropped.
#[derive(Debug)]
pub struct Listening {
    departed: Arc<Departed>,
    peer: i32,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listening = self.departed.listening();
        if let Some(count) = listening.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                listening.remove(&self.peer);
            }
        }
    }
}

impl Departed {
    fn listening(&self) -> MutexGuard<'_, HashMap<i32, usize>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<Gone>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a process reads events.
    pub fn listen(self: &Arc<Self>, peer: i32) -> Listening {
        *self.listening().entry(peer).or_default() += 1;
        Listening { departed: self.clone(), peer }
    }

    /// Remembers a container that is being removed, if anybody may ask.
    pub fn add(&self, container: Arc<Container>) {
        let mut gone = self.gone();
        gone.retain(Gone::is_remembered);
        if self.listening().is_empty() {
            return;
        }
        if gone.len() == MOST {
            gone.pop_front();
        }
        gone.push_back(Gone { when: Instant::now(), container, removed_by: None });
    }

    /// Notes that a process is told of the removal for which it has asked.
    pub fn told(&self, id: &str, peer: i32) {
        if let Some(gone) = self.gone().iter_mut().find(|gone| gone.container.id == id) {
            gone.removed_by = Some(peer);
        }
    }

    /// What a process may still be told, by whole id. Of one that can't be told from others nothing is known.
    pub fn get(&self, id: &str, peer: i32) -> Option<Arc<Container>> {
        if peer == 0 || !self.listening().contains_key(&peer) {
            return None;
        }
        let gone = self.gone();
        let mut known = gone.iter().filter(|gone| gone.container.id == id && gone.is_remembered());
        known.next().filter(|gone| gone.removed_by != Some(peer)).map(|gone| gone.container.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Record;

    #[test]
    fn who_listens_to_events_is_told_of_what_is_gone() {
        let departed = Arc::new(Departed::default());
        let container = |id: &str| {
            let record = Record { id: id.into(), ..Record::default() };
            Arc::new(Container::new(record, std::path::Path::new("/nowhere")))
        };
        departed.add(container("before"));
        let listening = departed.listen(7);
        departed.add(container("a"));
        assert_eq!(departed.get("a", 7).map(|c| c.id.clone()), Some("a".into()));
        assert!(departed.get("a", 8).is_none() && departed.get("before", 7).is_none());
        let _nameless = departed.listen(0);
        assert!(departed.get("a", 0).is_none());
        departed.told("a", 9);
        assert!(departed.get("a", 7).is_some());
        departed.told("a", 7);
        assert!(departed.get("a", 7).is_none(), "it has removed that itself");
        for n in 0..MOST {
            departed.add(container(&n.to_string()));
        }
        assert!(departed.get("a", 7).is_none() && departed.get("0", 7).is_some());
        drop(listening);
        assert!(departed.get("0", 7).is_none());
    }
}
