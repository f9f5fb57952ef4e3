//! PostgreSQL as a source: backing it up, keeping its log, bringing it back to a moment.
//!
//! What it is for: `archive` keeps the log and knows what it covers; `base` takes a cluster and waits for its log; `pitr`
//! chooses what to restore; `recover` restores it, or a table of it.
//! What it may not know: terminals, configuration files. Where data comes from and goes: `sources::postgres` knows servers and
//! bytes; `repo` keeps both.
//!
//! Log is bound to physical backups of the same cluster, and to nothing else: there is no way to ask for a dump and a moment.

pub mod archive;
pub mod base;
pub mod pitr;
pub mod recover;

use repo::{DomainId, Repository, Snapshot};
use sources::postgres::wire::Server;
use std::path::PathBuf;

/// The kind of snapshots of clusters.
pub const KIND: &str = "postgres";

/// A cluster that is protected.
#[derive(Clone)]
pub struct Cluster {
    /// Platform and source: `shop/db`. Its archive is called after it.
    pub name: String,
    /// Whom to ask.
    pub server: Server,
    /// Where its data directory is seen from here, when that differs from what the server says.
    pub data_directory: Option<PathBuf>,
    /// Where its programs are; looked for when `None`.
    pub bin: Option<PathBuf>,
    /// Tables whose rows are counted at each backup.
    pub count_tables: Vec<String>,
    /// How it is kept.
    pub log: Log,
}

/// Where the log of a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// The server archives it, by `wal push`.
    Archived,
    /// It does not: each backup takes along what it needs, and only the moments of backups can be restored.
    WithBackups,
}

impl Cluster {
    /// What its snapshots name as what they protect.
    pub fn path(&self) -> String {
        path_of(&self.name)
    }
}

/// What the snapshots of a source name as what they protect.
pub fn path_of(source: &str) -> String {
    format!("postgres:{source}")
}

/// The snapshots of a source, in the order of commits.
pub fn snapshots_of<'s>(snapshots: &'s [Snapshot], source: &str) -> Vec<&'s Snapshot> {
    let path = path_of(source);
    snapshots.iter().filter(|snapshot| snapshot.public.kind == KIND && snapshot.public.paths.contains(&path)).collect()
}

/// The domain that a source's archive is in: that of its snapshots; before there are any, that of whoever asks.
fn domain_of(repository: &Repository, snapshots: &[&Snapshot]) -> Option<DomainId> {
    snapshots.last().map(|snapshot| snapshot.domain).or_else(|| repository.keyring().domain_of_writer())
}
