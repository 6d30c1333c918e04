//! What the page shows of a node's Docker engine. Made by the engine, pushed whole whenever it changes.

use serde::{Deserialize, Serialize};

/// Most containers, images and activities that a picture holds; the rest is counted only.
pub const MAX_SHOWN: usize = 100;

/// The picture of one engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Docker {
    /// Containers, newest first.
    pub containers: Vec<Container>,
    /// All containers, those beyond [`MAX_SHOWN`] too.
    pub container_count: u32,
    /// Images, newest first.
    pub images: Vec<Image>,
    /// All images.
    pub image_count: u32,
    /// What takes a while: pulls, pushes, builds.
    pub activities: Vec<Activity>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Container {
    /// First 12 digits of its id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The image as the learner named it.
    pub image: String,
    /// `created`, `running`, `paused`, `restarting`, `exited`, `removing` or `dead`.
    pub state: String,
    /// `healthy`, `unhealthy` or `starting`, if it has a health check.
    pub health: Option<String>,
    /// Exit status of the last run, once it has ended.
    pub exit_code: Option<i32>,
    /// Published TCP ports of the node, ascending.
    pub ports: Vec<u16>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// First 12 hexadecimal digits of its id.
    pub id: String,
    /// Names with tags as Docker prints them (`nginx:latest`); empty: dangling.
    pub names: Vec<String>,
    /// Size of its layers in bytes.
    pub size: u64,
}

/// Something that takes a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Activity {
    /// What: `pull nginx:latest`, `build web`.
    pub title: String,
    /// How far in words: `layer 2 of 5`, `step 3/9: RUN make`.
    pub detail: String,
    /// Done of [`Self::total`], in bytes or steps; absent if it can't be told.
    pub done: Option<u64>,
    /// All that is to do.
    pub total: Option<u64>,
}
