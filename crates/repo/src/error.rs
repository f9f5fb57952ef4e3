//! What can go wrong in a repository: few kinds, chosen by what the caller does differently.

use crate::id::{ChunkId, SnapshotId};
use store::{Kind, StoreError};

/// A failed repository operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// There is no repository here.
    #[error("no repository at {0}")]
    NoRepository(String),
    /// There is a repository here already.
    #[error("there is a repository at {0} already")]
    AlreadyExists(String),
    /// The repository was made by a later version of the program.
    #[error("the repository at {place} has {what}, which this program does not know")]
    LaterFormat {
        /// Address.
        place: String,
        /// `format 2`, `feature "parity"`.
        what: String,
    },
    /// The key opens nothing here.
    #[error("the key does not open the repository at {0}")]
    WrongKey(String),
    /// The key file or bundle cannot be understood.
    #[error("the key cannot be used: {0}")]
    BadKey(String),
    /// The key at hand does not carry the role that this needs.
    #[error("this needs the {needed} role; the key at hand is a {held} key")]
    NotAuthorised {
        /// Role needed.
        needed: &'static str,
        /// Role held.
        held: String,
    },
    /// An object is damaged, forged or lost.
    #[error("{object} {why}")]
    Damaged {
        /// Its name, or what it is.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// A chunk that something refers to is in no pack.
    #[error("chunk {} is missing from the repository", .0.short())]
    MissingChunk(ChunkId),
    /// Committed heads are gone: lost, hidden or rolled back.
    #[error("the repository lost history: {0}")]
    LostHistory(String),
    /// No snapshot has this name.
    #[error("no snapshot {0:?}")]
    NoSnapshot(String),
    /// Several snapshots begin with this id.
    #[error("snapshot id {name:?} is ambiguous: it could be {}", candidates.iter().map(|c| c.short()).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it could be.
        candidates: Vec<SnapshotId>,
    },
    /// A keeper declared this run dead while it was still at work.
    #[error("this run was fenced by a prune: it was silent for too long")]
    Fenced,
    /// There are two different things of this name: two histories share an archive. Both are kept; do not retry.
    #[error("there are two different versions of {0}")]
    Differs(String),
    /// Somebody else changed the repository at the same time; trying again helps.
    #[error("{0}")]
    Busy(String),
    /// Something outside the repository that feeds or takes data failed.
    #[error("{0}")]
    Outside(#[from] std::io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Stopped,
    /// A limit of the format was exceeded by the caller's data.
    #[error("{0}")]
    Limit(String),
}

impl RepoError {
    /// A damaged object.
    pub fn damaged(object: impl Into<String>, why: impl Into<String>) -> Self {
        RepoError::Damaged { object: object.into(), why: why.into() }
    }

    /// Whether the repository itself is at fault: damaged, incomplete or rolled back.
    pub fn is_damage(&self) -> bool {
        match self {
            RepoError::Damaged { .. } | RepoError::MissingChunk(_) | RepoError::LostHistory(_) => true,
            RepoError::Store(e) => matches!(e.kind, Kind::Corrupt | Kind::Absent),
            _ => false,
        }
    }
}

/// What repository operations return.
pub type Result<T> = std::result::Result<T, RepoError>;
