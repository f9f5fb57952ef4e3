//! Names of chunks that wait for their entries, where there may be too many of them for the memory.
//!
//! It may not know what they are of. They go to a file that nobody else sees, and that is gone with the process.

use repo::ChunkId;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

const ID_BYTES: usize = 32;
/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 64 << 10;

/// A list of chunks on the disk.
pub(crate) struct Spill {
    file: File,
    /// How many bytes are in the file.
    written: u64,
    buffer: Vec<u8>,
}

impl Spill {
    /// An empty one, in this directory, which is made if it is not there.
    pub fn create(dir: &Path) -> io::Result<Spill> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(format!("chunks-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Spill { file, written: 0, buffer: Vec::new() })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        (self.written + self.buffer.len() as u64) / ID_BYTES as u64
    }

    /// Adds one.
    pub fn push(&mut self, id: &ChunkId) -> io::Result<()> {
        self.buffer.extend_from_slice(&id.0);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// So many of them, from the one with this number on.
    pub fn read(&mut self, first: u64, count: u64) -> io::Result<Vec<ChunkId>> {
        self.flush()?;
        let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(ID_BYTES));
        let mut bytes = vec![0; len.ok_or(io::ErrorKind::InvalidInput)?];
        self.file.read_exact_at(&mut bytes, first * ID_BYTES as u64)?;
        Ok(bytes.as_chunks::<ID_BYTES>().0.iter().map(|id| ChunkId(*id)).collect())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_away_comes_back_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("makes");
        let mut spill = Spill::create(&dir.path().join("scratch")).expect("creates");
        let id = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for n in 0..5000 {
            assert_eq!(spill.len(), u64::from(n));
            spill.push(&id(n)).expect("pushes");
        }
        for (first, count) in [(0, 5000), (17, 3), (4999, 1), (100, 0)] {
            let read = spill.read(first, count).expect("reads");
            let expect: Vec<ChunkId> = (first as u32..(first + count) as u32).map(id).collect();
            assert_eq!(read, expect, "{first} {count}");
        }
        assert!(spill.read(4999, 2).is_err(), "there are no more");
        assert_eq!(std::fs::read_dir(dir.path().join("scratch")).expect("lists").count(), 0);
    }
}
