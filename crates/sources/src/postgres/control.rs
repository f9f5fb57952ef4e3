//! `global/pg_control`: the identity of a cluster (PostgreSQL source, `catalog/pg_control.h`).
//!
//! What is at its beginning is the same in all supported versions; the rest is asked from the server by SQL.

use crc32c::crc32c;

/// The length of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_BYTES: usize = 8192;

/// What its beginning says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Drawn by `initdb`: tells clusters apart.
    pub system: u64,
    /// Version of the file.
    pub version: u32,
    /// Whether the server was shut down properly when it was written.
    pub shut_down: bool,
}

/// Reads it, if its checksum is right: one that is read while it is written may be torn.
pub fn parse(bytes: &[u8]) -> Option<Control> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    // Its checksum is its last field, and the length of what is before it depends on the version.
    let ends = (200..=400).step_by(4);
    ends.clone().find(|end| bytes.get(..*end).map(crc32c) == word(*end))?;
    let system = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    Some(Control { system, version: word(8)?, shut_down: matches!(word(16)?, 1 | 2) })
}
