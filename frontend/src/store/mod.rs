//! What the page knows, as signals, and what it can do. Components read the signals and call the methods; only the
//! store talks to the server. [`App`] is the root: one per page, handed to components as a context.

pub mod app;
pub mod files;
pub mod known;
pub mod life;
pub mod messages;
pub mod notices;
pub mod own_sessions;
pub mod places;
pub mod ports;
pub mod route;
pub mod session;
pub mod settings;
pub mod share;
pub mod start;
pub mod terminals;
pub mod test_access;
pub mod uploads;
pub mod watch;

pub use app::{App, use_app};
