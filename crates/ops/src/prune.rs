//! Giving back the space that no snapshot needs.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::open::remember;
use repo::{Act, Grace, MaxUnused, PrunePlan, PruneReport, PruneStep, RepoError, Repository, SnapshotId};
use serde::Serialize;
use std::time::Duration;

/// What is asked of `prune`.
#[derive(Clone, Copy)]
pub struct PruneRequest {
    /// Whether anything is to change.
    pub act: Act,
    /// How much may stay unused.
    pub max_unused: MaxUnused,
    /// How long what is condemned waits.
    pub grace: Grace,
}

/// What a prune did, or would do.
#[derive(Serialize)]
pub struct PruneOutcome {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The engine's counts.
    #[serde(flatten)]
    pub report: PruneReport,
}

/// Is told how far the prune is.
pub type On<'a> = &'a (dyn Fn(PruneStep) + Sync);

/// Condemns what no snapshot needs, and sweeps what was condemned and nobody uses. When this returns `Ok`, what was swept
/// is gone and what is needed is not.
///
/// # Errors
/// `NotAuthorised` without a keeper's key; damage that makes it unknown what is needed: nothing is swept then.
pub fn prune(ctx: &Ctx, repository: &Repository, request: &PruneRequest, on: On<'_>) -> Result<PruneOutcome, Failure> {
    prune_without(ctx, repository, request, &[], on)
}

/// As [`prune`]; in a preview, `forgotten` count as forgotten.
pub(crate) fn prune_without(
    ctx: &Ctx,
    repository: &Repository,
    request: &PruneRequest,
    forgotten: &[SnapshotId],
    on: On<'_>,
) -> Result<PruneOutcome, Failure> {
    let plan = PrunePlan {
        as_if_forgotten: forgotten,
        act: request.act,
        max_unused: request.max_unused,
        grace: request.grace,
        life: &|process| ctx.life_of(process),
        process: ctx.process.clone(),
    };
    let report = patiently(ctx, || repository.prune(&plan, on))?;
    if request.act == Act::Do {
        // A prune may have folded the heads.
        remember(ctx, repository);
    }
    Ok(PruneOutcome { dry_run: request.act == Act::Preview, report })
}

/// Tries again a few times, after a random while, when somebody else is at work: two that begin together both step back.
fn patiently<T>(ctx: &Ctx, mut work: impl FnMut() -> Result<T, RepoError>) -> Result<T, RepoError> {
    const TRIES: u32 = 4;
    for _ in 1..TRIES {
        match work() {
            Err(RepoError::Busy(_)) if !ctx.world.stop.requested() => {
                let draw = u64::from(u16::from_le_bytes(ctx.world.random()));
                ctx.world.clock.sleep(Duration::from_millis(200 + draw % 1800));
            }
            other => return other,
        }
    }
    work()
}
