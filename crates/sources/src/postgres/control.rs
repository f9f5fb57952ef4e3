//! `global/pg_control`: the identity of a cluster (PostgreSQL source, `catalog/pg_control.h`).
//!
//! What is at its beginning is the same in all supported versions; the rest is asked from the server by SQL.

use crc32c::crc32c;

/// The length of the file (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_BYTES: usize = 8192;

/// The cluster's identifier, drawn by `initdb`, if the checksum is right: a file that is read while it is written may be torn.
pub fn system(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    // Its checksum is its last field, and the length of what is before it depends on the version.
    (200..=400).step_by(4).find(|end| bytes.get(..*end).map(crc32c) == word(*end))?;
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}
