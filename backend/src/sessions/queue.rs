//! The line of newcomers before a full host. Plain data: the caller brings the time, random tickets and the free
//! places. A newcomer who has not asked for a minute has left; one who has not asked for some seconds keeps the place, but nobody waits
//! for them. Called by `sessions::create` under its lock.

use drydock_protocol::api::Queued;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A place is lost if not asked about for so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody waits for a newcomer who has not asked for so long: pages and the command line ask every two seconds. (A page that is not
/// looked at may ask once a minute only.)
const LATELY: Duration = Duration::from_secs(10);

/// What a newcomer wants, checked already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Name of the playground.
    pub playground: String,
    /// Number of nodes.
    pub nodes: u8,
    /// Life in seconds.
    pub ttl: u64,
    /// Address that it counts for; absent: the operator.
    pub client: Option<String>,
}

#[derive(Debug)]
struct Ticket {
    secret: String,
    want: Want,
    asked: Instant,
}

/// The line, first come first.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<Ticket>);

/// What became of a ticket that was asked about.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is its turn; the ticket is used up.
    Now(Want),
    /// It waits at this place (1: next).
    Wait(u32),
    /// There is no such ticket (any more).
    Lost,
}

impl Queue {
    /// How many have a place.
    pub fn len(&mut self, now: Instant) -> u32 {
        self.0.retain(|t| now.duration_since(t.asked) < PATIENCE);
        self.0.len() as u32
    }

    /// How many wait now: those who have asked lately.
    pub fn waiting(&mut self, now: Instant) -> u32 {
        let all = self.len(now) as usize;
        self.before(all, now)
    }

    fn before(&self, at: usize, now: Instant) -> u32 {
        self.0.iter().take(at).filter(|t| now.duration_since(t.asked) < LATELY).count() as u32
    }

    /// How many of them wait for one address.
    pub fn of_client(&self, client: &str) -> u32 {
        self.0.iter().filter(|t| t.want.client.as_deref() == Some(client)).count() as u32
    }

    /// Joins the end of the line; the place.
    pub fn join(&mut self, secret: String, want: Want, now: Instant) -> u32 {
        let place = self.waiting(now) + 1;
        self.0.push_back(Ticket { secret, want, asked: now });
        place
    }

    /// Gives a place up; tells whether there was one.
    pub fn leave(&mut self, secret: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|t| t.secret != secret);
        self.0.len() < before
    }

    /// Asks about a ticket when `free` sessions would fit.
    pub fn ask(&mut self, secret: &str, free: u32, now: Instant) -> Turn {
        self.len(now);
        let Some(at) = self.0.iter().position(|t| t.secret == secret) else { return Turn::Lost };
        let ahead = self.before(at, now);
        if ahead < free
            && let Some(ticket) = self.0.remove(at)
        {
            return Turn::Now(ticket.want);
        }
        if let Some(ticket) = self.0.get_mut(at) {
            ticket.asked = now;
        }
        Turn::Wait(ahead + 1)
    }
}

/// Seconds until a place's turn comes, if sessions live to their end: the `place`-th session to end makes room.
/// `remaining` are the lives left, 0 for each place that is free now; beyond them whole default lives are added.
pub fn estimate(place: u32, remaining: &mut [u64], default_ttl: u64) -> u64 {
    remaining.sort_unstable();
    let n = remaining.len().max(1) as u64;
    let ahead = u64::from(place.saturating_sub(1));
    let rounds = ahead / n;
    let first = remaining.get((ahead % n) as usize).copied().unwrap_or(default_ttl);
    first.saturating_add(rounds.saturating_mul(default_ttl))
}

/// The answer for a waiting newcomer.
pub fn queued(ticket: String, place: u32, remaining: &mut [u64], default_ttl: u64) -> Queued {
    Queued { ticket, place, estimate_seconds: estimate(place, remaining, default_ttl) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(client: &str) -> Want {
        Want { playground: "linux".into(), nodes: 1, ttl: 60, client: Some(client.into()) }
    }

    #[test]
    fn first_come_first_served() {
        let t = Instant::now();
        let mut q = Queue::default();
        assert_eq!(q.join("a".into(), want("x"), t), 1);
        assert_eq!(q.join("b".into(), want("y"), t), 2);
        assert_eq!(q.ask("b", 1, t), Turn::Wait(2));
        assert_eq!(q.ask("a", 0, t), Turn::Wait(1));
        assert_eq!(q.ask("a", 1, t), Turn::Now(want("x")));
        assert_eq!(q.ask("a", 1, t), Turn::Lost);
        assert_eq!(q.ask("b", 1, t), Turn::Now(want("y")));
    }

    #[test]
    fn who_does_not_ask_loses_the_place() {
        let t = Instant::now();
        let mut q = Queue::default();
        q.join("a".into(), want("x"), t);
        q.join("b".into(), want("x"), t);
        assert_eq!(q.of_client("x"), 2);
        let later = t + Duration::from_secs(59);
        assert_eq!(q.ask("b", 0, later), Turn::Wait(1));
        let latest = t + Duration::from_secs(61);
        assert_eq!(q.ask("b", 0, latest), Turn::Wait(1));
        assert_eq!(q.len(latest), 1);
    }

    #[test]
    fn who_leaves_makes_room() {
        let t = Instant::now();
        let mut q = Queue::default();
        q.join("a".into(), want("x"), t);
        q.join("b".into(), want("y"), t);
        assert!(q.leave("a") && !q.leave("a"));
        assert_eq!((q.ask("b", 0, t), q.ask("a", 1, t)), (Turn::Wait(1), Turn::Lost));
    }

    #[test]
    fn nobody_waits_for_those_who_do_not_ask() {
        let t = Instant::now();
        let mut q = Queue::default();
        q.join("gone".into(), want("x"), t);
        q.join("here".into(), want("y"), t);
        let later = t + Duration::from_secs(11);
        assert_eq!((q.waiting(later), q.len(later)), (0, 2));
        assert_eq!(q.ask("here", 0, later), Turn::Wait(1));
        assert_eq!(q.join("next".into(), want("z"), later), 2);
        // Who comes back has the place of before.
        assert_eq!(q.ask("gone", 0, later), Turn::Wait(1));
        assert_eq!(q.ask("here", 1, later), Turn::Wait(2));
        assert_eq!(q.ask("here", 2, later), Turn::Now(want("y")));
    }

    #[test]
    fn the_estimate_is_when_enough_sessions_have_ended() {
        assert_eq!(estimate(1, &mut [50, 10, 30], 100), 10);
        assert_eq!(estimate(3, &mut [50, 10, 30], 100), 50);
        assert_eq!(estimate(5, &mut [50, 10, 30], 100), 130);
        assert_eq!(estimate(1, &mut [], 100), 100);
        // A session of three has just ended, and two are before us.
        assert_eq!(estimate(3, &mut [40, 0, 30], 100), 40);
    }
}
