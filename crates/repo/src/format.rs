//! Reading and writing bytes: a cursor that cannot run past the end, and the varints of `docs/format.md` §1.
//!
//! Everything read here is hostile: every length is checked against what is left before anything is allocated.

use crate::error::{RepoError, Result};

/// Reads fields from a slice, in order.
pub struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `bytes`, which are a `what` (for messages).
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes, what }
    }

    /// The error for something that makes no sense here.
    pub fn bad(&self, why: impl Into<String>) -> RepoError {
        RepoError::damaged(self.what, why)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.bad("ends too early"));
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.bad("ends too early"));
        };
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next varint.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.bad("holds a number that is too large"))
    }

    /// The next varint, as a 32-bit number.
    pub fn varint32(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| self.bad("holds a number that is too large"))
    }

    /// The next zigzag varint.
    pub fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// The next bytes behind a varint that says how many.
    pub fn sized(&mut self) -> Result<&'a [u8]> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| self.bad("holds a length that is too large"))?;
        self.take(len)
    }
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` as a zigzag varint.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends the length of `bytes` as a varint, then `bytes`.
pub fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX, -1_000_000_000];
        numbers.iter().for_each(|n| put_varint(&mut out, *n));
        signed.iter().for_each(|n| put_zigzag(&mut out, *n));
        let mut cursor = Cursor::new("test", &out);
        for n in numbers {
            assert_eq!(cursor.varint().expect("reads"), n);
        }
        for n in signed {
            assert_eq!(cursor.zigzag().expect("reads"), n);
        }
        assert!(cursor.is_empty());
    }

    #[test]
    fn numbers_that_never_end_or_overflow_are_refused() {
        assert!(Cursor::new("test", &[0xff; 11]).varint().is_err());
        assert!(Cursor::new("test", &[0x80]).varint().is_err());
        assert!(Cursor::new("test", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint().is_err());
        assert!(Cursor::new("test", &[5, 1, 2]).sized().is_err());
    }
}
