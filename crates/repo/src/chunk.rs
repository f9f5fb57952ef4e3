//! Cutting content into chunks and naming them: content-defined for files and streams, fixed pages for what is changed in
//! place.
//!
//! It may not know where content comes from nor whether a chunk is known. Stateless but for buffers: one per thread.

use crate::crypt::Secret;
use crate::error::Result;
use crate::id::ChunkId;
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::sync::Arc;

/// Files of up to this many bytes are one chunk.
pub const WHOLE_BYTES_MAX: usize = 128 << 10;

/// How a repository cuts: part of its configuration, fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cuts {
    pub(crate) min: u32,
    pub(crate) avg: u32,
    pub(crate) max: u32,
    pub(crate) page: u32,
    pub(crate) group: u32,
}

impl Cuts {
    pub(crate) const DEFAULT: Cuts =
        Cuts { min: 64 << 10, avg: 256 << 10, max: 1 << 20, page: 32 << 10, group: 512 << 10 };

    /// Whether these are within what the program can do, so that a hostile configuration cannot exhaust memory.
    pub(crate) fn are_sound(&self) -> bool {
        let Cuts { min, avg, max, page, group } = *self;
        (1 << 10..=avg).contains(&min)
            && avg <= max
            && (avg..=8 << 20).contains(&max)
            && (1 << 10..=1 << 20).contains(&page)
            && (1 << 10..=8 << 20).contains(&group)
            && [min, avg, max].iter().all(|n| n.is_multiple_of(2))
    }

    /// The length of a page, where the number of chunks of a file tells whether it was cut in pages. Of files that were cut
    /// where their content says, all chunks but the last have at least twice that length: they have fewer.
    pub(crate) fn told_by_count(&self) -> Option<u32> {
        (self.min / 2 >= self.page).then_some(self.page)
    }
}

/// One chunk of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its name.
    pub id: ChunkId,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// How content is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Where the content says: insertions move nothing but themselves.
    Stream,
    /// In fixed blocks: databases and disk images, which are changed in place.
    Pages,
}

/// What was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes read.
    pub bytes: u64,
    /// Chunks handed out.
    pub chunks: u64,
    /// BLAKE3 of the bytes, taken as they were read.
    pub digest: [u8; 32],
}

struct Gear {
    cuts: Cuts,
    masks: (u64, u64),
    table: Vec<u64>,
    table_ls: Vec<u64>,
    id_key: Secret,
}

/// Cuts and hashes. Cloning is cheap; give each thread its own.
#[derive(Clone)]
pub struct Cutter {
    gear: Arc<Gear>,
    buffer: Vec<u8>,
}

impl Cutter {
    pub(crate) fn new(cuts: Cuts, seed: u64, id_key: Secret) -> Self {
        let (table, table_ls) = get_gear_with_seed(seed);
        let masks = select_masks(cuts.avg as usize, Normalization::Level1);
        let gear = Gear { cuts, masks, table: table.into_owned(), table_ls: table_ls.into_owned(), id_key };
        Cutter { gear: Arc::new(gear), buffer: Vec::new() }
    }

    /// The chunk of content that is wholly in memory.
    pub fn whole(&self, data: Vec<u8>) -> Cut {
        Cut { id: self.id_of(&data), data }
    }

    /// The name that content has.
    pub fn id_of(&self, data: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.gear.id_key.0, data).as_bytes())
    }

    /// Reads `from` to its end, cuts it, and hands each chunk to `emit` in order.
    ///
    /// # Errors
    /// `Outside` when reading fails; whatever `emit` returns.
    pub fn cut(
        &mut self,
        shape: Shape,
        from: &mut dyn Read,
        emit: &mut dyn FnMut(Cut) -> Result<()>,
    ) -> Result<Measured> {
        let want = match shape {
            Shape::Stream => self.gear.cuts.max as usize * 2,
            Shape::Pages => self.gear.cuts.page as usize * 8,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(buffer.len().max(want), 0);
        let result = self.cut_with(shape, want, &mut buffer, from, emit);
        self.buffer = buffer;
        result
    }

    fn cut_with(
        &self,
        shape: Shape,
        want: usize,
        buffer: &mut [u8],
        from: &mut dyn Read,
        emit: &mut dyn FnMut(Cut) -> Result<()>,
    ) -> Result<Measured> {
        // The digest is taken here, before any cutting, so that a cutter that drops bytes is found at restore
        // (borg#8963).
        let mut digest = blake3::Hasher::new();
        let mut measured = Measured { bytes: 0, chunks: 0, digest: [0; 32] };
        let (mut start, mut end, mut eof) = (0usize, 0usize, false);
        loop {
            if !eof && end - start < want / 2 {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
                while !eof && end < want {
                    match from.read(&mut buffer[end..want]) {
                        Ok(0) => eof = true,
                        Ok(n) => {
                            digest.update(&buffer[end..end + n]);
                            end += n;
                        }
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            if start == end {
                break;
            }
            let len = self.next_len(shape, &buffer[start..end]);
            let data = buffer[start..start + len].to_vec();
            start += len;
            measured.bytes += len as u64;
            measured.chunks += 1;
            emit(self.whole(data))?;
        }
        measured.digest = *digest.finalize().as_bytes();
        Ok(measured)
    }

    fn next_len(&self, shape: Shape, window: &[u8]) -> usize {
        let Gear { cuts, masks: (small, large), table, table_ls, .. } = &*self.gear;
        match shape {
            Shape::Pages => window.len().min(cuts.page as usize),
            Shape::Stream if window.len() <= cuts.min as usize => window.len(),
            Shape::Stream => {
                let (min, avg, max) = (cuts.min as usize, cuts.avg as usize, cuts.max as usize);
                let window = &window[..window.len().min(max)];
                cut_gear(window, min, avg, max, *small, *large, small << 1, large << 1, table, table_ls).1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutter() -> Cutter {
        Cutter::new(Cuts::DEFAULT, 42, Secret([1; 32]))
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    /// Gives few bytes at a time, and is interrupted.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let n = into.len().min(7_777 * (self.1 % 5 + 1)).min(self.0.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn cut(shape: Shape, from: &mut dyn Read) -> (Vec<Cut>, Measured) {
        let mut cuts = Vec::new();
        let measured = cutter().cut(shape, from, &mut |cut| {
            cuts.push(cut);
            Ok(())
        });
        (cuts, measured.expect("cuts"))
    }

    #[test]
    fn chunks_are_the_content_and_do_not_depend_on_how_it_was_read() {
        for len in [0, 1, 65_535, 65_536, 65_537, 1 << 20, 5_000_001] {
            let data = noise(len);
            for shape in [Shape::Stream, Shape::Pages] {
                let (cuts, measured) = cut(shape, &mut &data[..]);
                let (slow, _) = cut(shape, &mut Slow(&data, 0));
                assert_eq!(cuts, slow, "{shape:?} {len}");
                assert_eq!(cuts.concat_data(), data);
                assert_eq!(measured.digest, *blake3::hash(&data).as_bytes());
                assert_eq!((measured.bytes, measured.chunks), (len as u64, cuts.len() as u64));
            }
        }
    }

    trait ConcatData {
        fn concat_data(&self) -> Vec<u8>;
    }

    impl ConcatData for Vec<Cut> {
        fn concat_data(&self) -> Vec<u8> {
            self.iter().flat_map(|cut| cut.data.iter().copied()).collect()
        }
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let data = noise(20 << 20);
        let (before, _) = cut(Shape::Stream, &mut &data[..]);
        let changed = [&data[..3 << 20], b"inserted", &data[3 << 20..]].concat();
        let (after, _) = cut(Shape::Stream, &mut &changed[..]);
        let known: std::collections::HashSet<ChunkId> = before.iter().map(|cut| cut.id).collect();
        let new = after.iter().filter(|cut| !known.contains(&cut.id)).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
        let sizes: Vec<usize> = after.iter().map(|cut| cut.data.len()).collect();
        let mean = data.len() / sizes.len();
        assert!((150 << 10..500 << 10).contains(&mean), "mean {mean}");
        assert!(sizes[..sizes.len() - 1].iter().all(|n| (64 << 10..=1 << 20).contains(n)));
    }
}
