//! The names in one directory, held compactly and sorted by bytes: a million take some 40 MB.
//!
//! It knows nothing of what the names stand for.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// Names in a directory.
#[derive(Default)]
pub(crate) struct Listing {
    /// The names, each with a zero byte behind it.
    names: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy)]
struct Item {
    /// The first eight bytes, so that most comparisons look no further.
    head: u64,
    at: u32,
    len: u16,
    kind: FileType,
}

impl Listing {
    /// Reads the directory through `buffer`. What was read before an error comes with it.
    pub(crate) fn read(dir: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> (Listing, Result<(), Errno>) {
        let mut listing = Listing::default();
        let mut entries = RawDir::new(dir, buffer);
        let result = loop {
            match entries.next() {
                None => break Ok(()),
                // The directory itself was removed: it is empty.
                Some(Err(Errno::NOENT)) => break Ok(()),
                Some(Err(Errno::INTR)) => {}
                Some(Err(e)) => break Err(e),
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if !matches!(name.to_bytes(), b"." | b".." | b"")
                        && let Err(e) = listing.push(name, entry.file_type())
                    {
                        break Err(e);
                    }
                }
            }
        };
        listing.sort();
        (listing, result)
    }

    /// Exactly these names, which are sorted already.
    pub(crate) fn of(names: &[&[u8]]) -> Listing {
        let mut listing = Listing::default();
        for name in names {
            let name = std::ffi::CString::new(*name).expect("path keys have zero bytes between names only");
            // A handful of names always fits.
            if listing.push(&name, FileType::Unknown).is_err() {
                break;
            }
        }
        listing
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The name at `index`, which must be below `len`.
    pub(crate) fn name(&self, index: usize) -> &CStr {
        let item = &self.items[index];
        let at = item.at as usize;
        CStr::from_bytes_with_nul(&self.names[at..=at + usize::from(item.len)]).expect("stored with its zero byte")
    }

    /// What the directory said the thing at `index` is; it may not have said.
    pub(crate) fn kind(&self, index: usize) -> FileType {
        self.items[index].kind
    }

    /// Where `name` is.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let head = head(name);
        self.items.binary_search_by(|item| item.head.cmp(&head).then_with(|| self.bytes(item).cmp(name))).ok()
    }

    /// Whether any name ends so.
    pub(crate) fn any_ends_with(&self, ends: &[&[u8]]) -> bool {
        self.items.iter().any(|item| ends.iter().any(|end| self.bytes(item).ends_with(end)))
    }

    fn bytes(&self, item: &Item) -> &[u8] {
        &self.names[item.at as usize..item.at as usize + usize::from(item.len)]
    }

    fn push(&mut self, name: &CStr, kind: FileType) -> Result<(), Errno> {
        let bytes = name.to_bytes();
        let at = u32::try_from(self.names.len()).map_err(|_| Errno::OVERFLOW)?;
        let len = u16::try_from(bytes.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.items.push(Item { head: head(bytes), at, len, kind });
        Ok(())
    }

    fn sort(&mut self) {
        let names = &self.names;
        let bytes = |item: &Item| &names[item.at as usize..item.at as usize + usize::from(item.len)];
        self.items.sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| bytes(a).cmp(bytes(b))));
        // A directory that changes while it is read may give a name twice.
        self.items.dedup_by(|a, b| a.head == b.head && bytes(a) == bytes(b));
    }
}

// Shorter names are filled up with zero bytes, which no name has: the order stays that of the bytes.
fn head(name: &[u8]) -> u64 {
    let mut head = [0u8; 8];
    let len = name.len().min(8);
    head[..len].copy_from_slice(&name[..len]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_come_sorted_by_bytes_and_are_found() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut names = vec!["a", "a-b", "ab", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaab", "Z", "é", "-", "aaaaaaa"];
        for name in &names {
            std::fs::write(dir.path().join(name), "").expect("writes");
        }
        let open = std::fs::File::open(dir.path()).expect("opens");
        let mut buffer = vec![MaybeUninit::uninit(); 4096];
        let (listing, result) = Listing::read(open.as_fd(), &mut buffer);
        result.expect("reads");
        names.sort_unstable_by_key(|name| name.as_bytes());
        let listed: Vec<&[u8]> = (0..listing.len()).map(|at| listing.name(at).to_bytes()).collect();
        assert_eq!(listed, names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        for (at, name) in names.iter().enumerate() {
            assert_eq!(listing.find(name.as_bytes()), Some(at));
        }
        assert_eq!(listing.find(b"aaaaaaaac"), None);
        assert!(listing.any_ends_with(&[b"nope", b"-b"]) && !listing.any_ends_with(&[b"nope"]));
    }

    #[test]
    fn a_removed_directory_is_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        let gone = dir.path().join("gone");
        std::fs::create_dir(&gone).expect("makes");
        let open = std::fs::File::open(&gone).expect("opens");
        std::fs::remove_dir(&gone).expect("removes");
        let (listing, result) = Listing::read(open.as_fd(), &mut vec![MaybeUninit::uninit(); 4096]);
        assert!(listing.len() == 0 && result.is_ok());
    }
}
