//! The builder: [`build`] makes an image of a Dockerfile with the help of a [`Backend`].

mod backend;
mod config;
mod options;
mod output;

pub use backend::{
    Answer, Backend, BackendError, Commit, Download, Files, Image, Platform, RunMount, RunRequest, RunSource,
    Workspace,
};
pub use config::{CacheKey, Config, DEFAULT_PATH};
pub use options::{Context, Mode, NamedContext, Options};
pub use output::{ClassicLines, Event, Line, Output, StepId, Stream, short_id};
