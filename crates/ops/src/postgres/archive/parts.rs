//! The segment that is still being written: kept in parts, put together when somebody needs it.
//!
//! What it is for: what a server has written since its last complete segment is in the archive within seconds, and a restore to
//! the end of the log has it.
//! What it may not know: servers, and when a part is worth storing. Where data comes from and goes: pieces of the log into a
//! ledger, each under the position behind its last byte, with the position of its first byte before it; and from there, joined
//! and filled up with zeros as servers do with a segment that is not complete.

use super::{Archive, Range, differs};
use crate::failure::Failure;
use repo::RepoError;
use repo::ledger::SegmentName;
use sources::postgres::Lsn;
use sources::postgres::wal::Name;
use std::collections::BTreeMap;
use std::path::Path;

/// How many bytes of a part say where it begins.
const HEAD_BYTES: usize = 8;

/// A segment that is still being written, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Which line of history.
    pub timeline: u32,
    /// Number of the segment.
    pub number: u64,
    /// Position behind the last byte.
    pub end: Lsn,
}

impl Tail {
    /// Which segment it is.
    pub fn segment(&self) -> SegmentName {
        SegmentName { timeline: self.timeline, number: self.number }
    }

    /// As a stretch of the archive.
    pub(super) fn range(&self, segment_bytes: u64) -> Range {
        let Tail { timeline, number, end } = *self;
        let name = Name::of(timeline, number, segment_bytes).to_string();
        Range { timeline, first: name.clone(), last: name, segments: 1, start: Lsn(number * segment_bytes), end }
    }
}

impl Archive<'_> {
    /// Stores a piece of a segment that is not complete. When this returns `Ok` it survives power loss. Each begins where its
    /// segment does, or within or right behind what is stored already, and ends behind that.
    ///
    /// # Errors
    /// `wal-differs` when somebody else stored another one that ends there; whatever the repository returns.
    pub fn keep_part(&self, name: &Name, start: Lsn, bytes: &[u8]) -> Result<(), Failure> {
        let mut part = start.0.to_le_bytes().to_vec();
        part.extend_from_slice(bytes);
        let end = start.0 + bytes.len() as u64;
        match self.parts.append(SegmentName { timeline: name.timeline, number: end }, &part) {
            Ok(_) => Ok(()),
            Err(RepoError::Differs(_)) => Err(differs(Path::new(&name.to_string()), &self.source)),
            Err(e) => Err(e.into()),
        }
    }

    /// The newest segment of each timeline that is there in parts, whether or not it is complete by now.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn tails(&self, segment_bytes: u64) -> Result<Vec<Tail>, Failure> {
        let mut newest = BTreeMap::new();
        for SegmentName { timeline, number: end } in self.parts.segments()? {
            let known = newest.entry(timeline).or_insert(end);
            *known = end.max(*known);
        }
        let tail = |(timeline, end): (u32, u64)| {
            let number = end.checked_sub(1)? / segment_bytes;
            Some(Tail { timeline, number, end: Lsn(end) })
        };
        Ok(newest.into_iter().filter_map(tail).collect())
    }

    /// The bytes of a segment: whole, or as far as it was written, with zeros behind that. Only the last one of a timeline is
    /// given out in parts.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub(super) fn so_far(&self, name: SegmentName, segment_bytes: u64) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(whole) = self.segments.get(name)? {
            return Ok(Some(whole));
        }
        let newer = |other: &SegmentName| other.timeline == name.timeline && other.number > name.number;
        if self.segments.segments()?.iter().any(newer) {
            return Ok(None);
        }
        Ok(self.assembled(name, segment_bytes)?.map(|(bytes, _)| bytes))
    }

    /// What there is of a segment in parts, filled up with zeros, and the position behind it. None where nothing is, or where
    /// something between is missing.
    pub(super) fn assembled(&self, name: SegmentName, segment_bytes: u64) -> Result<Option<(Vec<u8>, Lsn)>, Failure> {
        let first = name.number * segment_bytes;
        let within = |part: &SegmentName| {
            part.timeline == name.timeline && part.number > first && part.number <= first + segment_bytes
        };
        let parts: Vec<SegmentName> = self.parts.segments()?.into_iter().filter(within).collect();
        let Some(last) = parts.last() else { return Ok(None) };
        let mut segment = vec![0; segment_bytes as usize];
        // From the end on: everything behind this position is in place.
        let mut from = last.number;
        for part in parts.iter().rev() {
            if from == first || part.number < from {
                break;
            }
            let bytes = match self.parts.get(*part) {
                // Nobody can tell which of them is the right one.
                Err(RepoError::Differs(_)) => return Ok(None),
                bytes => bytes?.unwrap_or_default(),
            };
            let Some((start, bytes)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
            let start = u64::from_le_bytes(*start);
            if start.checked_add(bytes.len() as u64) != Some(part.number) || start < first {
                return Ok(None);
            }
            if start < from {
                let (at, len) = ((start - first) as usize, (from - start) as usize);
                segment[at..at + len].copy_from_slice(&bytes[..len]);
                from = start;
            }
        }
        Ok((from == first).then_some((segment, Lsn(last.number))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repo::{PackSize, Repository};
    use std::sync::Arc;
    use store::{MemStore, Store, World};

    const BYTES: u64 = 1 << 20;
    const FIRST: u64 = 7 * BYTES;

    fn repository() -> Repository {
        let store = Store::new(Arc::new(MemStore::new()));
        Repository::init(&store, &World::real(), None, "test", PackSize::Disk).expect("made").0
    }

    fn name() -> Name {
        Name::of(1, 7, BYTES)
    }

    /// What is put together of these parts, each from here to there.
    fn joined(parts: &[(u64, u64)]) -> Option<u64> {
        let content = |n: u64| (n % 251) as u8 + 1;
        let repository = repository();
        let archive = Archive::open(&repository, "shop/db", &[]).expect("opens");
        for (from, to) in parts {
            let bytes: Vec<u8> = (*from..*to).map(content).collect();
            archive.keep_part(&name(), Lsn(FIRST + from), &bytes).expect("stores");
        }
        let segment = SegmentName { timeline: 1, number: 7 };
        let (bytes, end) = archive.assembled(segment, BYTES).expect("reads")?;
        let end = end.0 - FIRST;
        let right = |(at, byte): (usize, &u8)| *byte == if (at as u64) < end { content(at as u64) } else { 0 };
        assert!(bytes.len() as u64 == BYTES && bytes.iter().enumerate().all(right), "{parts:?}");
        Some(end)
    }

    #[test]
    fn parts_that_join_up_are_the_segment_as_far_as_it_was_written() {
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&[(0, 100)]), Some(100));
        assert_eq!(joined(&[(0, 100), (100, 3000), (3000, 3001)]), Some(3001));
        assert_eq!(joined(&[(0, 100), (100, 200), (0, 300), (300, 400)]), Some(400), "one has everything before");
        assert_eq!(joined(&[(0, 200), (100, 300)]), Some(300), "they may overlap");
        assert_eq!(joined(&[(0, 100), (101, 200)]), None, "a byte is missing");
        assert_eq!(joined(&[(100, 200)]), None, "the beginning is missing");
        assert_eq!(joined(&[(0, BYTES)]), Some(BYTES));
    }

    #[test]
    fn two_contents_that_end_in_one_place_are_refused_and_never_used() {
        let repository = repository();
        let archive = Archive::open(&repository, "shop/db", &[]).expect("opens");
        archive.keep_part(&name(), Lsn(FIRST), b"one").expect("stores");
        archive.keep_part(&name(), Lsn(FIRST), b"one").expect("the same again is fine");
        assert_eq!(archive.keep_part(&name(), Lsn(FIRST), b"two").expect_err("differs").code, "wal-differs");
        let segment = SegmentName { timeline: 1, number: 7 };
        assert!(archive.assembled(segment, BYTES).expect("reads").is_none());
    }

    #[test]
    fn the_newest_part_of_each_timeline_is_its_tail() {
        let repository = repository();
        let archive = Archive::open(&repository, "shop/db", &[]).expect("opens");
        for (timeline, number, end) in [(1, 7, 5), (1, 9, 3), (1, 8, 9), (2, 9, BYTES)] {
            let name = Name::of(timeline, number, BYTES);
            archive.keep_part(&name, Lsn(number * BYTES), &vec![1; end as usize]).expect("stores");
        }
        let tail = |timeline, number, end| Tail { timeline, number, end: Lsn(number * BYTES + end) };
        assert_eq!(archive.tails(BYTES).expect("lists"), [tail(1, 9, 3), tail(2, 9, BYTES)]);
    }
}
