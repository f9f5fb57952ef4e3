//! How far an archive is behind its server, and what the server keeps because of it.
//!
//! What it may not know: how the log gets into the archive. Where data comes from and goes: a question to the server, and what
//! is known of the archive; numbers for people.

use super::Cluster;
use super::archive::Status;
use crate::ctx::Ctx;
use crate::failure::Failure;
use serde::Serialize;
use sources::postgres::Lsn;
use sources::postgres::wire::{Connection, WireError, literal};

/// How far an archive is behind its server.
#[derive(Clone, Debug, Serialize)]
pub struct Lag {
    /// Up to where the server has written its log.
    pub server: Lsn,
    /// Up to where the archive has it, on its newest timeline; none where it has nothing.
    pub archive: Option<Lsn>,
    /// What lies between.
    pub behind_bytes: Option<u64>,
    /// The slot that the log is received by; none where there is no such slot.
    pub slot: Option<Held>,
}

/// What a server keeps for a slot.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Whether somebody receives by it now.
    pub in_use: bool,
    /// What the server thinks of it: `reserved`, `extended`, `unreserved`, `lost`.
    pub status: String,
    /// How much log is kept for it; none where it is lost.
    pub bytes: Option<u64>,
}

/// Asks the server of a cluster whose archive is like this.
///
/// # Errors
/// `source-unreachable`, `source-refused`.
pub fn lag(ctx: &Ctx, cluster: &Cluster, archive: &Status) -> Result<Lag, Failure> {
    let mut server = Connection::open(&cluster.server, &ctx.world.stop)?;
    let written = written(&mut server)?;
    let slot = server.query(&format!(
        "select active::text, wal_status, greatest(pg_wal_lsn_diff({}::pg_lsn, restart_lsn), 0)::bigint \
         from pg_replication_slots where slot_name = {}",
        literal(&written.to_string()),
        literal(&cluster.receiving.slot)
    ))?;
    let slot = slot.into_iter().next().map(|row| {
        let column = |n: usize| row.get(n).cloned().flatten();
        Held {
            name: cluster.receiving.slot.clone(),
            in_use: column(0).as_deref() == Some("true"),
            status: column(1).unwrap_or_else(|| "lost".into()),
            bytes: column(2).and_then(|text| text.parse().ok()),
        }
    });
    let newest = archive.ranges.iter().chain(&archive.tails).max_by_key(|range| (range.timeline, range.end));
    let reached = newest.map(|range| range.end);
    let behind_bytes = reached.map(|end| written.0.saturating_sub(end.0));
    Ok(Lag { server: written, archive: reached, behind_bytes, slot })
}

/// Up to where a server has its log.
pub(super) fn written(server: &mut Connection) -> Result<Lsn, WireError> {
    let here = "case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_flush_lsn() end";
    // A standby that fetches its log from elsewhere has received nothing.
    let written = server.value(&format!("select coalesce({here}, pg_last_wal_replay_lsn())"))?;
    Ok(written.and_then(|text| text.parse().ok()).unwrap_or_default())
}
