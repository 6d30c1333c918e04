//! Containers that were removed a moment ago, for clients that hear of an end by its event and then ask about the container. dockerd takes
//! long enough over a removal to answer them; a client that learns nothing may give up (Compose 2.40 panics, docker/compose#13559).
//! Only the process that listens to the events gets an answer: for everybody else what is removed is gone.

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
    gone: Mutex<VecDeque<(Instant, Arc<Container>)>>,
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

    fn gone(&self) -> MutexGuard<'_, VecDeque<(Instant, Arc<Container>)>> {
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
        gone.retain(|(when, _)| when.elapsed() < REMEMBERED);
        if self.listening().is_empty() {
            return;
        }
        if gone.len() == MOST {
            gone.pop_front();
        }
        gone.push_back((Instant::now(), container));
    }

    /// What a process may still be told, by whole id.
    pub fn get(&self, id: &str, peer: i32) -> Option<Arc<Container>> {
        if !self.listening().contains_key(&peer) {
            return None;
        }
        let gone = self.gone();
        let mut known =
            gone.iter().filter(|(when, container)| container.id == id && when.elapsed() < REMEMBERED);
        known.next().map(|(_, container)| container.clone())
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
        for n in 0..MOST {
            departed.add(container(&n.to_string()));
        }
        assert!(departed.get("a", 7).is_none() && departed.get("0", 7).is_some());
        drop(listening);
        assert!(departed.get("0", 7).is_none());
    }
}
