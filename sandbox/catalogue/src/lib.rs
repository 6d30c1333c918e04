//! The catalogue: images that every node finds without Internet, as `docker pull busybox` does.
//!
//! A [`Recipe`] is a Dockerfile with its files in `images/NAME`; [`Catalogue::add`] makes the image with the project's own builder,
//! from Debian packages or from the project's own programs, and puts it into the host's store, which nodes see read-only. It
//! runs as root on the operator's host; what it reads is ours and Debian's, nothing of it comes from learners.

mod catalogue;
mod error;
mod host;
mod recipes;
mod version;
mod work;

pub use catalogue::{AddOptions, Added, Catalogue, Entry, State};
pub use error::Error;
pub use recipes::{BASIC, Recipe, all, find};

/// What everything in this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
