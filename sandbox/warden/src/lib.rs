//! The warden: the only root process. It makes and destroys what needs root — id ranges, control groups, disks, mounts —
//! and forks sessions. It takes typed requests from `drydock serve` ([`messages`]) and reads nothing from sessions, so
//! no byte of a learner's ever reaches it. Small enough to read in an hour: [`server`], [`sessions`], [`disk`], [`place`].

mod clients;
mod disk;
mod error;
pub mod messages;
mod neighbours;
mod place;
mod prepare;
mod record;
mod server;
mod sessions;
pub mod shortage;

pub use error::Error;
pub use place::{Place, server_of, state_paths};
pub use server::{Config, run};
