//! What the page decides without a browser: pure functions and small state machines, tested on the host. The
//! store and the terminals call them; nothing in here may touch `web_sys`.

pub mod back;
pub mod backoff;
pub mod clock;
pub mod docker;
pub mod keys;
pub mod latency;
pub mod layout;
pub mod outbox;
pub mod pace;
pub mod paths;
pub mod read;
pub mod small;
pub mod stream;
pub mod units;
