//! Writing the content of a snapshot as a stream.
//!
//! What it is for: `backstay dump`. What it may not know: where the stream goes.
//! Where data comes from and goes: a snapshot through `sources::files` into a writer.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::{Node, Repository, Snapshot, key_of_path, percent_path};
use sources::files::dump::{dump as dump_file, dump_tar};
use std::io::Write;

/// As what to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A file as it is, a directory as tar.
    Auto,
    /// As tar, a single file too.
    Tar,
}

/// Writes what is at `path` (absolute, any bytes). What was written before an error is worthless.
///
/// # Errors
/// `not-in-snapshot`; `damaged`; whatever the repository and `out` return.
pub fn dump(
    ctx: &Ctx,
    repository: &Repository,
    snapshot: &Snapshot,
    (path, shape): (&[u8], Shape),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let key = key_of_path(path).ok_or_else(|| {
        Failure::new(Exit::Usage, "usage", format!("{} is no absolute path", percent_path(path)))
            .help("write the path as `backstay ls` shows it")
    })?;
    let reading = repository.reading(&ctx.process)?;
    let reader = reading.open(snapshot)?;
    let is_file = match key.is_empty() {
        true => false,
        false => {
            reader.get(&key)?.is_some_and(|found| matches!(found.entry.node, Node::File(_) | Node::HardLink { .. }))
        }
    };
    match shape {
        Shape::Auto if is_file => dump_file(&reader, &key, out)?,
        _ => dump_tar(&reader, &key, out)?,
    }
    Ok(())
}
