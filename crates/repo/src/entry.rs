//! One thing in a tree: its place, kind and metadata, and how they are written (`docs/format.md` §8.1).
//!
//! It may not know where entries come from (`sources`) nor how their chunks are found (`list`, `tree`).

use crate::error::Result;
use crate::format::{Cursor, put_sized, put_varint, put_zigzag};
use store::Timestamp;

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path key: the absolute path without its leading `/`, each `/` replaced by a zero byte; empty for the root.
    pub key: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content last changed.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name. ACLs are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Owner's name, where known.
    pub user: Option<Vec<u8>>,
    /// Group's name, where known.
    pub group: Option<Vec<u8>>,
    /// The file changed while it was read: its content may mix two states.
    pub changed: bool,
    /// A SQLite database taken through SQLite's backup API.
    pub sqlite: bool,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(FileNode),
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Another name of an earlier file entry.
    HardLink {
        /// Path key of that entry.
        to: Vec<u8>,
    },
}

/// A regular file's content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileNode {
    /// Size in bytes, holes included.
    pub size: u64,
    /// How many chunks hold its data: the next so many ids of the snapshot's content list.
    pub chunks: u64,
    /// BLAKE3 of its data, taken while reading and before chunking; present when there are two chunks or more.
    pub digest: Option<[u8; 32]>,
    /// Where its data lies, for a sparse file; `None` when all of it is data.
    pub extents: Option<Vec<Extent>>,
}

/// A hole followed by data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of hole before the data.
    pub hole: u64,
    /// Bytes of data.
    pub data: u64,
}

impl FileNode {
    /// How many bytes of data its chunks hold.
    pub fn data_bytes(&self) -> u64 {
        match &self.extents {
            None => self.size,
            Some(extents) => extents.iter().fold(0, |sum, e| sum.saturating_add(e.data)),
        }
    }

    /// The stretches of data as (offset in the file, length), in order.
    pub fn stretches(&self) -> Vec<(u64, u64)> {
        match &self.extents {
            None if self.size == 0 => Vec::new(),
            None => vec![(0, self.size)],
            Some(extents) => {
                let mut at = 0u64;
                extents
                    .iter()
                    .map(|e| {
                        let start = at + e.hole;
                        at = start + e.data;
                        (start, e.data)
                    })
                    .collect()
            }
        }
    }
}

/// The path key of an absolute path given as bytes, or `None` when it is not absolute or has `.` or `..` parts.
pub fn key_of_path(path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(b"/")?;
    let parts: Vec<&[u8]> = rest.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
    let sound = parts.iter().all(|part| !matches!(*part, b"." | b"..") && !part.contains(&0));
    sound.then(|| parts.join(&0))
}

/// The absolute path of a path key, as bytes.
pub fn path_of_key(key: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(key.len() + 1);
    path.push(b'/');
    path.extend(key.iter().map(|b| if *b == 0 { b'/' } else { *b }));
    path
}

/// Whether `key` is `dir` itself or something in it.
pub fn is_within(key: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || key.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

/// A path as text, per `docs/format.md` §1: `%XX` for what is not printable UTF-8.
pub fn percent_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for piece in path.utf8_chunks() {
        for c in piece.valid().chars() {
            if c == '%' || c.is_control() {
                let mut buffer = [0u8; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| text.push_str(&format!("%{b:02X}")));
            } else {
                text.push(c);
            }
        }
        piece.invalid().iter().for_each(|b| text.push_str(&format!("%{b:02X}")));
    }
    text
}

/// The bytes of a percent path; anything malformed stands for itself.
pub fn unpercent_path(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let decoded = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        path.push(decoded.unwrap_or(byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    path
}

/// Longest path key, longest symlink target, and most bytes of one extended attribute.
pub const KEY_BYTES_MAX: usize = 1 << 20;
const FIELD_BYTES_MAX: usize = 16 << 20;
const EXTENTS_MAX: usize = 1 << 20;

const TAG_FILE: u8 = 1;
const TAG_DIGEST: u8 = 2;
const TAG_EXTENTS: u8 = 3;
const TAG_SYMLINK: u8 = 4;
const TAG_DEVICE: u8 = 5;
const TAG_XATTRS: u8 = 6;
const TAG_HARD_LINK: u8 = 7;
const TAG_USER: u8 = 8;
const TAG_GROUP: u8 = 9;
const TAG_CHANGED: u8 = 10;
const TAG_SQLITE: u8 = 11;
const TAG_OPTIONAL: u8 = 128;

/// Appends `entry` to a leaf whose previous entry has the key `previous`.
pub fn encode(out: &mut Vec<u8>, entry: &Entry, previous: &[u8]) {
    let shared = entry.key.iter().zip(previous).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    put_sized(out, &entry.key[shared..]);
    out.push(match &entry.node {
        Node::File(_) => 1,
        Node::Dir => 2,
        Node::Symlink { .. } => 3,
        Node::Fifo => 4,
        Node::CharDevice { .. } => 5,
        Node::BlockDevice { .. } => 6,
        Node::HardLink { .. } => 7,
    });
    put_varint(out, u64::from(entry.mode));
    put_varint(out, u64::from(entry.uid));
    put_varint(out, u64::from(entry.gid));
    put_zigzag(out, entry.mtime.secs());
    put_varint(out, u64::from(entry.mtime.nanos()));
    let mut field = Vec::new();
    let mut put_field = |tag: u8, fill: &dyn Fn(&mut Vec<u8>)| {
        field.clear();
        fill(&mut field);
        out.push(tag);
        put_sized(out, &field);
    };
    match &entry.node {
        Node::File(file) => {
            put_field(TAG_FILE, &|f| {
                put_varint(f, file.size);
                put_varint(f, file.chunks);
            });
            if let Some(digest) = &file.digest {
                put_field(TAG_DIGEST, &|f| f.extend_from_slice(digest));
            }
            if let Some(extents) = &file.extents {
                put_field(TAG_EXTENTS, &|f| {
                    for extent in extents {
                        put_varint(f, extent.hole);
                        put_varint(f, extent.data);
                    }
                });
            }
        }
        Node::Symlink { target } => put_field(TAG_SYMLINK, &|f| f.extend_from_slice(target)),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => put_field(TAG_DEVICE, &|f| {
            put_varint(f, u64::from(*major));
            put_varint(f, u64::from(*minor));
        }),
        Node::HardLink { to } => put_field(TAG_HARD_LINK, &|f| f.extend_from_slice(to)),
        Node::Dir | Node::Fifo => {}
    }
    if !entry.xattrs.is_empty() {
        put_field(TAG_XATTRS, &|f| {
            for (name, value) in &entry.xattrs {
                put_sized(f, name);
                put_sized(f, value);
            }
        });
    }
    for (tag, name) in [(TAG_USER, &entry.user), (TAG_GROUP, &entry.group)] {
        if let Some(name) = name {
            put_field(tag, &|f| f.extend_from_slice(name));
        }
    }
    for (tag, set) in [(TAG_CHANGED, entry.changed), (TAG_SQLITE, entry.sqlite)] {
        if set {
            put_field(tag, &|_| {});
        }
    }
    out.push(0);
}

/// The next entry of a leaf whose previous entry has the key `previous`.
///
/// # Errors
/// `Damaged` for anything that no writer makes: keys out of order or with empty, `.` or `..` parts, fields that do not fit the type.
pub fn decode(cursor: &mut Cursor<'_>, previous: Option<&[u8]>) -> Result<Entry> {
    let shared = cursor.varint()?;
    let suffix = cursor.sized()?;
    let shared = usize::try_from(shared).ok().and_then(|n| previous.unwrap_or_default().get(..n));
    let Some(shared) = shared else { return Err(cursor.bad("shares more of a path than there is")) };
    let key = [shared, suffix].concat();
    let sound = key.len() <= KEY_BYTES_MAX
        && (key.is_empty()
            || key.split(|b| *b == 0).all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&b'/')));
    if !sound {
        return Err(cursor.bad(format!("holds an impossible path {:?}", percent_path(&path_of_key(&key)))));
    }
    if previous.is_some_and(|previous| previous >= key.as_slice()) {
        return Err(cursor.bad("holds paths out of order"));
    }
    let kind = cursor.u8()?;
    let mode = cursor.varint32()?;
    let uid = cursor.varint32()?;
    let gid = cursor.varint32()?;
    let secs = cursor.zigzag()?;
    let nanos = cursor.varint32()?;
    if mode > 0o7777 || nanos > 999_999_999 {
        return Err(cursor.bad("holds impossible metadata"));
    }
    let mut file = None;
    let mut digest = None;
    let mut extents = None;
    let mut symlink = None;
    let mut device = None;
    let mut hard_link = None;
    let mut entry = Entry {
        key,
        node: Node::Dir,
        mode,
        uid,
        gid,
        mtime: Timestamp::new(secs, nanos),
        xattrs: Vec::new(),
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    };
    loop {
        let tag = cursor.u8()?;
        if tag == 0 {
            break;
        }
        let field = cursor.sized()?;
        if field.len() > FIELD_BYTES_MAX {
            return Err(cursor.bad("holds a field that is too large"));
        }
        let mut inner = Cursor::new("an entry", field);
        match tag {
            TAG_FILE => file = Some((inner.varint()?, inner.varint()?)),
            TAG_DIGEST => digest = Some(inner.array::<32>()?),
            TAG_EXTENTS => extents = Some(decode_extents(&mut inner)?),
            TAG_SYMLINK => symlink = Some(inner.take(inner.left())?.to_vec()),
            TAG_DEVICE => device = Some((inner.varint32()?, inner.varint32()?)),
            TAG_XATTRS => {
                while !inner.is_empty() {
                    let name = inner.sized()?.to_vec();
                    entry.xattrs.push((name, inner.sized()?.to_vec()));
                }
            }
            TAG_HARD_LINK => hard_link = Some(inner.take(inner.left())?.to_vec()),
            TAG_USER => entry.user = Some(inner.take(inner.left())?.to_vec()),
            TAG_GROUP => entry.group = Some(inner.take(inner.left())?.to_vec()),
            TAG_CHANGED => entry.changed = true,
            TAG_SQLITE => entry.sqlite = true,
            TAG_OPTIONAL.. => continue,
            _ => return Err(cursor.bad(format!("holds a field {tag} that this program does not know"))),
        }
        if !inner.is_empty() {
            return Err(cursor.bad(format!("holds a field {tag} that is too long")));
        }
    }
    entry.node = match (kind, file, symlink, device, hard_link) {
        (1, Some((size, chunks)), ..) => Node::File(FileNode { size, chunks, digest, extents }),
        (2, ..) => Node::Dir,
        (3, _, Some(target), ..) => Node::Symlink { target },
        (4, ..) => Node::Fifo,
        (5, _, _, Some((major, minor)), _) => Node::CharDevice { major, minor },
        (6, _, _, Some((major, minor)), _) => Node::BlockDevice { major, minor },
        (7, .., Some(to)) => Node::HardLink { to },
        _ => return Err(cursor.bad(format!("holds an entry of kind {kind} without its fields"))),
    };
    if let Node::File(file) = &entry.node {
        let ends = file.extents.as_ref().is_none_or(|extents| {
            let end = extents.iter().try_fold(0u64, |at, e| at.checked_add(e.hole)?.checked_add(e.data));
            end.is_some_and(|end| end <= file.size)
        });
        if !ends {
            return Err(cursor.bad("holds a sparse file whose data lies behind its end"));
        }
    }
    Ok(entry)
}

fn decode_extents(cursor: &mut Cursor<'_>) -> Result<Vec<Extent>> {
    let mut extents = Vec::new();
    while !cursor.is_empty() {
        if extents.len() == EXTENTS_MAX {
            return Err(cursor.bad("holds a sparse file with too many stretches"));
        }
        extents.push(Extent { hole: cursor.varint()?, data: cursor.varint()? });
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(key: &[u8], node: Node) -> Entry {
        Entry {
            key: key.to_vec(),
            node,
            mode: 0o4755,
            uid: 0,
            gid: u32::MAX,
            mtime: Timestamp::new(-5, 999_999_999),
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255])],
            user: Some(b"root".to_vec()),
            group: None,
            changed: true,
            sqlite: false,
        }
    }

    #[test]
    fn every_kind_of_entry_survives() {
        let extents = Some(vec![Extent { hole: 5, data: 10 }, Extent { hole: 0, data: 1 }]);
        let file = FileNode { size: 1 << 40, chunks: 7, digest: Some([3; 32]), extents };
        let entries = [
            plain(b"", Node::Dir),
            plain(b"a", Node::File(file)),
            plain(b"a\x01", Node::Symlink { target: b"\xff/..".to_vec() }),
            plain(b"ab\0c", Node::Fifo),
            plain(b"ab\0d", Node::CharDevice { major: 1, minor: 3 }),
            plain(b"ab\0e", Node::BlockDevice { major: 8, minor: 300 }),
            plain(b"b\nnew", Node::HardLink { to: b"a".to_vec() }),
        ];
        let mut out = Vec::new();
        let mut previous: &[u8] = b"";
        for entry in &entries {
            encode(&mut out, entry, previous);
            previous = &entry.key;
        }
        let mut cursor = Cursor::new("test", &out);
        let mut previous: Option<Vec<u8>> = None;
        for entry in &entries {
            let read = decode(&mut cursor, previous.as_deref()).expect("decodes");
            assert_eq!(&read, entry);
            previous = Some(read.key);
        }
        assert!(cursor.is_empty());
    }

    #[test]
    fn paths_that_would_escape_are_refused() {
        for key in [&b"a\0..\0b"[..], b"..", b".", b"a\0", b"\0a", b"a\0\0b", b"a/b"] {
            let mut out = Vec::new();
            encode(&mut out, &plain(key, Node::Dir), b"");
            assert!(decode(&mut Cursor::new("test", &out), None).is_err(), "{key:?}");
        }
    }

    #[test]
    fn no_cut_or_flip_makes_a_reader_panic() {
        let file = FileNode { size: 9, chunks: 1, digest: None, extents: Some(vec![Extent { hole: 1, data: 8 }]) };
        let mut out = Vec::new();
        encode(&mut out, &plain(b"some\0path", Node::File(file)), b"some\0other");
        for at in 0..out.len() {
            decode(&mut Cursor::new("test", &out[..at]), Some(b"some\0other")).expect_err("cut");
            for bit in 0..8 {
                let mut bad = out.clone();
                bad[at] ^= 1 << bit;
                decode(&mut Cursor::new("test", &bad), Some(b"some\0other")).ok();
            }
        }
    }

    #[test]
    fn path_keys_sort_as_a_walk_does() {
        let mut keys: Vec<_> = ["/a-b", "/a", "/a/b", "/", "/a/b/c", "/a.x"]
            .iter()
            .map(|p| key_of_path(p.as_bytes()).expect("absolute"))
            .collect();
        keys.sort();
        let paths: Vec<_> = keys.iter().map(|k| String::from_utf8(path_of_key(k)).expect("text")).collect();
        assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/a-b", "/a.x"]);
        assert!(is_within(b"a\0b", b"a") && !is_within(b"ab", b"a") && is_within(b"a", b""));
        assert_eq!(key_of_path(b"relative"), None);
        assert_eq!(key_of_path(b"/a/../b"), None);
    }

    #[test]
    fn percent_paths_come_back() {
        for path in [&b"/plain"[..], b"/new\nline", b"/\xff\xfe raw", "/é漢%41".as_bytes(), b"/100%"] {
            assert_eq!(unpercent_path(&percent_path(path)), path);
        }
        assert_eq!(percent_path(b"/a\n\xff%"), "/a%0A%FF%25");
    }
}
