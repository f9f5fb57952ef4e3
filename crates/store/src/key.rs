//! The names of objects. The only place that spells them.

use std::fmt;

/// A family of objects. `docs/format.md` §2 says what is in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shelf {
    /// `backstay.json` and `RECOVERY.txt`.
    Root,
    /// Wrapped keys and certificates.
    Keys,
    /// Data keys of runs.
    Runs,
    /// Sealed chunks.
    Packs,
    /// Sorted tables.
    Index,
    /// Commit records.
    Heads,
    /// Announced work.
    Intents,
    /// Packs about to be swept.
    Condemned,
    /// Ordered archives.
    Ledger,
    /// Audit and evidence.
    Events,
}

impl Shelf {
    /// Every shelf, in the order in which a copy must be made: what refers comes after what is referred to.
    pub const ALL: [Shelf; 10] = [
        Shelf::Keys,
        Shelf::Runs,
        Shelf::Packs,
        Shelf::Index,
        Shelf::Ledger,
        Shelf::Events,
        Shelf::Condemned,
        Shelf::Intents,
        Shelf::Heads,
        Shelf::Root,
    ];

    /// The most bytes that an object of this family may have: what is larger was not made by us, and is not read.
    pub fn bytes_max(self) -> u64 {
        match self {
            Shelf::Packs => 72 << 20,
            Shelf::Index => 512 << 20,
            Shelf::Ledger => (1 << 30) + (1 << 20),
            _ => 65 << 20,
        }
    }

    /// The first part of its objects' names; empty for [`Shelf::Root`].
    pub fn dir(self) -> &'static str {
        match self {
            Shelf::Root => "",
            Shelf::Keys => "keys",
            Shelf::Runs => "runs",
            Shelf::Packs => "packs",
            Shelf::Index => "index",
            Shelf::Heads => "heads",
            Shelf::Intents => "intents",
            Shelf::Condemned => "condemned",
            Shelf::Ledger => "ledger",
            Shelf::Events => "events",
        }
    }
}

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    shelf: Shelf,
    name: String,
}

impl Key {
    /// The object `name` on `shelf`; `name` is what stands behind the shelf's directory, without a pack's fan-out:
    /// `Key::new(Shelf::Packs, "abcd…")` is `packs/ab/abcd…`. `None` unless the name is made of
    /// 1 to 200 characters `a-z A-Z 0-9 . - _` in parts between single `/`, no part beginning with a dot.
    pub fn new(shelf: Shelf, name: impl Into<String>) -> Option<Key> {
        let name = name.into();
        let good_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let depth = name.split('/').count();
        let depth_max = if shelf == Shelf::Ledger { 3 } else { 1 };
        let fan_out = shelf != Shelf::Packs || name.len() >= 2;
        (name.len() <= 200 && depth <= depth_max && fan_out && name.split('/').all(good_part))
            .then_some(Key { shelf, name })
    }

    /// The object at `path` (as [`Key::path`] gives it), or `None` when no object has such a name.
    pub fn from_path(path: &str) -> Option<Key> {
        let Some((dir, rest)) = path.split_once('/') else { return Key::new(Shelf::Root, path) };
        let shelf = Shelf::ALL.into_iter().find(|shelf| *shelf != Shelf::Root && shelf.dir() == dir)?;
        if shelf != Shelf::Packs {
            return Key::new(shelf, rest);
        }
        let (fan, name) = rest.split_once('/')?;
        name.starts_with(fan).then(|| Key::new(shelf, name)).flatten().filter(|_| fan.len() == 2)
    }

    /// Which family it belongs to.
    pub fn shelf(&self) -> Shelf {
        self.shelf
    }

    /// Its name on the shelf.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lives in a repository, with `/` between the parts.
    pub fn path(&self) -> String {
        match self.shelf {
            Shelf::Root => self.name.clone(),
            Shelf::Packs => format!("packs/{}/{}", &self.name[..2], self.name),
            shelf => format!("{}/{}", shelf.dir(), self.name),
        }
    }

    /// The BLAKE3 that the object's bytes must have, when its name carries one (the last 64 hex digits).
    pub fn digest(&self) -> Option<[u8; 32]> {
        let last = self.name.rsplit(['.', '/']).next()?;
        if last.len() != 64 || last.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        blake3::Hash::from_hex(last).ok().map(|hash| *hash.as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip_through_their_path() {
        let hash = "ab".repeat(32);
        for (shelf, name) in [
            (Shelf::Root, "backstay.json".to_string()),
            (Shelf::Packs, hash.clone()),
            (Shelf::Keys, format!("cert-00.{hash}")),
            (Shelf::Ledger, format!("00ff/00000001/0000.aa.{hash}")),
        ] {
            let key = Key::new(shelf, name).expect("a good name");
            assert_eq!(Key::from_path(&key.path()), Some(key));
        }
    }

    #[test]
    fn names_that_could_leave_the_shelf_are_refused() {
        for name in ["", ".", "..", "../x", "a/../b", "/a", "a//b", ".tmp", "a b", "a\0", "ä"] {
            assert_eq!(Key::new(Shelf::Ledger, name), None, "{name:?}");
        }
        assert_eq!(Key::new(Shelf::Heads, "a/b"), None);
        assert_eq!(Key::from_path("packs/ab/cd00"), None);
        assert_eq!(Key::from_path("nowhere/x"), None);
    }

    #[test]
    fn the_digest_is_the_last_part() {
        let hash = "0f".repeat(32);
        let key = Key::new(Shelf::Runs, format!("aa.{hash}")).expect("a good name");
        assert_eq!(key.digest(), Some([0x0f; 32]));
        assert_eq!(Key::new(Shelf::Root, "backstay.json").expect("good").digest(), None);
    }
}
