//! How much there is: in the repository, and in single snapshots.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::ls::go_on;
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use repo::{Node, Repository, RepositoryStats, Snapshot, SnapshotReader};
use serde::Serialize;

/// How many ids of a snapshot's content are looked up at a time.
const IDS_AT_ONCE: u64 = 65_536;
/// Chunks noted before repetitions are thrown out.
const NOTED_MAX: usize = 1 << 20;

/// What is asked of `stats`.
pub struct StatsRequest {
    /// Also what these snapshots hold.
    pub snapshots: Vec<String>,
    /// What `latest` means.
    pub filter: Filter,
}

/// What there is.
#[derive(Serialize)]
pub struct StatsReport {
    /// Where.
    pub repository: String,
    /// Its id.
    pub repository_id: String,
    /// When it was made.
    pub created: String,
    /// Totals.
    #[serde(flatten)]
    pub totals: RepositoryStats,
    /// The sum of what all visible snapshots would restore, in bytes.
    pub restore_size: u64,
    /// `restore_size` divided by the bytes stored.
    pub ratio: f64,
    /// The snapshots that were asked for.
    #[serde(rename = "snapshot_stats", skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<SnapshotStats>,
}

/// What one snapshot holds.
#[derive(Serialize)]
pub struct SnapshotStats {
    /// Which.
    pub snapshot: SnapshotRow,
    /// Entries of all kinds.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes a restore writes, holes included.
    pub restore_size: u64,
    /// Chunks of content, each once.
    pub chunks: u64,
    /// Bytes of these chunks before compression.
    pub raw_data: u64,
    /// `restore_size` divided by `raw_data`.
    pub ratio: f64,
}

/// Counts what there is.
///
/// # Errors
/// For single snapshots `NotAuthorised` without a reader's key; damage.
pub fn stats(ctx: &Ctx, repository: &Repository, request: &StatsRequest) -> Result<StatsReport, Failure> {
    let all = repository.snapshots()?;
    let named = request.snapshots.iter().map(|name| select::pick(repository.world(), &all, name, &request.filter));
    let named: Vec<&Snapshot> = named.collect::<Result<_, _>>()?;
    let totals = repository.stats()?;
    let restore_size = all.iter().map(|snapshot| snapshot.public.stats.bytes).sum();
    let mut details = Vec::new();
    if !named.is_empty() {
        let reading = repository.reading(&ctx.process)?;
        for snapshot in named {
            details.push(measure(ctx, &reading.open(snapshot)?)?);
        }
    }
    Ok(StatsReport {
        repository: repository.store().address(),
        repository_id: repository.id().to_string(),
        created: repository.created().to_owned(),
        ratio: ratio(restore_size, totals.total_bytes),
        totals,
        restore_size,
        details,
    })
}

fn measure(ctx: &Ctx, reader: &SnapshotReader) -> Result<SnapshotStats, Failure> {
    let snapshot = reader.snapshot();
    let (mut files, mut entries, mut restore_size) = (0, 0, 0u64);
    for located in reader.entries(b"") {
        go_on(ctx)?;
        entries += 1;
        if let Node::File(file) = &located?.entry.node {
            files += 1;
            restore_size += file.size;
        }
    }
    // Half an id tells chunks apart as well, and a million of them need 20 MB.
    let mut noted: Vec<([u8; 16], u32)> = Vec::new();
    let mut limit = NOTED_MAX;
    let count = snapshot.public.content.count;
    let mut at = 0;
    while at < count {
        go_on(ctx)?;
        let ids = reader.ids(at, IDS_AT_ONCE.min(count - at))?;
        at += ids.len() as u64;
        if ids.is_empty() {
            break;
        }
        for id in ids {
            let mut half = [0; 16];
            half.copy_from_slice(&id.0[..16]);
            noted.push((half, reader.locate(&id)?.len()));
        }
        if noted.len() > limit {
            noted.sort_unstable();
            noted.dedup();
            limit = noted.len() + NOTED_MAX;
        }
    }
    noted.sort_unstable();
    noted.dedup();
    let raw_data = noted.iter().map(|(_, len)| u64::from(*len)).sum();
    Ok(SnapshotStats {
        snapshot: SnapshotRow::of(snapshot),
        entries,
        files,
        restore_size,
        chunks: noted.len() as u64,
        raw_data,
        ratio: ratio(restore_size, raw_data),
    })
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}
