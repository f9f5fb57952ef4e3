//! A second copy of a repository: the same sealed objects in another place.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::open::Locator;
use crate::verify;
use repo::{Act, CopyReport, CopyStep, RepoError, replicate};
use serde::Serialize;
use store::{MemStore, NetworkPolicy, Store};

/// Whether the copy is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// Every object, and its digest compared with its name.
    All,
    /// It is not.
    Nothing,
}

/// What is asked of `copy`.
pub struct CopyRequest {
    /// The repository.
    pub from: Locator,
    /// Where the copy is, or is to be.
    pub to: Locator,
    /// Whether anything is to change.
    pub act: Act,
    /// Whether the copy is read back.
    pub read_back: ReadBack,
}

/// What was copied.
#[derive(Serialize)]
pub struct CopyOutcome {
    /// Nothing was changed.
    pub dry_run: bool,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// The engine's counts.
    #[serde(flatten)]
    pub report: CopyReport,
    /// What reading back found, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<verify::VerifyOutcome>,
}

/// Copies a repository. Needs no key: objects are copied as they are sealed. Never deletes at the destination. When this
/// returns `Ok` and the act was not a preview, the copy can be restored from.
///
/// # Errors
/// `NoRepository` when there is nothing to copy; `other-repository` when the destination is one; whatever the stores
/// return.
pub fn copy(
    ctx: &Ctx,
    request: &CopyRequest,
    on: &(dyn Fn(CopyStep) + Sync),
    on_read_back: verify::On<'_>,
) -> Result<CopyOutcome, Failure> {
    let from = request.from.store(ctx)?;
    let to = destination(ctx, request)?;
    let Some(to) = to else {
        // A preview of a copy that does not exist yet: all of it is missing there.
        let scratch = Store::new(std::sync::Arc::new(MemStore::new()));
        let report = replicate(&from, &scratch, &ctx.world, Act::Preview, on)?;
        let to = request.to.to_string();
        return Ok(CopyOutcome { dry_run: true, from: from.address(), to, report, verified: None });
    };
    let report = replicate(&from, &to, &ctx.world, request.act, on).map_err(|e| match e {
        RepoError::AlreadyExists(place) => {
            Failure::new(Exit::Failed, "other-repository", format!("there is another repository at {place}"))
                .help("name an empty place, or a copy of this repository")
        }
        e => e.into(),
    })?;
    let verified = match (request.read_back, request.act) {
        (ReadBack::All, Act::Do) => Some(verify::verify_without_key(ctx, &to, on_read_back)?),
        _ => None,
    };
    let dry_run = request.act == Act::Preview;
    Ok(CopyOutcome { dry_run, from: from.address(), to: to.address(), report, verified })
}

/// The store at the destination; `None` when there is none yet and nothing may be made.
fn destination(ctx: &Ctx, request: &CopyRequest) -> Result<Option<Store>, Failure> {
    let found = request.to.store(ctx);
    match (found, request.act) {
        (Ok(store), Act::Preview) => Ok(Some(store)),
        (Err(e), Act::Preview) if e.exit == Exit::NoRepository => Ok(None),
        (Err(e), Act::Preview) => Err(e),
        // Completes the directories of a copy that was interrupted, too.
        (_, Act::Do) => request.to.create(ctx, NetworkPolicy::Accept).map(Some),
    }
}
