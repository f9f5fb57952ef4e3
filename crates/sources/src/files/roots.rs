//! The places that were asked for, as absolute paths.
//!
//! It resolves no symbolic links: a root that is one is stored as one, as restic does. Only a trailing slash asks for the
//! directory behind it. Nothing here opens anything but `check_roots`, which looks.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The places to capture: sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    roots: Vec<Root>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    key: Vec<u8>,
    link: Link,
}

/// What to do when a root is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Store the link.
    Store,
    /// Store what it leads to: it was given with a slash at its end.
    Follow,
}

/// Where a path lies in relation to the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// It is a root.
    pub(crate) root: Option<Link>,
    /// Roots lie below it.
    pub(crate) above: bool,
}

impl Position {
    pub(crate) const APART: Position = Position { root: None, above: false };
}

/// A root that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a path")]
pub struct NotAPath(PathBuf);

impl Roots {
    /// The roots that `given` names; relative ones are relative to `current`, which must be absolute. `.` and `..` are
    /// resolved as text.
    ///
    /// # Errors
    /// [`NotAPath`] for an empty one.
    pub fn parse<P: AsRef<Path>>(given: &[P], current: &Path) -> Result<Roots, NotAPath> {
        let mut roots = Vec::with_capacity(given.len());
        for path in given {
            let bytes = path.as_ref().as_os_str().as_bytes();
            let key = absolute_key(bytes, current).ok_or_else(|| NotAPath(path.as_ref().to_path_buf()))?;
            let link = match bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"." {
                true => Link::Follow,
                false => Link::Store,
            };
            roots.push(Root { key, link });
        }
        // Of the same root given twice, the one that follows comes last and stays.
        roots.sort_by(|a, b| a.key.cmp(&b.key).then((a.link == Link::Store).cmp(&(b.link == Link::Store))));
        roots.dedup_by(|later, first| later.key == first.key);
        Ok(Roots { roots })
    }

    /// The absolute paths, as bytes, without those that lie within others.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let mut outer: Vec<&[u8]> = Vec::new();
        for root in &self.roots {
            if !outer.last().is_some_and(|last| repo::is_within(&root.key, last)) {
                outer.push(&root.key);
            }
        }
        outer.into_iter().map(repo::path_of_key).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Where `key` lies.
    pub(crate) fn position(&self, key: &[u8]) -> Position {
        let at = self.roots.partition_point(|root| root.key.as_slice() < key);
        let root = self.roots.get(at).filter(|root| root.key == key);
        let next = self.roots.get(at + usize::from(root.is_some()));
        Position { root: root.map(|root| root.link), above: next.is_some_and(|next| repo::is_within(&next.key, key)) }
    }

    /// The names in directory `key` that are roots or lead to roots, sorted.
    pub(crate) fn names_below(&self, key: &[u8]) -> Vec<&[u8]> {
        let skip = if key.is_empty() { 0 } else { key.len() + 1 };
        let from = self.roots.partition_point(|root| root.key.as_slice() <= key);
        let below = self.roots[from..].iter().take_while(|root| repo::is_within(&root.key, key));
        let mut names: Vec<&[u8]> = below.filter_map(|root| root.key.get(skip..)?.split(|b| *b == 0).next()).collect();
        names.dedup();
        names
    }

    /// Whether `key` is a root or in one.
    pub(crate) fn contain(&self, key: &[u8]) -> bool {
        // Only the roots that are prefixes of the key matter, and there are few of any.
        self.roots.iter().any(|root| repo::is_within(key, &root.key))
    }
}

/// The roots that exist, and those that do not with the reason.
pub fn check_roots(roots: &Roots) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let (mut good, mut missing) = (Vec::new(), Vec::new());
    for root in &roots.roots {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&repo::path_of_key(&root.key)));
        let looked = match root.link {
            Link::Store => std::fs::symlink_metadata(&path),
            Link::Follow => std::fs::metadata(&path),
        };
        match looked {
            Ok(_) => good.push(path),
            Err(e) => missing.push((path, e)),
        }
    }
    (good, missing)
}

fn absolute_key(path: &[u8], current: &Path) -> Option<Vec<u8>> {
    if path.is_empty() || path.contains(&0) {
        return None;
    }
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { current.as_os_str().as_bytes() };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Some(parts.join(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(given: &[&str]) -> Vec<String> {
        let roots = Roots::parse(given, Path::new("/home/me")).expect("parses");
        roots.paths().iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect()
    }

    #[test]
    fn roots_are_absolute_sorted_and_named_once() {
        for (given, expect) in [
            (&["b", "/a/"][..], &["/a", "/home/me/b"][..]),
            (&["."], &["/home/me"]),
            (&["../you//x/./y/..", "/home/you/x"], &["/home/you/x"]),
            (&["/a/b", "/a", "/a-b", "/a/b/c"], &["/a", "/a-b"]),
            (&["/", "/x"], &["/"]),
            (&["/../../etc"], &["/etc"]),
        ] {
            assert_eq!(shown(given), expect, "{given:?}");
        }
        assert!(Roots::parse(&[""], Path::new("/")).is_err());
    }

    #[test]
    fn a_slash_at_the_end_follows_a_link_even_when_given_again_without() {
        for given in [["/l", "/l/"], ["/l/", "/l"]] {
            let roots = Roots::parse(&given, Path::new("/")).expect("parses");
            assert_eq!(roots.position(b"l").root, Some(Link::Follow));
        }
    }

    #[test]
    fn positions_and_names_below() {
        let roots = Roots::parse(&["/a/b", "/a/b/c/d", "/a-b", "/z/y"], Path::new("/")).expect("parses");
        let at = |key: &[u8]| roots.position(key);
        assert_eq!(at(b""), Position { root: None, above: true });
        assert_eq!(at(b"a"), Position { root: None, above: true });
        assert_eq!(at(b"a\0b"), Position { root: Some(Link::Store), above: true });
        assert_eq!(at(b"a\0b\0c"), Position { root: None, above: true });
        assert_eq!(at(b"a\0b\0c\0d"), Position { root: Some(Link::Store), above: false });
        assert_eq!(at(b"a\0bb"), Position::APART);
        assert_eq!(at(b"a-b\0x"), Position::APART);
        assert_eq!(roots.names_below(b""), [&b"a"[..], b"a-b", b"z"]);
        assert_eq!(roots.names_below(b"a\0b"), [&b"c"[..]]);
        assert!(roots.contain(b"a\0b\0x") && !roots.contain(b"a\0x"));
    }
}
