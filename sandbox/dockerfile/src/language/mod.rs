//! The Dockerfile language: text → typed instructions ([`parse`]), and the words within ([`shell`]).

mod device;
mod error;
mod flags;
pub(crate) mod go;
mod instruction;
pub(crate) mod lines;
mod mount;
mod parse;
pub mod shell;
mod words;

pub use device::{Device, parse_device};
pub use error::{ParseError, suggest};
pub use instruction::{
    CommandLine, Copy, Dockerfile, Health, InlineFile, Instruction, Kind, LineWarning, Network, Pair, Run,
    Stage, description,
};
pub use lines::syntax;
pub use mount::{Expand, Mount, MountKind, Sharing, parse_mount};
pub use parse::{parse, parse_instructions};
