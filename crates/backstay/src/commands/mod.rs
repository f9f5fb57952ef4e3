//! The verbs, one file each: options in, a request to `ops`, a report rendered.

pub mod backup;
pub mod choose;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod copy;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod find;
pub mod forget;
pub mod help;
pub mod init;
pub mod instant;
pub mod key;
pub mod logical;
pub mod ls;
pub mod man;
pub mod mount;
pub mod pitr;
pub mod prune;
pub mod restore;
pub mod snapshots;
pub mod stats;
pub mod tag;
pub mod verify;
pub mod version;
pub mod wal;

use crate::render::Render;
use ops::{Exit, Failure};

/// Writes a text to standard output as it is.
fn print(out: &Render, text: &[u8]) -> Result<(), Failure> {
    out.raw(text).map_err(|e| Failure::new(Exit::Failed, "output", format!("cannot write to standard output: {e}")))
}
