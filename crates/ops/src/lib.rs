//! What a person asks for, one file per verb.
//!
//! What it is for: each verb takes a typed request and returns a report, or a [`Failure`] that says what to do.
//! What it may not know: terminals, command lines, HTML.
//! Where data comes from and goes: requests come from the binary; `sources` and `repo` do the work.
#![warn(missing_docs)]

pub mod backup;
pub mod config;
pub mod copy;
mod ctx;
pub mod demo;
pub mod diff;
pub mod doctor;
mod dry;
pub mod dump;
mod failure;
pub mod find;
pub mod forget;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod group;
pub mod init;
pub mod key;
pub mod listing;
pub mod ls;
pub mod mount;
mod open;
pub mod pace;
pub mod postgres;
pub mod prune;
pub mod restore;
pub mod select;
pub mod snapshots;
pub mod stats;
pub mod tag;
pub mod verify;

pub use ctx::{Ctx, host_name};
pub use failure::{Exit, Failure};
pub use open::{KeyFrom, KeyText, Locator, S3Login, open, open_uncached, remember, split_words};
