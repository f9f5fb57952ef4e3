//! Entries as people and programs see them: path, kind, mode, owner, size, time.

use repo::{Entry, Node, path_of_key, percent_path};
use serde::Serialize;

/// One thing in a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// Its absolute path, as bytes: how these become text is the reader's business.
    #[serde(skip)]
    pub path: Vec<u8>,
    /// `file`, `dir`, `symlink`, `fifo`, `chardev`, `dev`, as restic calls them; a hard link is a `file`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Size in bytes, of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: u32,
    /// `drwxr-xr-x`.
    pub permissions: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Group's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When its content changed, RFC 3339.
    pub mtime: String,
    /// Where a symbolic link points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linktarget: Option<String>,
    /// The path of which a hard link is another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardlink: Option<String>,
    /// The file changed while it was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

impl Listing {
    /// What there is to say of an entry.
    pub fn of(entry: &Entry) -> Listing {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Listing {
            path: path_of_key(&entry.key),
            kind: kind(&entry.node),
            size: match &entry.node {
                Node::File(file) => Some(file.size),
                _ => None,
            },
            mode: entry.mode,
            permissions: permissions(&entry.node, entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.as_ref().map(text),
            group: entry.group.as_ref().map(text),
            mtime: repo::time::text(entry.mtime),
            linktarget: match &entry.node {
                Node::Symlink { target } => Some(percent_path(target)),
                _ => None,
            },
            hardlink: match &entry.node {
                Node::HardLink { to } => Some(percent_path(&path_of_key(to))),
                _ => None,
            },
            changed: entry.changed,
        }
    }
}

/// What a thing is, in one word.
pub fn kind(node: &Node) -> &'static str {
    match node {
        Node::File(_) | Node::HardLink { .. } => "file",
        Node::Dir => "dir",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::CharDevice { .. } => "chardev",
        Node::BlockDevice { .. } => "dev",
    }
}

/// `-rwxr-sr-t`, as `ls -l` writes it.
fn permissions(node: &Node, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match node {
        Node::File(_) | Node::HardLink { .. } => '-',
        Node::Dir => 'd',
        Node::Symlink { .. } => 'l',
        Node::Fifo => 'p',
        Node::CharDevice { .. } => 'c',
        Node::BlockDevice { .. } => 'b',
    });
    for (shift, special, on, off) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => on,
            (true, false) => off,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_in_ls() {
        for (mode, text) in
            [(0o644, "-rw-r--r--"), (0o4755, "-rwsr-xr-x"), (0o1000, "---------T"), (0o2070, "----rws---")]
        {
            assert_eq!(permissions(&Node::File(repo::FileNode::default()), mode), text);
        }
        assert_eq!(permissions(&Node::Dir, 0o1777), "drwxrwxrwt");
    }
}
