//! How often a terminal's picture is drawn while much output comes. Drawing a screen costs a browser as much time as parsing
//! hundreds of kilobytes, and nobody can read a flood: its pictures are made seldom, so that it is over sooner. What comes by keys
//! or in small pieces is drawn at once. Called by `term::picture`; times are in milliseconds.

/// Time between two pictures of a flood.
const FRAME: f64 = 50.0;
/// Output since the last picture that makes a flood, in bytes.
const MUCH: usize = 32 * 1024;
/// A flood that pauses for so long is drawn.
const QUIET: f64 = 10.0;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Pictures are drawn as output is parsed.
    #[default]
    Free,
    /// None is drawn.
    Held,
    /// One is about to be drawn.
    Due,
}

/// The pace of one terminal's pictures.
#[derive(Debug, Default)]
pub struct Pace {
    state: State,
    /// When the last picture was drawn, or the first output came after it.
    since: f64,
    /// Output since then.
    bytes: usize,
}

impl Pace {
    /// Output is about to be parsed. `Some`: no picture is to be drawn for so long.
    pub fn output(&mut self, bytes: usize, now: f64) -> Option<f64> {
        if self.state == State::Free {
            if now - self.since >= FRAME {
                (self.since, self.bytes) = (now, 0);
            }
            self.bytes = self.bytes.saturating_add(bytes);
            if self.bytes > MUCH {
                self.state = State::Held;
            }
        }
        (self.state == State::Held).then(|| self.left(now))
    }

    /// All that came is parsed. `Some`: the picture is to be drawn after this, unless more comes.
    pub fn idle(&self, now: f64) -> Option<f64> {
        (self.state == State::Held).then(|| self.left(now).min(QUIET))
    }

    /// The picture is let go.
    pub fn let_go(&mut self) {
        self.state = State::Due;
    }

    /// A picture was drawn.
    pub fn drawn(&mut self, now: f64) {
        if self.state != State::Held {
            *self = Self { state: State::Free, since: now, bytes: 0 };
        }
    }

    fn left(&self, now: f64) -> f64 {
        (self.since + FRAME - now).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_small_pieces_are_drawn_at_once() {
        let mut pace = Pace::default();
        for i in 0..1000 {
            let now = f64::from(i) * 16.0;
            assert_eq!(pace.output(2000, now), None);
            pace.drawn(now + 1.0);
            assert_eq!(pace.idle(now + 2.0), None);
        }
    }

    #[test]
    fn without_pictures_time_alone_makes_no_flood() {
        let mut pace = Pace::default();
        // A hidden terminal draws nothing.
        for i in 0..100 {
            assert_eq!(pace.output(MUCH / 2, f64::from(i) * 60.0), None);
        }
    }

    #[test]
    fn a_flood_is_drawn_seldom_but_drawn() {
        let (mut pace, mut pictures) = (Pace::default(), 0);
        let mut let_go_at = None;
        for i in 0..1000 {
            let now = f64::from(i);
            if let_go_at.is_some_and(|at| now >= at) {
                pace.let_go();
                let_go_at = None;
                // Nothing holds it until it is drawn.
                assert_eq!(pace.output(100_000, now), None);
                pace.drawn(now);
                pictures += 1;
            }
            if let Some(wait) = pace.output(10_000, now) {
                let_go_at.get_or_insert(now + wait);
            }
        }
        assert_eq!(pictures, 19);
    }

    #[test]
    fn the_end_of_a_flood_is_drawn_soon() {
        let mut pace = Pace::default();
        assert_eq!(pace.output(MUCH + 1, 1000.0), Some(FRAME));
        assert_eq!(pace.idle(1010.0), Some(QUIET));
        assert_eq!(pace.idle(1045.0), Some(5.0));
        assert_eq!(pace.output(1, 1020.0), Some(30.0));
        pace.let_go();
        pace.drawn(1030.0);
        assert_eq!(pace.idle(1031.0), None);
        assert_eq!(pace.output(100, 1031.0), None);
    }
}
