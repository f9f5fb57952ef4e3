//! Segments of the write-ahead log: their names, and what their bytes say (PostgreSQL source, `access/xlog_internal.h`,
//! `access/xlogrecord.h`, `access/xact.h`).
//!
//! It may not know where segments come from nor where they go.

use super::Lsn;
use crc32c::{crc32c, crc32c_append};

/// The smallest segment that `initdb --wal-segsize` makes.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The largest one.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const PAGE_BYTES: usize = 8192;
/// How many bytes of a segment say what it is.
pub const HEADER_BYTES: usize = 40;
const SHORT_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 24;
/// Microseconds between 1970 and 2000, where PostgreSQL's clock begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What a file of the archive is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalFile {
    /// A whole segment.
    Segment(Name),
    /// The last segment of a timeline that ended: its beginning is also in the first segment of the next one.
    Partial(Name),
    /// Where a timeline comes from.
    History(u32),
    /// A note about a backup that somebody took; not needed for anything.
    Label,
}

/// The name of a segment, as the server gives it: 24 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Which line of history.
    pub timeline: u32,
    /// The upper and the lower half of its number, whose split depends on the length of segments.
    pub high: u32,
    /// See `high`.
    pub low: u32,
}

impl Name {
    /// The name of the segment of this number.
    pub fn of(timeline: u32, number: u64, segment_bytes: u64) -> Name {
        let per_high = (1 << 32) / segment_bytes;
        Name { timeline, high: (number / per_high) as u32, low: (number % per_high) as u32 }
    }

    /// Its number: position of its first byte divided by the length of segments.
    pub fn number(&self, segment_bytes: u64) -> u64 {
        u64::from(self.high) * ((1 << 32) / segment_bytes) + u64::from(self.low)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.high, self.low)
    }
}

impl WalFile {
    /// What a file of this name is; `None` for what no server archives.
    pub fn parse(name: &str) -> Option<WalFile> {
        let (stem, kind) = name.split_once('.').map_or((name, None), |(stem, kind)| (stem, Some(kind)));
        let hex = |from: usize| {
            let digits = stem.get(from..from + 8)?;
            let good = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
            good.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        if stem.len() == 8 {
            return (kind == Some("history")).then(|| hex(0)).flatten().map(WalFile::History);
        }
        let segment = Name { timeline: hex(0)?, high: hex(8)?, low: hex(16)? };
        if stem.len() != 24 {
            return None;
        }
        match kind {
            None => Some(WalFile::Segment(segment)),
            Some("partial") => Some(WalFile::Partial(segment)),
            Some(kind) if kind.ends_with(".backup") => Some(WalFile::Label),
            Some(_) => None,
        }
    }
}

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which line of history was written when the segment began.
    pub timeline: u32,
    /// Position of its first byte.
    pub start: Lsn,
    /// The cluster.
    pub system: u64,
    /// Length of segments.
    pub segment_bytes: u64,
}

/// Why a file is no segment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotASegment {
    /// It is too short, or its length is none that segments have.
    #[error("has {0} bytes, which no segment has")]
    Length(u64),
    /// It does not begin as a segment does.
    #[error("does not begin as a segment of the write-ahead log does: it is damaged, encrypted or compressed")]
    Header,
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

/// Reads the first page of a segment (`XLogLongPageHeaderData`).
///
/// # Errors
/// [`NotASegment`].
pub fn header(segment: &[u8]) -> Result<Header, NotASegment> {
    let len = segment.len() as u64;
    if !len.is_power_of_two() || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&len) {
        return Err(NotASegment::Length(len));
    }
    const LONG: u16 = 2;
    let magic = short(segment, 0);
    let found = Header {
        timeline: word(segment, 4),
        start: Lsn(long(segment, 8)),
        system: long(segment, 24),
        segment_bytes: word(segment, 32).into(),
    };
    let fits =
        found.segment_bytes == len && found.start.0.is_multiple_of(len) && word(segment, 36) as usize == PAGE_BYTES;
    match magic & 0xff00 == 0xD100 && short(segment, 2) & LONG != 0 && fits {
        true => Ok(found),
        false => Err(NotASegment::Header),
    }
}

/// A line of a history file: until where another timeline was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that was followed.
    pub timeline: u32,
    /// Where it was left.
    pub at: Lsn,
}

/// The lines of a history file; `None` when it is none (PostgreSQL source, `timeline.c`).
pub fn history(text: &str) -> Option<Vec<Switch>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let switches: Option<Vec<Switch>> = lines
        .map(|line| {
            let mut words = line.split_whitespace();
            Some(Switch { timeline: words.next()?.parse().ok()?, at: words.next()?.parse().ok()? })
        })
        .collect();
    switches.filter(|all| all.windows(2).all(|pair| pair[0].timeline < pair[1].timeline))
}

/// When the last transaction ended whose end is in a segment, in microseconds since 1970; none where there is no such end. A
/// record that goes on in the next segment, or one that is damaged, is the last that is looked at.
///
/// # Errors
/// [`NotASegment`].
pub fn last_end(segment: &[u8]) -> Result<Option<i64>, NotASegment> {
    header(segment)?;
    let mut records = Records { segment, at: 0 };
    records.skip_continued();
    Ok(std::iter::from_fn(|| records.next()).filter_map(|record| ended_at(&record)).max())
}

/// Records are laid over pages, each with a header of its own.
struct Records<'a> {
    segment: &'a [u8],
    at: usize,
}

impl Records<'_> {
    /// Past the rest of a record that began in the segment before.
    fn skip_continued(&mut self) {
        const CONTINUED: u16 = 1;
        let rest = if short(self.segment, 2) & CONTINUED != 0 { word(self.segment, 16) as usize } else { 0 };
        self.at = HEADER_BYTES;
        if self.take(rest).is_none() {
            self.at = self.segment.len();
        }
        self.align();
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// The next bytes, without the headers of pages between them.
    fn take(&mut self, mut len: usize) -> Option<Vec<u8>> {
        let mut taken = Vec::with_capacity(len.min(self.segment.len()));
        while len > 0 {
            if self.at.is_multiple_of(PAGE_BYTES) {
                if self.at >= self.segment.len() || short(self.segment, self.at) != short(self.segment, 0) {
                    return None;
                }
                self.at += if self.at == 0 { HEADER_BYTES } else { SHORT_HEADER_BYTES };
            }
            let here = len.min(PAGE_BYTES - self.at % PAGE_BYTES);
            taken.extend_from_slice(self.segment.get(self.at..self.at + here)?);
            (self.at, len) = (self.at + here, len - here);
        }
        Some(taken)
    }

    /// The next record, if it is whole and its checksum is right.
    fn next(&mut self) -> Option<Vec<u8>> {
        let record = self.whole()?;
        self.align();
        Some(record)
    }

    fn whole(&mut self) -> Option<Vec<u8>> {
        if self.at + 4 > self.segment.len() {
            return None;
        }
        // The length is never cut by the end of a page: records begin at multiples of eight.
        let start = match self.at.is_multiple_of(PAGE_BYTES) {
            true => self.at + if self.at == 0 { HEADER_BYTES } else { SHORT_HEADER_BYTES },
            false => self.at,
        };
        let len = word(self.segment.get(start..start + 4)?, 0) as usize;
        if len < RECORD_HEADER_BYTES || len > self.segment.len() {
            return None;
        }
        let record = self.take(len)?;
        const CRC_AT: usize = 20;
        let crc = crc32c_append(crc32c(&record[RECORD_HEADER_BYTES..]), &record[..CRC_AT]);
        (crc == word(&record, CRC_AT)).then_some(record)
    }
}

/// When the transaction ended whose commit or abort this record is, in microseconds since 1970.
fn ended_at(record: &[u8]) -> Option<i64> {
    const TRANSACTIONS: u8 = 1;
    const OPERATIONS: u8 = 0x70;
    let (info, manager) = (record[16], record[17]);
    // Commit, abort, and both of prepared transactions.
    if manager != TRANSACTIONS || !matches!(info & OPERATIONS, 0x00 | 0x20 | 0x30 | 0x40) {
        return None;
    }
    let main = main_data(&record[RECORD_HEADER_BYTES..])?;
    let micros = i64::from_le_bytes(main.get(..8)?.try_into().ok()?);
    Some(micros + EPOCH_MICROS)
}

/// The main data of a record without blocks, as those of transactions are (`XLogRecordDataHeaderShort`, `…Long`).
fn main_data(mut rest: &[u8]) -> Option<&[u8]> {
    const SHORT: u8 = 255;
    const LONG: u8 = 254;
    const ORIGIN: u8 = 253;
    const TOP_XID: u8 = 252;
    loop {
        let (id, after) = rest.split_first()?;
        match *id {
            SHORT => return after.get(1..),
            LONG => return after.get(4..),
            ORIGIN => rest = after.get(2..)?,
            TOP_XID => rest = after.get(4..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let name = Name { timeline: 1, high: 2, low: 0xff };
        for (text, expect) in [
            ("0000000100000002000000FF", Some(WalFile::Segment(name))),
            ("0000000100000002000000FF.partial", Some(WalFile::Partial(name))),
            ("0000000100000002000000FF.00000028.backup", Some(WalFile::Label)),
            ("0000000A.history", Some(WalFile::History(10))),
            ("0000000100000002000000ff", None),
            ("0000000100000002000000FF.gz", None),
            ("0000000100000002000000F", None),
            ("RECOVERYXLOG", None),
            ("äöü", None),
        ] {
            assert_eq!(WalFile::parse(text), expect, "{text}");
        }
        assert_eq!(name.to_string(), "0000000100000002000000FF");
    }

    #[test]
    fn numbers_go_on_over_the_halves_of_a_name() {
        for bytes in [1 << 20, 16 << 20, 1 << 30] {
            for number in [0, 1, 255, 256, 4096, 1 << 20] {
                let name = Name::of(3, number, bytes);
                assert_eq!(name.number(bytes), number, "{bytes} {name}");
            }
        }
        assert_eq!(Name::of(1, 256, 16 << 20).to_string(), "000000010000000100000000");
    }

    #[test]
    fn a_history_is_read_and_nonsense_is_not() {
        let text = "1\t0/A000198\tno recovery target specified\n\n# note\n2\t0/B000000\tx y\n";
        let switch = |timeline, at: &str| Switch { timeline, at: at.parse().expect("parses") };
        assert_eq!(history(text), Some(vec![switch(1, "0/A000198"), switch(2, "0/B000000")]));
        assert_eq!(history(""), Some(vec![]));
        for bad in ["x 0/1", "1", "2 0/1\n1 0/2", "1 y"] {
            assert_eq!(history(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        assert_eq!(header(&[]), Err(NotASegment::Length(0)));
        assert_eq!(header(&vec![0; 16 << 20]), Err(NotASegment::Header));
        assert_eq!(header(&vec![0; 3 << 20]), Err(NotASegment::Length(3 << 20)));
    }
}
