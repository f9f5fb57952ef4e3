//! The repository: format and engine.
//!
//! What it is for: chunks and entries go in through a [`Capture`] and come out through a [`SnapshotReader`]; in between
//! they are sealed, indexed, kept, verified, pruned and copied. `docs/format.md` is its specification.
//! What it may not know: sources, configuration, people, clocks other than [`store::World`]'s, threads other than its lanes.
//! Where data comes from and goes: from `sources` to [`store::Store`], and back.
#![warn(missing_docs)]
// The order of a hash is another in every run, and a simulation must be repeatable.
#![warn(clippy::iter_over_hash_type)]

mod b64;
mod browse;
mod capture;
mod chunk;
mod crypt;
mod entry;
mod envelope;
mod error;
mod events;
mod forget;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
#[cfg(test)]
mod hostile;
mod id;
mod index;
mod intent;
mod keys;
mod lanes;
pub mod ledger;
mod list;
mod pack;
mod pipeline;
mod prune;
mod read;
mod recent;
mod repair;
mod replicate;
mod repository;
pub mod retain;
mod runs;
mod seal;
mod snapshot;
mod stats;
pub mod time;
mod tree;
mod verify;

pub use b64::{decode as unbase64, encode as base64};
pub use browse::{Browse, Gap, Leaf};
pub use capture::{Basis, Capture, CapturePlan, Committed, Outcome};
pub use chunk::{Cut, Cutter, Measured, Shape, WHOLE_BYTES_MAX};
pub use entry::{Entry, Extent, FileNode, Node, is_within, key_of_path, path_of_key, percent_path, unpercent_path};
pub use envelope::Certificate;
pub use error::{RepoError, Result};
pub use events::{Removal, Removed};
pub use forget::Annotation;
pub use head::{Snapshot, Verified};
pub use id::{
    ChunkId, DomainId, HeadId, IntentId, PackId, RepositoryId, RunId, SignerId, SnapshotId, SourceId, hex, unhex,
};
pub use index::Place;
pub use intent::{Process, Work};
pub use keys::{Bundle, Credential, Keyring, Role, is_protected_key, protect_key, unprotect_key};
pub use list::List;
pub use pipeline::Assurance;
pub use prune::{Act, Grace, Life, MaxUnused, PrunePlan, PruneReport, PruneStep};
pub use read::{Opener, Reading, Sink, SnapshotReader, Want};
pub use recent::Recent;
pub use repair::MendReport;
pub use replicate::{CopyReport, CopyStep, replicate};
pub use repository::{FORMAT, History, Layout, PackSize, Repository};
pub use seal::Compression;
pub use snapshot::{Public, Segments, Stats, Status, Warning};
pub use stats::{Leftovers, RepositoryStats};
pub use tree::{Located, Walk};
pub use verify::{Depth, Share, SnapshotDamage, VerifyPlan, VerifyProblem, VerifyReport, VerifyStep, verify_keyless};
