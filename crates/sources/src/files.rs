//! Files: trees with all their metadata.
//!
//! Capture: `roots` and `select` say what is asked for; `walk` finds it in the order of path keys; `cache` says what did
//! not change; `scout` decides what to read; `content` and `meta` read it, in `lanes`; `storing` puts everything in order
//! and hands it over; `capture` carries out a plan; `moving` is for trees that are written to meanwhile.
//! Restore: [`apply`] is the verb and [`dump`] writes to a stream. `plan` walks the snapshot and `pick` says what is wanted;
//! `window` gathers files; `write` writes them (`parts` the large ones, `delta` over what is there), `make` makes the rest,
//! `stamp` sets metadata, `place` keeps all of it beneath the target; `readback` compares, `restored` reports.

pub mod apply;
mod cache;
pub(crate) mod capture;
mod content;
mod delta;
pub mod dump;
mod lanes;
mod listing;
mod make;
pub(crate) mod meta;
mod moving;
mod parts;
mod pick;
mod place;
mod plan;
mod readback;
mod report;
mod restored;
mod roots;
mod scout;
mod select;
mod stamp;
mod storing;
mod walk;
mod window;
mod write;

#[cfg(any(test, fuzzing))]
pub(crate) use select::parse_ignore_file;

pub use cache::{CacheSpec, NextCache, REHASH_EVERY};
pub use capture::{Captured, FilesPlan, Previous, Remembered, capture, previous};
pub use moving::{Inspector, Moving};
pub use report::{Excluded, FilesReport, PROBLEMS_KEPT_MAX, Problem, Problems, Progress, Severity, Totals};
pub use roots::{NotAPath, Roots, check_roots};
pub use select::{Caches, Filesystems, IGNORE_BYTES_MAX, IGNORE_FILE, Pattern, Select, SelectError, SelectSpec};
