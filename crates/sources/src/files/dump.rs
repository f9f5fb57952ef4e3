//! Content as a stream: one file, or a directory as a tar archive.
//!
//! What it is for: `dump`. What is to be written is gathered into batches whose chunks are fetched together, each batch
//! while the one before is written. A file's digest is compared when its last byte was written: what came out before
//! an error must not be used.
//! What it may not know: the target's file system.
//! Where data comes from and goes: a `SnapshotReader` in, a writer out.

use super::restored::RestoreError;
use super::window::{Spread, last_name};
use repo::{Entry, Located, Node, RepoError, SnapshotReader, Want, path_of_key};
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError, mpsc};
use store::Lanes;

/// Limits of one batch; two may be in memory.
const BATCH_BYTES: u64 = 16 << 20;
const BATCH_ITEMS: usize = 16_384;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Tar archives consist of blocks of this size.
const BLOCK: usize = 512;
/// The largest number that fits an octal field of eleven digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// What comes next in the stream.
enum Item {
    Bytes(Vec<u8>),
    Zeros(u64),
    /// Bytes of a chunk of this batch, from and to.
    Part(usize, usize, usize),
    /// A file of several chunks begins.
    Begin,
    /// It ends, and this must be its digest.
    End([u8; 32], Vec<u8>),
}

#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    wants: Vec<Want>,
    chunks: Vec<Vec<u8>>,
    bytes: u64,
}

/// Writes the content of one file, holes as zeros.
///
/// # Errors
/// `NotInSnapshot` when the snapshot has no file under `key`; `Damaged` when its content cannot be had or is not what was
/// backed up; `Outside` when `out` fails; `Stopped`. What was written before is worthless then.
pub fn dump(reader: &SnapshotReader, key: &[u8], out: &mut dyn Write) -> Result<(), RestoreError> {
    let not_there = || RestoreError::NotInSnapshot(path_of_key(key));
    let mut located = reader.get(key)?.ok_or_else(not_there)?;
    if let Node::HardLink { to } = &located.entry.node {
        located = reader.get(to)?.ok_or_else(not_there)?;
    }
    if !matches!(located.entry.node, Node::File(_)) {
        return Err(not_there());
    }
    pump(reader, out, &|feed| feed.content(&located))
}

/// Writes what is at or under `within` as a tar archive (pax): all metadata, holes as zeros. Names begin with the last
/// name of `within`. A hard link to something outside of it becomes a file of its own.
///
/// # Errors
/// As [`dump`].
pub fn dump_tar(reader: &SnapshotReader, within: &[u8], out: &mut dyn Write) -> Result<(), RestoreError> {
    let strip = within.len() - last_name(within).len();
    pump(reader, out, &|feed| {
        let mut any = within.is_empty();
        let mut adopted: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for located in reader.entries(within) {
            let mut located = located?;
            any = true;
            let name = |key: &[u8]| tar_name(key, strip);
            if located.entry.key.len() <= strip && !matches!(located.entry.node, Node::File(_)) && strip > 0 {
                continue;
            }
            if let Node::HardLink { to } = &located.entry.node {
                let first = if repo::is_within(to, within) { Some(to) } else { adopted.get(to) };
                if let Some(first) = first {
                    feed.header(&located.entry, &name(&located.entry.key), Some(&name(first)), 0)?;
                    continue;
                }
                let missing = || RepoError::damaged("a hard link", "leads to a file that the snapshot does not have");
                let to = to.clone();
                let mut content = reader.get(&to)?.ok_or_else(missing)?;
                content.entry.key.clone_from(&located.entry.key);
                adopted.insert(to, located.entry.key);
                located = content;
            }
            let size = if let Node::File(file) = &located.entry.node { file.size } else { 0 };
            let too_large = || {
                let path = repo::percent_path(&path_of_key(&located.entry.key));
                RepoError::damaged(path, "is larger than any file")
            };
            let padded = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(too_large)?;
            feed.header(&located.entry, &name(&located.entry.key), None, size)?;
            if matches!(located.entry.node, Node::File(_)) {
                feed.content(&located)?;
                feed.add(Item::Zeros(padded - size))?;
            }
        }
        if !any {
            return Err(RestoreError::NotInSnapshot(path_of_key(within)));
        }
        feed.add(Item::Zeros(2 * BLOCK as u64))
    })
}

/// Gathers batches and hands them on.
struct Feed<'a> {
    reader: &'a SnapshotReader,
    batch: Batch,
    give: &'a dyn Fn(Batch) -> Result<(), RestoreError>,
}

/// Runs `fill` and writes what it feeds, in order.
fn pump(
    reader: &SnapshotReader,
    out: &mut dyn Write,
    fill: &(dyn Fn(&mut Feed<'_>) -> Result<(), RestoreError> + Sync),
) -> Result<(), RestoreError> {
    let mut sink = Sink { out, hasher: None };
    if reader.world().lanes == Lanes::Inline {
        let sink = Mutex::new(&mut sink);
        let give = |batch: Batch| sink.lock().unwrap_or_else(PoisonError::into_inner).write(&batch);
        let mut feed = Feed { reader, batch: Batch::default(), give: &give };
        fill(&mut feed)?;
        feed.flush()?;
    } else {
        std::thread::scope(|scope| {
            let (give, take) = mpsc::sync_channel::<Batch>(0);
            let feeding = scope.spawn(move || {
                // The writer went away: it knows why.
                let give = |batch| give.send(batch).map_err(|_| RestoreError::Repo(RepoError::Stopped));
                let mut feed = Feed { reader, batch: Batch::default(), give: &give };
                fill(&mut feed)?;
                feed.flush()
            });
            let written = take.iter().try_for_each(|batch| sink.write(&batch));
            drop(take);
            let fed = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.and(fed)
        })?;
    }
    sink.out.flush().map_err(|e| RestoreError::Repo(e.into()))
}

impl Feed<'_> {
    fn add(&mut self, item: Item) -> Result<(), RestoreError> {
        if let Item::Bytes(bytes) = &item {
            self.batch.bytes += bytes.len() as u64;
        }
        self.batch.items.push(item);
        if self.batch.bytes >= BATCH_BYTES || self.batch.items.len() >= BATCH_ITEMS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), RestoreError> {
        let mut batch = std::mem::take(&mut self.batch);
        if self.reader.world().stop.requested() {
            return Err(RepoError::Stopped.into());
        }
        let chunks: Vec<Mutex<Vec<u8>>> = batch.wants.iter().map(|_| Mutex::default()).collect();
        let failed = self.reader.fetch(&batch.wants, &|want, data| {
            if let Some(slot) = usize::try_from(want.tag).ok().and_then(|tag| chunks.get(tag)) {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = data.to_vec();
            }
            Ok(())
        })?;
        if let Some((_, error)) = failed.into_iter().next() {
            return Err(error.into());
        }
        batch.chunks =
            chunks.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        (self.give)(batch)
    }

    /// The content of a file, holes as zeros.
    fn content(&mut self, located: &Located) -> Result<(), RestoreError> {
        let Node::File(file) = &located.entry.node else { return Ok(()) };
        let path = path_of_key(&located.entry.key);
        let damaged = |why: &str| RepoError::damaged(repo::percent_path(&path), why);
        let spread = Spread::of(file);
        let digest = file.digest.filter(|_| file.chunks > 1);
        if digest.is_some() {
            self.add(Item::Begin)?;
        }
        let (mut done, mut data, mut at) = (0u64, 0u64, 0u64);
        while done < file.chunks {
            let count = (file.chunks - done).min(256);
            let ids = self.reader.ids(located.first.saturating_add(done), count)?;
            if ids.len() as u64 != count {
                return Err(damaged("has less content than its entry says").into());
            }
            for id in ids {
                let place = self.reader.locate(&id)?;
                let len = u64::from(place.len());
                if data + len > file.data_bytes() {
                    return Err(damaged("has more content than its entry says").into());
                }
                if self.batch.bytes + len > BATCH_BYTES {
                    self.flush()?;
                }
                let slot = self.batch.wants.len();
                self.batch.wants.push(Want { id, place, tag: slot as u64 });
                self.batch.bytes += len;
                let mut from = 0;
                let ranges = spread.ranges(data, len);
                let last = ranges.len();
                for (n, (offset, part)) in ranges.into_iter().enumerate() {
                    // No flush in the middle of a chunk: the next batch would not have it.
                    if offset > at {
                        self.batch.items.push(Item::Zeros(offset - at));
                    }
                    let to = from + usize::try_from(part).unwrap_or(0);
                    self.batch.items.push(Item::Part(slot, from, to));
                    (from, at) = (to, offset + part);
                    if n + 1 == last && self.batch.items.len() >= BATCH_ITEMS {
                        self.flush()?;
                    }
                }
                data += len;
            }
            done += count;
        }
        if data != file.data_bytes() {
            return Err(damaged("has less content than its entry says").into());
        }
        if let Some(digest) = digest {
            self.add(Item::End(digest, path))?;
        }
        if file.size > at {
            self.add(Item::Zeros(file.size - at))?;
        }
        Ok(())
    }

    /// The header of a tar member, with a pax header before it for what the old one cannot hold.
    fn header(&mut self, entry: &Entry, name: &[u8], link: Option<&[u8]>, size: u64) -> Result<(), RestoreError> {
        let is_dir = matches!(entry.node, Node::Dir);
        let name = if is_dir && !name.ends_with(b"/") { [name, b"/"].concat() } else { name.to_vec() };
        let target = match (&entry.node, link) {
            (_, Some(link)) => link.to_vec(),
            (Node::Symlink { target }, None) => target.clone(),
            _ => Vec::new(),
        };
        let (kind, device) = match (&entry.node, link) {
            (_, Some(_)) => (b'1', None),
            (Node::Symlink { .. }, _) => (b'2', None),
            (Node::CharDevice { major, minor }, _) => (b'3', Some((*major, *minor))),
            (Node::BlockDevice { major, minor }, _) => (b'4', Some((*major, *minor))),
            (Node::Dir, _) => (b'5', None),
            (Node::Fifo, _) => (b'6', None),
            (Node::File(_) | Node::HardLink { .. }, None) => (b'0', None),
        };
        let mut pax = Vec::new();
        let mut record = |key: &[u8], value: &[u8]| put_pax(&mut pax, key, value);
        let (secs, nanos) = (entry.mtime.secs(), entry.mtime.nanos());
        if nanos != 0 || secs < 0 || secs.unsigned_abs() > OCTAL_MAX {
            record(b"mtime", decimal_time(secs, nanos).as_bytes());
        }
        if name.len() > 100 {
            record(b"path", &name);
        }
        if target.len() > 100 {
            record(b"linkpath", &target);
        }
        if size > OCTAL_MAX {
            record(b"size", size.to_string().as_bytes());
        }
        for (key, value) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if value > 0o7_777_777 {
                record(key, value.to_string().as_bytes());
            }
        }
        for (key, value) in entry.xattrs.iter().filter(|_| kind != b'1') {
            record(&[b"SCHILY.xattr.", key.as_slice()].concat(), value);
        }
        let plain = Header { kind: b'x', name: b"PaxHeaders/pax", target: b"", size: pax.len() as u64, device: None };
        if !pax.is_empty() {
            let padding = pax.len().next_multiple_of(BLOCK) - pax.len();
            let mut bytes = plain.bytes(entry);
            bytes.extend_from_slice(&pax);
            bytes.resize(bytes.len() + padding, 0);
            self.add(Item::Bytes(bytes))?;
        }
        self.add(Item::Bytes(Header { kind, name: &name, target: &target, size, device }.bytes(entry)))
    }
}

/// The name of a tar member: relative, from the last name of what was asked for.
fn tar_name(key: &[u8], strip: usize) -> Vec<u8> {
    let name: Vec<u8> = key.get(strip..).unwrap_or_default().iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
    if name.is_empty() { b".".to_vec() } else { name }
}

/// A pax record: its own length in decimal, the key, the value.
fn put_pax(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Seconds with their fraction; before 1970 the fraction counts away from zero, too.
fn decimal_time(secs: i64, nanos: u32) -> String {
    if secs < 0 && nanos > 0 {
        let whole = secs.unsigned_abs() - 1;
        return format!("-{whole}.{:09}", 1_000_000_000 - nanos);
    }
    format!("{secs}.{nanos:09}")
}

struct Header<'a> {
    kind: u8,
    name: &'a [u8],
    target: &'a [u8],
    size: u64,
    device: Option<(u32, u32)>,
}

impl Header<'_> {
    fn bytes(&self, entry: &Entry) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK];
        let mut put = |at: usize, width: usize, bytes: &[u8]| {
            let len = bytes.len().min(width);
            if let (Some(to), Some(from)) = (block.get_mut(at..at + len), bytes.get(..len)) {
                to.copy_from_slice(from);
            }
        };
        // What does not fit stands in the pax header; here it is zero.
        let octal = |value: u64, digits: usize| {
            let text = format!("{value:0digits$o}");
            if text.len() > digits { "0".repeat(digits) } else { text }.into_bytes()
        };
        put(0, 100, self.name);
        put(100, 7, &octal(u64::from(entry.mode), 7));
        put(108, 7, &octal(u64::from(entry.uid), 7));
        put(116, 7, &octal(u64::from(entry.gid), 7));
        put(124, 11, &octal(self.size, 11));
        put(136, 11, &octal(u64::try_from(entry.mtime.secs()).unwrap_or(0), 11));
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, self.target);
        put(257, 8, b"ustar\x0000");
        put(265, 31, entry.user.as_deref().unwrap_or_default());
        put(297, 31, entry.group.as_deref().unwrap_or_default());
        let (major, minor) = self.device.unwrap_or_default();
        put(329, 7, &octal(u64::from(major), 7));
        put(337, 7, &octal(u64::from(minor), 7));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        if let Some(to) = block.get_mut(148..156) {
            to.copy_from_slice(sum.as_bytes());
        }
        block
    }
}

struct Sink<'a> {
    out: &'a mut dyn Write,
    hasher: Option<Box<blake3::Hasher>>,
}

impl Sink<'_> {
    fn write(&mut self, batch: &Batch) -> Result<(), RestoreError> {
        let outside = |e: std::io::Error| RestoreError::Repo(e.into());
        for item in &batch.items {
            match item {
                Item::Bytes(bytes) => self.out.write_all(bytes).map_err(outside)?,
                Item::Zeros(count) => {
                    let mut left = *count;
                    while left > 0 {
                        let now = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                        self.out.write_all(ZEROS.get(..now).unwrap_or_default()).map_err(outside)?;
                        left -= now as u64;
                    }
                }
                Item::Part(slot, from, to) => {
                    let part = batch.chunks.get(*slot).and_then(|chunk| chunk.get(*from..*to));
                    let part = part.ok_or_else(|| RepoError::damaged("a chunk", "is shorter than the index says"))?;
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(part);
                    }
                    self.out.write_all(part).map_err(outside)?;
                }
                Item::Begin => self.hasher = Some(Box::default()),
                Item::End(digest, path) => {
                    if self.hasher.take().is_none_or(|hasher| hasher.finalize().as_bytes() != digest) {
                        let why = "is not what was read when it was backed up";
                        return Err(RepoError::damaged(repo::percent_path(path), why).into());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_count_their_own_length() {
        let check = |key: &str, value: &str, expect: &str| {
            let mut out = Vec::new();
            put_pax(&mut out, key.as_bytes(), value.as_bytes());
            assert_eq!(String::from_utf8(out).expect("text"), expect);
        };
        check("path", "a", "9 path=a\n");
        check("path", "", "8 path=\n");
        check("k", &"x".repeat(93), &format!("99 k={}\n", "x".repeat(93)));
        check("k", &"x".repeat(94), &format!("101 k={}\n", "x".repeat(94)));
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        assert_eq!(decimal_time(5, 7), "5.000000007");
        assert_eq!(decimal_time(-1, 500_000_000), "-0.500000000");
        assert_eq!(decimal_time(-3, 0), "-3.000000000");
    }
}
