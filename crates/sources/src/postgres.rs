//! PostgreSQL: a cluster while it is being written to, its WAL, and both of them back as a server that recovers.
//!
//! `wire` talks to a server, by `socket` and `tls`; `replication` receives its log; `control` and `pages` know the bytes of a
//! data directory, `layout` its files, `wal` the bytes of a segment; `base` takes a cluster into a [`repo::Capture`], from its
//! disk or, by `remote` and `tar`, from its server; `cluster` makes a data directory of a snapshot, ready to recover; `tools`
//! finds the programs of a major version, and `scratch` runs a private server with them; `dump` takes a database with
//! `pg_dump`, run by `client`; `script` knows the SQL of such programs and `toc` their tables of contents; `census` asks what
//! is in a server.
//!
//! It may not know policies, schedules, where an archive lies, nor which backup suits a target: `ops` does.

pub mod base;
pub mod census;
pub mod client;
pub mod cluster;
pub mod control;
pub mod dump;
mod layout;
pub mod pages;
mod remote;
pub mod replication;
pub mod scratch;
pub mod script;
mod socket;
mod tar;
pub mod tls;
pub mod toc;
pub mod tools;
pub mod wal;
pub mod wire;

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log (PostgreSQL documentation, "pg_lsn Type").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Text that is no position.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no position in the write-ahead log: write it as 0/3000060")]
pub struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Lsn, NotAnLsn> {
        let bad = || NotAnLsn(text.to_owned());
        let half = |text: &str| {
            let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        Ok(Lsn(half(high).ok_or_else(bad)? << 32 | half(low).ok_or_else(bad)?))
    }
}

impl serde::Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_does() {
        for (text, number) in [("0/3000060", 0x300_0060), ("16/B374D848", 0x16_b374_d848), ("0/0", 0)] {
            let lsn: Lsn = text.parse().expect("parses");
            assert_eq!((lsn.0, lsn.to_string().as_str()), (number, text));
        }
        for text in ["", "/", "1/", "x/1", "1/123456789", "+1/2", "1/2/3"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
