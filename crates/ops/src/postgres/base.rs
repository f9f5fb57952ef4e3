//! Backing up a cluster: the files while the server runs, then its log, then the snapshot.
//!
//! What it is for: a snapshot exists only when every segment that it needs to become consistent is in the archive.
//! What it may not know: how a cluster is read. Where data comes from and goes: `sources::postgres::base` into a capture.

use super::archive::Archive;
use super::{Cluster, KIND};
use crate::backup::{Act, Report, Request, Step, Trouble, troubles_of};
use crate::config::Wal;
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::open::remember;
use repo::ledger::SegmentName;
use repo::{Outcome, Repository, Segments, Warning, percent_path, unpercent_path};
use sources::files::{CacheSpec, Progress};
use sources::postgres::base::{BaseError, BasePlan, Facts, Survey};
use sources::postgres::wal::Name;
use sources::postgres::wire::WireError;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long the server may take to archive what a backup needs.
pub const ARCHIVE_PATIENCE: Duration = Duration::from_secs(300);
const ARCHIVE_TICK: Duration = Duration::from_millis(100);

/// Takes a physical backup. When this returns `Ok` with a snapshot, the snapshot and the log that it needs survive power loss.
///
/// # Errors
/// `source-unreachable`, `source-refused`, `source-failed`, `source-foreign`; `wal-not-archived` when the server does not
/// archive what the backup needs, all exit 20; whatever the repository returns. There is no snapshot then.
pub fn backup(
    ctx: &Ctx,
    repository: &Repository,
    cluster: &Cluster,
    request: &Request,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    let began = ctx.world.clock.monotonic();
    let plan = BasePlan {
        server: cluster.server.clone(),
        data_directory: cluster.data_directory.clone(),
        count_tables: cluster.count_tables.clone(),
        cache: Some(CacheSpec {
            dir: ctx.cache_dir.join("files"),
            repository: repository.id(),
            host: request.host.clone(),
            rehash_every: cluster.verify_every,
        }),
        scratch: ctx.cache_dir.join("scratch"),
        world: ctx.world.clone(),
    };
    let survey = Survey::take(&plan)?;
    let snapshots = repository.snapshots()?;
    let archive = Archive::open(repository, &cluster.name, &snapshots)?;
    let known = super::snapshots_of(&snapshots, &cluster.name).pop().and_then(|s| s.public.segments.clone());
    if let Some(known) = known.filter(|known| known.origin != survey.system().to_string()) {
        let what = format!(
            "{} is the cluster {}, and the backups of {} are of the cluster {}",
            cluster.server,
            survey.system(),
            cluster.name,
            known.origin
        );
        return Err(Failure::new(Exit::SourceUnreachable, "source-foreign", what)
            .help("give a new cluster a source of its own in the configuration"));
    }
    let paths = vec![survey.path()];
    let mut capture = repository.capture(request.capture_plan(ctx, KIND, &paths))?;
    let based = survey.capture(&plan, &mut capture, &|progress: Progress<'_>| {
        on(Step::Done { entries: progress.entries, bytes: progress.bytes, path: progress.path });
    })?;
    let (troubles, errors, warnings) = troubles_of(&based.files.report.problems);
    let mut remarks = Vec::new();
    let (snapshot, stats) = match request.act {
        Act::Preview => (None, capture.stats()),
        Act::Do => {
            wait_for_log(ctx, &archive, cluster, &based.facts)?;
            let segment = |number| SegmentName { timeline: based.facts.timeline, number };
            let outcome = Outcome {
                warnings: warnings_of(&troubles),
                errors,
                facts: serde_json::to_value(&based.facts).ok(),
                segments: Some(Segments {
                    ledger: archive.ledger(),
                    origin: based.facts.system.clone(),
                    bytes: based.facts.segment_bytes,
                    first: segment(based.facts.first_segment()),
                    last: segment(based.facts.last_segment()),
                }),
            };
            let committed = capture.commit(outcome)?;
            if let Err(e) = based.files.cache.finish(&committed.snapshot.id, &committed.basis) {
                remarks.push(format!("the cache was not written, so the next backup reads every file: {e}"));
            }
            remarks.extend(remember(ctx, repository));
            let stats = committed.snapshot.public.stats.clone();
            (Some(committed.snapshot), stats)
        }
    };
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    let files = Some(based.files.report);
    Ok(Report { snapshot, paths, stats, files, troubles, errors, warnings, remarks, seconds })
}

fn warnings_of(troubles: &[Trouble]) -> Vec<Warning> {
    troubles.iter().map(|t| Warning { path: percent_path(&t.path), what: t.what.clone() }).collect()
}

/// Waits until the archive has every segment that the backup needs. Those that the server does not archive are taken from its
/// directory where they still are.
fn wait_for_log(ctx: &Ctx, archive: &Archive<'_>, cluster: &Cluster, facts: &Facts) -> Result<(), Failure> {
    let (first, last) = (facts.first_segment(), facts.last_segment());
    let began = ctx.world.clock.monotonic();
    loop {
        let missing = archive.missing(facts.timeline, first, last)?;
        let Some(next) = missing.first() else { return Ok(()) };
        if cluster.log == Wal::Off {
            let data = unpercent_path(&facts.data_directory);
            let wal = PathBuf::from(OsStr::from_bytes(&data)).join("pg_wal");
            for number in &missing {
                let name = Name::of(facts.timeline, *number, facts.segment_bytes).to_string();
                archive.take_along(ctx, &wal.join(name))?;
            }
            continue;
        }
        if ctx.world.stop.requested() {
            return Err(repo::RepoError::Stopped.into());
        }
        if ctx.world.clock.monotonic().saturating_sub(began) > ARCHIVE_PATIENCE {
            let name = Name::of(facts.timeline, *next, facts.segment_bytes);
            let what = format!(
                "the server has not archived {name} within {} s, and without it this backup is worth nothing",
                ARCHIVE_PATIENCE.as_secs()
            );
            let help = match facts.standby {
                false => "look at pg_stat_archiver, archive_mode and archive_command of the server, and at its log",
                true => "the primary must archive to the same source; select pg_switch_wal() there if it is idle",
            };
            return Err(Failure::new(Exit::SourceUnreachable, "wal-not-archived", what).help(help));
        }
        ctx.world.clock.sleep(ARCHIVE_TICK);
    }
}

impl From<WireError> for Failure {
    fn from(e: WireError) -> Self {
        let what = e.to_string();
        match e {
            WireError::Unreachable { .. } => Failure::new(Exit::SourceUnreachable, "source-unreachable", what)
                .help("see whether the server runs, and whether host and port of `connect` are right"),
            WireError::Refused { .. } => Failure::new(Exit::SourceUnreachable, "source-refused", what)
                .help("see the server's log, pg_hba.conf and the rights of the role"),
            WireError::Nonsense(_) => Failure::new(Exit::SourceUnreachable, "source-failed", what)
                .help("see whether something else listens there"),
            WireError::Stopped => repo::RepoError::Stopped.into(),
        }
    }
}

impl From<BaseError> for Failure {
    fn from(e: BaseError) -> Self {
        match e {
            BaseError::Server(e) => e.into(),
            BaseError::Repo(e) => e.into(),
            BaseError::Source(what) => Failure::new(Exit::SourceUnreachable, "source-failed", what)
                .help("no snapshot was made; run this on the server's machine, as the user that the server runs as"),
        }
    }
}
