//! How long a restore will take, learned from those before it.
//!
//! What it is for: [`estimate`], and remembering how long a restore took.
//! What it may not know: terminals, snapshots.
//! Where data comes from and goes: counts of a restore; one small file for each repository and place.
//!
//! The cost of a restore is taken as so much for each file and so much for each byte. Their ratio is fixed; how fast this
//! machine, this repository and the way between them are is one factor, which each restore corrects.

use crate::ctx::Ctx;
use crate::open::{read_memory, state_file, write_memory};
use repo::Repository;
use serde::{Deserialize, Serialize};

/// Seconds that a file costs beside its bytes, on a machine of factor 1: made, named, given its times and owner.
const FILE_SECONDS: f64 = 0.000_1;
/// Bytes per second of a machine of factor 1.
const BYTES_PER_SECOND: f64 = 300.0 * 1_048_576.0;
/// What a machine is taken for that has restored nothing yet: rather too slow.
const FACTOR_UNKNOWN: f64 = 3.0;
/// A shorter restore says more about starting than about restoring.
const COST_MIN: f64 = 0.1;
/// How much of the factor the newest restore decides.
const NEWEST: f64 = 0.5;

/// How long a restore will take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// Whether it rests on a restore that was measured here, or is a cautious guess.
    pub measured: bool,
}

#[derive(Serialize, Deserialize)]
struct Pace {
    v: u32,
    factor: f64,
}

fn cost(files: u64, bytes: u64) -> f64 {
    files as f64 * FILE_SECONDS + bytes as f64 / BYTES_PER_SECOND
}

/// How long it will take to restore so many files with so many bytes in all.
pub fn estimate(ctx: &Ctx, repository: &Repository, files: u64, bytes: u64) -> Estimate {
    let known = known(ctx, repository);
    Estimate { seconds: cost(files, bytes) * known.unwrap_or(FACTOR_UNKNOWN), measured: known.is_some() }
}

/// Remembers that a restore of so much took so long. Best effort: without it the next estimate is a guess.
pub(crate) fn learn(ctx: &Ctx, repository: &Repository, files: u64, bytes: u64, seconds: f64) {
    let cost = cost(files, bytes);
    if cost < COST_MIN || !seconds.is_finite() {
        return;
    }
    let newest = seconds / cost;
    let factor = known(ctx, repository).map_or(newest, |known| known * (1.0 - NEWEST) + newest * NEWEST);
    write_memory(&path(ctx, repository), &Pace { v: 1, factor }).unwrap_or_default();
}

fn path(ctx: &Ctx, repository: &Repository) -> std::path::PathBuf {
    state_file(ctx, repository, "pace")
}

fn known(ctx: &Ctx, repository: &Repository) -> Option<f64> {
    let pace: Pace = read_memory(&path(ctx, repository)).ok()??;
    Some(pace.factor).filter(|factor| pace.v == 1 && factor.is_finite() && *factor > 0.0)
}
