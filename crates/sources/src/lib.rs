//! Every kind of system, both ways: capture and restore.
//!
//! What it is for: [`files`] takes trees of files into a [`repo::Capture`] and brings them back; [`stream`] takes what a
//! program writes; [`postgres`] takes clusters and their logs; [`mount`] shows
//! snapshots as file systems. What it may not know: policies, schedules, people, storage.
//! Where data comes from and goes: `ops` makes a plan from what a person asked for; what is found goes to `repo` as chunks
//! and entries; what happened goes back as a report.

pub mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod leftover;
pub mod mount;
pub mod postgres;
mod spill;
pub mod sqlite;
pub mod stream;
