//! What a program writes, as one file: `backup --stdin`.
//!
//! It may not know who writes. A stream that fails is an error, never a shorter file.

use std::io::Read;

use repo::{Capture, Entry, FileNode, Node, RepoError, Result, Shape, key_of_path};
use store::{Timestamp, World};

use crate::files::meta::Names;

/// What a stream is stored as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPlan {
    key: Vec<u8>,
}

/// A name that cannot be a path.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot be the name of a file: it needs names between slashes, without . and ..")]
pub struct BadName(String);

impl StreamPlan {
    /// A file of this name; with slashes in it, in these directories.
    ///
    /// # Errors
    /// [`BadName`] when it is empty or has parts `.` or `..`.
    pub fn named(name: &str) -> std::result::Result<StreamPlan, BadName> {
        let bad = || BadName(name.to_owned());
        let path = format!("/{}", name.trim_start_matches('/'));
        let key = key_of_path(path.as_bytes()).filter(|key| !key.is_empty() && !name.ends_with('/')).ok_or_else(bad)?;
        Ok(StreamPlan { key })
    }

    /// Its absolute path, as bytes.
    pub fn path(&self) -> Vec<u8> {
        repo::path_of_key(&self.key)
    }
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// How many bytes.
    pub bytes: u64,
}

/// Reads `from` to its end into one file that only its owner may read, dated now. Commits nothing.
///
/// # Errors
/// `Outside` when reading fails: the caller must not commit then. `Stopped`; whatever the repository returns.
pub fn capture_stream(
    plan: &StreamPlan,
    from: &mut dyn Read,
    into: &mut Capture<'_>,
    (world, on): (&World, &dyn Fn(u64)),
) -> Result<Streamed> {
    let now = world.clock.now();
    let names = Names::of_system();
    let above = plan.key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    for end in above {
        into.entry(&own_entry(plan.key[..end].to_vec(), Node::Dir, now, &names))?;
    }
    let mut cutter = into.cutter();
    let measured = cutter.cut(Shape::Stream, from, &mut |cut| {
        if world.stop.requested() {
            return Err(RepoError::Stopped);
        }
        on(cut.data.len() as u64);
        into.chunk(cut)
    })?;
    let digest = (measured.chunks > 1).then_some(measured.digest);
    let node = Node::File(FileNode { size: measured.bytes, chunks: measured.chunks, digest, extents: None });
    into.entry(&own_entry(plan.key.clone(), node, now, &names))?;
    Ok(Streamed { bytes: measured.bytes })
}

/// An entry that belongs to whoever runs this.
pub(crate) fn own_entry(key: Vec<u8>, node: Node, now: Timestamp, names: &Names) -> Entry {
    let mode = if node == Node::Dir { 0o700 } else { 0o600 };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut entry = Entry {
        key,
        node,
        mode,
        uid,
        gid,
        mtime: now,
        xattrs: Vec::new(),
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    };
    names.put_into(&mut entry);
    entry
}
