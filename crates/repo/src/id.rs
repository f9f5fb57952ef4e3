//! Names of things inside a repository, as types that cannot be mixed up.

use std::fmt;

/// Lower-case hexadecimal of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// The bytes that exactly `2 × N` lower-case hex digits stand for.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The id that these hex digits spell, all of them.
            pub fn parse(text: &str) -> Option<Self> {
                unhex(text).map($name)
            }

            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                $name::parse(&text).ok_or_else(|| serde::de::Error::custom(concat!("not a ", stringify!($name))))
            }
        }
    };
}

id!(/// Keyed BLAKE3 of a chunk's bytes.
    ChunkId, 32);
id!(/// BLAKE3 of a pack object.
    PackId, 32);
id!(/// BLAKE3 of a snapshot record.
    SnapshotId, 32);
id!(/// BLAKE3 of a head object.
    HeadId, 32);
id!(/// A repository.
    RepositoryId, 16);
id!(/// A deduplication domain.
    DomainId, 16);
id!(/// One execution of a capture.
    RunId, 16);
id!(/// Announced work.
    IntentId, 16);
id!(/// Who signed: the first 16 bytes of the BLAKE3 of an Ed25519 public key.
    SignerId, 16);
id!(/// The source of a ledger.
    SourceId, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_what_it_wrote_and_nothing_else() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xab, 0xff])), Some([0, 0xab, 0xff]));
        for bad in ["", "0", "00ABff", "zz0000", "00000000"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }
}
