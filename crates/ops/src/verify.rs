//! Whether what the repository holds is what was put into it.
//!
//! What it is for: runs the engine's verification, and sees to it that no damage met on the way goes without a word.
//! What it may not know: terminals.
//! Where data comes from and goes: a report; and, where all was read and the key allows it, a note on each snapshot.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::open::remember;
use crate::select::{self, Filter};
use repo::{
    Annotation, Depth, MendReport, RepoError, Repository, Share, Snapshot, SnapshotId, VerifyPlan, VerifyProblem,
    VerifyReport, VerifyStep, verify_keyless,
};
use serde::Serialize;
use store::Store;

const CONFIG_NAME: &str = "backstay.json";

/// What is put right before the verification.
pub enum Mend<'a> {
    /// Nothing.
    Nothing,
    /// What can be made again from the repository itself.
    FromItself,
    /// The same, and what another copy still has.
    FromCopy(&'a Store),
}

/// What is asked of `verify`.
pub struct VerifyRequest<'a> {
    /// How deep.
    pub depth: Depth,
    /// Which part of the data.
    pub share: Share,
    /// Only what these snapshots need; none for all.
    pub snapshots: Vec<String>,
    /// What `latest` means.
    pub filter: Filter,
    /// What is put right first.
    pub mend: Mend<'a>,
}

/// What a verification found.
#[derive(Serialize)]
pub struct VerifyOutcome {
    /// Whether everything that was looked at is sound.
    pub ok: bool,
    /// What was looked at and found.
    #[serde(flatten)]
    pub report: VerifyReport,
    /// How many snapshots now say that they were verified.
    pub snapshots_marked: u64,
    /// What was put right first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mended: Option<MendReport>,
}

/// Is told how far the verification is.
pub type On<'a> = &'a (dyn Fn(VerifyStep) + Sync);

/// Verifies an open repository. Damage is in the report, not an error.
///
/// # Errors
/// When the verification itself cannot be done: a snapshot that does not exist, a key that does not suffice, a store that
/// does not answer, a request to stop.
pub fn verify(
    ctx: &Ctx,
    repository: &mut Repository,
    request: &VerifyRequest<'_>,
    on: On<'_>,
) -> Result<VerifyOutcome, Failure> {
    let mended = match &request.mend {
        Mend::Nothing => None,
        Mend::FromItself => Some(repository.mend(None, &ctx.process, &|process| ctx.life_of(process))?),
        Mend::FromCopy(copy) => Some(repository.mend(Some(copy), &ctx.process, &|process| ctx.life_of(process))?),
    };
    if let Some(mended) = &mended {
        // Keys are looked at again; whether the configuration was mended, only the report can tell.
        let rewritten = mended.mended.iter().any(|object| object == CONFIG_NAME);
        repository.warnings.retain(|warning| warning.contains(CONFIG_NAME) && !rewritten);
    }
    let report = match examine(ctx, repository, request, on) {
        Ok(report) => report,
        Err(Examined::Refused(failure)) => return Err(failure),
        Err(Examined::Damaged(e)) => without_history(ctx, repository, &e, on)?,
    };
    let ok = report.problems.is_empty() && report.damaged_snapshots.is_empty();
    let snapshots_marked = if ok { mark(ctx, repository, request) } else { 0 };
    Ok(VerifyOutcome { ok, report, snapshots_marked, mended })
}

/// Gives up for lost the heads that are damaged or gone. Returns how many there were.
///
/// # Errors
/// `NotAuthorised` without a keeper's key; whatever the store returns.
pub fn accept_loss(ctx: &Ctx, repository: &Repository) -> Result<usize, Failure> {
    let lost = repository.accept_loss()?;
    remember(ctx, repository).into_iter().for_each(|why| ctx.remark(why));
    Ok(lost)
}

/// Verifies the digests of a store's objects, without any key.
///
/// # Errors
/// When the store does not answer; a request to stop.
pub fn verify_without_key(ctx: &Ctx, store: &Store, on: On<'_>) -> Result<VerifyOutcome, Failure> {
    let report = verify_keyless(store, &ctx.world, on)?;
    let ok = report.problems.is_empty() && report.damaged_snapshots.is_empty();
    Ok(VerifyOutcome { ok, report, snapshots_marked: 0, mended: None })
}

enum Examined {
    Refused(Failure),
    Damaged(RepoError),
}

impl From<RepoError> for Examined {
    fn from(e: RepoError) -> Self {
        if e.is_damage() { Examined::Damaged(e) } else { Examined::Refused(e.into()) }
    }
}

fn examine(
    ctx: &Ctx,
    repository: &Repository,
    request: &VerifyRequest<'_>,
    on: On<'_>,
) -> Result<VerifyReport, Examined> {
    let ids = match request.snapshots.is_empty() {
        true => None,
        false => {
            let all = repository.snapshots()?;
            let found = request
                .snapshots
                .iter()
                .map(|name| select::pick(repository.world(), &all, name, &request.filter).map(|s| s.id));
            Some(found.collect::<Result<Vec<SnapshotId>, Failure>>().map_err(Examined::Refused)?)
        }
    };
    let plan = VerifyPlan {
        depth: request.depth,
        share: request.share,
        snapshots: ids.as_deref(),
        process: ctx.process.clone(),
    };
    Ok(repository.verify(&plan, on)?)
}

/// What can be said of a repository whose history cannot be read: the error, and every object that is not what its name
/// says.
fn without_history(ctx: &Ctx, repository: &Repository, e: &RepoError, on: On<'_>) -> Result<VerifyReport, Failure> {
    let mut report = verify_keyless(repository.store(), &ctx.world, on)?;
    let object = match e {
        RepoError::Damaged { object, .. } => object.clone(),
        _ => "repository".to_owned(),
    };
    report.problems.insert(
        0,
        VerifyProblem {
            object,
            what: e.to_string(),
            help: "backstay verify --repair-from COPY puts back what another copy of the repository still has".into(),
        },
    );
    let warnings = repository.warnings.iter().map(|warning| VerifyProblem {
        object: "the repository's keys".into(),
        what: warning.clone(),
        help: "backstay verify --repair writes it again".into(),
    });
    report.problems.extend(warnings);
    Ok(report)
}

/// Notes on each snapshot that it was verified, where all of it was read. Best effort: a verification needs no right to
/// write. Returns how many were marked.
fn mark(ctx: &Ctx, repository: &Repository, request: &VerifyRequest<'_>) -> u64 {
    let depth = match (&request.depth, &request.share) {
        (Depth::Digests, _) => "digests",
        (Depth::Decoded, Share::All) => "decoded",
        _ => return 0,
    };
    let Ok(all) = repository.snapshots() else { return 0 };
    let named = |snapshot: &&Snapshot| {
        let mut names = request.snapshots.iter();
        request.snapshots.is_empty()
            || names.any(|name| {
                select::pick(repository.world(), &all, name, &request.filter).is_ok_and(|s| s.id == snapshot.id)
            })
    };
    // A shallower proof does not replace a deeper one.
    let weaker =
        |snapshot: &&Snapshot| !snapshot.verified.as_ref().is_some_and(|v| v.depth == "decoded" && depth == "digests");
    let notes: Vec<Annotation<'_>> = all
        .iter()
        .filter(named)
        .filter(weaker)
        .map(|snapshot| Annotation { snapshot, tags: None, hold: None, verified: Some(depth) })
        .collect();
    match repository.annotate(&notes) {
        Ok(()) => {
            remember(ctx, repository);
            notes.len() as u64
        }
        Err(_) => 0,
    }
}
