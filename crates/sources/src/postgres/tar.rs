//! Headers of a tar archive as a server writes one (PostgreSQL source, `port/tar.c`; POSIX, "ustar Interchange Format").
//!
//! It reads nothing: a block in, a member out. Where a server says something that it never says, that is an error.

/// What a tar archive is made of.
pub const BLOCK_BYTES: usize = 512;

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, relative to what the archive is of, without a slash at the end.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// How many bytes follow.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed last, in seconds since 1970.
    pub changed_secs: i64,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}

/// A block that is no header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a header of its archive makes no sense: {0}")]
pub struct BadHeader(&'static str);

impl Member {
    /// What a header says; `None` for a block of zeros, which ends an archive.
    ///
    /// # Errors
    /// [`BadHeader`].
    pub fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Option<Member>, BadHeader> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        const SUM: std::ops::Range<usize> = 148..156;
        let counted = |(at, byte): (usize, &u8)| u64::from(if SUM.contains(&at) { b' ' } else { *byte });
        let sum: u64 = block.iter().enumerate().map(counted).sum();
        if number(&block[SUM]) != Some(sum) {
            return Err(BadHeader("its checksum is wrong"));
        }
        let kind = match block[156] {
            b'0' | 0 => Kind::File,
            b'5' => Kind::Directory,
            b'2' => Kind::Link,
            _ => return Err(BadHeader("it is of something else than files, directories and links")),
        };
        let field = |from: usize, len: usize| number(&block[from..from + len]).ok_or(BadHeader("a number is none"));
        let small = |from, len| field(from, len)?.try_into().map_err(|_| BadHeader("a number is too large"));
        let mut name = text(&block[345..500]).to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(text(&block[..100]));
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let is_sound = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
        if !name.split(|byte| *byte == b'/').all(is_sound) {
            return Err(BadHeader("its name leads elsewhere"));
        }
        Ok(Some(Member {
            name: name.to_vec(),
            kind,
            size: if kind == Kind::File { field(124, 12)? } else { 0 },
            mode: small(100, 8)?,
            uid: small(108, 8)?,
            gid: small(116, 8)?,
            changed_secs: i64::try_from(field(136, 12)?).map_err(|_| BadHeader("its time is too far away"))?,
        }))
    }
}

/// Text up to a zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in the 256 digits that servers use for large ones.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let mut digits = std::iter::once(first & 0x7f).chain(rest.iter().copied());
        return digits.try_fold(0_u64, |all, digit| all.checked_mul(256)?.checked_add(digit.into()));
    }
    let digits = text(field).trim_ascii();
    let good = digits.iter().all(|byte| (b'0'..=b'7').contains(byte));
    let add = |all: u64, digit: &u8| all.checked_mul(8)?.checked_add(u64::from(digit - b'0'));
    if good { digits.iter().try_fold(0, add) } else { None }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header as servers write it.
    pub fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000600 ");
        put(108, "0000144 ");
        put(116, "0000145 ");
        put(124, &format!("{size:011o} "));
        put(136, "14717320000 ");
        put(257, "ustar\x0000");
        put(265, "postgres");
        block[156] = kind;
        let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o} ").as_bytes());
        block
    }

    #[test]
    fn a_header_says_what_a_member_is() {
        let file = Member::parse(&header("base/5/1249", b'0', 8192)).expect("parses").expect("a member");
        assert_eq!((file.name.as_slice(), file.kind, file.size), (&b"base/5/1249"[..], Kind::File, 8192));
        assert_eq!((file.mode, file.uid, file.gid, file.changed_secs), (0o600, 100, 101, 0o14717320000));
        let dir = Member::parse(&header("./base/5/", b'5', 0)).expect("parses").expect("a member");
        assert_eq!((dir.name.as_slice(), dir.kind), (&b"base/5"[..], Kind::Directory));
        assert_eq!(Member::parse(&[0; BLOCK_BYTES]), Ok(None));
    }

    #[test]
    fn sizes_that_octal_digits_cannot_hold_are_read() {
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        for bad in [&b"9"[..], &[0xff; 12], b""] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_is_damaged_is_refused() {
        for name in ["../x", "/etc/passwd", "a//b", "a/../b", "", "./."] {
            assert!(Member::parse(&header(name, b'0', 0)).is_err(), "{name}");
        }
        assert!(Member::parse(&header("device", b'3', 0)).is_err());
        let mut damaged = header("base/5/1249", b'0', 8192);
        damaged[3] ^= 1;
        assert!(Member::parse(&damaged).is_err());
    }
}
