//! Restoring a snapshot, or a part of it, with the questions that must be answered first.
//!
//! What it is for: `backstay restore`: a preview, the refusals (not empty, not confirmed, no room), then the restore.
//! What it may not know: terminals. Where data comes from and goes: a snapshot through `sources::files` into a directory.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::pace::{self, Estimate};
use repo::{Repository, Snapshot, percent_path};
use sources::files::apply::{Preview, preview, restore as apply};
use sources::files::apply::{Progress, RestoreError, RestoreMode, RestorePlan, RestoreReport, TargetError};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Whether to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Say what would be done.
    Preview,
    /// Do it.
    Do,
}

/// What is wanted.
pub struct Request<'s> {
    /// Which snapshot.
    pub snapshot: &'s Snapshot,
    /// What of it, where to, and how.
    pub plan: RestorePlan,
    /// The target as the person typed it.
    pub target: OsString,
    /// What the person typed to confirm that the target is overwritten.
    pub confirmed: Option<OsString>,
    /// Whether to do it.
    pub act: Act,
}

/// What a restore found and did.
pub struct Report {
    /// What was to be done.
    pub preview: Preview,
    /// How long it was thought to take.
    pub estimate: Estimate,
    /// What was done; nothing for a preview.
    pub done: Option<RestoreReport>,
    /// What was damaged in the snapshot's own records: sentences.
    pub warnings: Vec<String>,
}

/// Restores. `planned` is told what there is to do, `on` how far it is, from several threads. When this returns `Ok`
/// everything the report counts is on the disk.
///
/// # Errors
/// `target-not-empty` and `not-confirmed` with exit 6; refusals of the target with exit 21; nothing was touched then.
/// `target-full` with exit 21 on the way; whatever the repository returns.
pub fn restore(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request<'_>,
    planned: &dyn Fn(&Preview, &Estimate),
    on: &(dyn Fn(Progress) + Sync),
) -> Result<Report, Failure> {
    let plan = &request.plan;
    let target = plan.target.display();
    let reading = repository.reading(&ctx.process)?;
    let reader = reading.open(request.snapshot)?;
    let warnings = Vec::new();
    let over = has_something(&plan.target)?;
    let found = match preview(plan, &reader) {
        Err(RestoreError::Target(e @ TargetError::NotEmpty(_))) => {
            let delta = RestorePlan { mode: RestoreMode::Delta(sources::files::apply::Extras::Keep), ..plan.clone() };
            let would = preview(&delta, &reader).map(|would| overwriting(&would)).unwrap_or_default();
            return Err(Failure::new(Exit::Confirmation, "target-not-empty", e.to_string()).help(format!(
                "name a new or empty directory; or restore over what is there with --delta --confirm {}{would}",
                quoted(&request.target)
            )));
        }
        other => other?,
    };
    let estimate = pace::estimate(ctx, repository, found.files, found.bytes);
    planned(&found, &estimate);
    if request.act == Act::Preview {
        return Ok(Report { preview: found, estimate, done: None, warnings });
    }
    found.check_space(plan).map_err(RestoreError::from)?;
    if over && request.confirmed.as_deref() != Some(&*request.target) {
        let what = match &request.confirmed {
            None => format!("restoring into {target} changes what is there, and was not confirmed"),
            Some(typed) => format!("--confirm {} does not name the target {target} as it was typed", quoted(typed)),
        };
        return Err(Failure::new(Exit::Confirmation, "not-confirmed", what).help(format!(
            "look at what would happen with --dry-run, then add --confirm {}{}",
            quoted(&request.target),
            overwriting(&found)
        )));
    }
    let began = ctx.world.clock.monotonic();
    let done = apply(plan, &reader, on)?;
    if plan.mode == RestoreMode::NewTarget && done.problem_count == 0 {
        let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
        pace::learn(ctx, repository, done.files, done.bytes, seconds);
    }
    Ok(Report { preview: found, estimate, done: Some(done), warnings })
}

/// Whether the target is a directory with something in it.
fn has_something(target: &Path) -> Result<bool, Failure> {
    use std::io::ErrorKind as K;
    match std::fs::read_dir(target).and_then(|mut entries| entries.next().transpose()) {
        Ok(entry) => Ok(entry.is_some()),
        Err(e) if matches!(e.kind(), K::NotFound | K::NotADirectory) => Ok(false),
        // What may not be listed may hold anything.
        Err(e) if e.kind() == K::PermissionDenied => Ok(true),
        Err(e) => Err(RestoreError::Target(TargetError::of(target, &e)).into()),
    }
}

fn overwriting(preview: &Preview) -> String {
    let Preview { files, overwritten, .. } = preview;
    let first = preview.overwritten_first.first().map(|path| format!(", the first is {}", percent_path(path)));
    format!(
        " ({files} files would come back, and {overwritten} things there be overwritten{})",
        first.unwrap_or_default()
    )
}

/// Words as a person would type them in a shell.
fn quoted(text: &OsStr) -> String {
    let shown = percent_path(text.as_encoded_bytes());
    let is_plain = !shown.is_empty() && shown.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+=:@%".contains(&b));
    if is_plain { shown } else { format!("'{}'", shown.replace('\'', "'\\''")) }
}

impl From<RestoreError> for Failure {
    fn from(e: RestoreError) -> Self {
        let (what, help) = (e.to_string(), e.help());
        let (exit, code) = match e {
            RestoreError::Repo(e) => return e.into(),
            RestoreError::Target(TargetError::NotEmpty(_)) => (Exit::Confirmation, "target-not-empty"),
            RestoreError::Target(TargetError::NotADirectory(_)) => (Exit::TargetUnreachable, "target-not-a-directory"),
            RestoreError::Target(TargetError::Full { .. } | TargetError::FilledUp { .. }) => {
                (Exit::TargetUnreachable, "target-full")
            }
            RestoreError::Target(_) => (Exit::TargetUnreachable, "target-denied"),
            RestoreError::NotInSnapshot(_) => (Exit::Failed, "not-in-snapshot"),
            RestoreError::Pattern { .. } => (Exit::Usage, "pattern"),
        };
        Failure::new(exit, code, what).help(help)
    }
}
