//! Backing up a cluster: the files while the server runs, then its log, then the snapshot.
//!
//! What it is for: a snapshot exists only when every segment that it needs to become consistent is in the archive.
//! What it may not know: how a cluster is read. Where data comes from and goes: `sources::postgres::base` into a capture.

use super::archive::Archive;
use super::{Cluster, KIND};
use crate::backup::{Act, Report, Request, Step, Taken, Way, conclude};
use crate::config::{Method, Wal};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::ledger::SegmentName;
use repo::{Outcome, RepoError, Repository, Segments, unpercent_path};
use sources::files::{CacheSpec, Progress};
use sources::postgres::base::{self, BaseError, BasePlan, Facts, Survey};
use sources::postgres::wal::{Name, WalFile};
use sources::postgres::wire::WireError;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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
        method: match cluster.method {
            Method::Auto => base::Method::Auto,
            Method::Local => base::Method::Local,
            Method::Remote => base::Method::Remote,
        },
        data_directory: cluster.data_directory.clone(),
        brings_log: cluster.log == Wal::Off,
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
    let (way, because) = match survey.is_remote() {
        true => (Way::Server, survey.because().map(str::to_owned)),
        false => (Way::Directory, None),
    };
    on(Step::Begins { way, because: because.as_deref() });
    let mut refused = None;
    let mut keep = |name: &str, bytes: &[u8]| {
        let kept = WalFile::parse(name).map(|file| archive.keep(ctx, (Path::new(name), file), bytes)).transpose();
        refused = kept.err();
        refused.is_none()
    };
    let based = survey.capture(&plan, &mut capture, &mut keep, &|progress: Progress<'_>| {
        on(Step::Done { entries: progress.entries, bytes: progress.bytes, path: progress.path });
    });
    let based = match (based, refused) {
        (Err(_), Some(why)) => return Err(why),
        (based, _) => based?,
    };
    let mut outcome = Outcome::default();
    if request.act == Act::Do {
        wait_for_log(ctx, &archive, (cluster, way), &based.facts)?;
        let facts = serde_json::to_value(&based.facts);
        outcome.facts = Some(facts.map_err(|e| RepoError::Limit(format!("what the cluster says about itself: {e}")))?);
        let segment = |number| SegmentName { timeline: based.facts.timeline, number };
        outcome.segments = Some(Segments {
            ledger: archive.ledger(),
            origin: based.facts.system.clone(),
            bytes: based.facts.segment_bytes,
            first: segment(based.facts.first_segment()),
            last: segment(based.facts.last_segment()),
        });
    }
    let taken = Taken { began, paths, files: Some(based.files), missing: Vec::new(), outcome };
    conclude(ctx, (repository, request.act), capture, taken)
}

/// Waits until the archive has every segment that the backup needs. Those that the server does not archive are taken from its
/// directory where they still are.
fn wait_for_log(
    ctx: &Ctx,
    archive: &Archive<'_>,
    (cluster, way): (&Cluster, Way),
    facts: &Facts,
) -> Result<(), Failure> {
    let mut missing: VecDeque<u64> = (facts.first_segment()..=facts.last_segment()).collect();
    let data = unpercent_path(&facts.data_directory);
    let wal = PathBuf::from(OsStr::from_bytes(&data)).join("pg_wal");
    let began = ctx.world.clock.monotonic();
    loop {
        while let Some(next) = missing.front()
            && archive.holds(SegmentName { timeline: facts.timeline, number: *next })?
        {
            missing.pop_front();
        }
        let Some(next) = missing.front() else { return Ok(()) };
        let name = Name::of(facts.timeline, *next, facts.segment_bytes).to_string();
        if (cluster.log, way) == (Wal::Off, Way::Server) {
            let what = format!("the server did not send {name}, and without it this backup is worth nothing");
            return Err(Failure::new(Exit::SourceUnreachable, "wal-not-archived", what)
                .help("let it keep more of its log: wal_keep_size"));
        }
        if cluster.log == Wal::Off {
            archive.push(ctx, &wal.join(name))?;
            continue;
        }
        if ctx.world.stop.requested() {
            return Err(RepoError::Stopped.into());
        }
        if ctx.world.clock.monotonic().saturating_sub(began) > ARCHIVE_PATIENCE {
            let what = format!(
                "the server has not archived {name} within {} s, and without it this backup is worth nothing",
                ARCHIVE_PATIENCE.as_secs()
            );
            let help = match facts.standby {
                false => {
                    "look at pg_stat_archiver, archive_mode and archive_command of the server, or at `backstay wal receive`"
                }
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
            WireError::Untrusted { .. } => Failure::new(Exit::SourceUnreachable, "source-untrusted", what).help(
                "see `sslmode` and `sslrootcert` of `connect`, and whose certificate the server has (ssl_cert_file)",
            ),
            WireError::Unencrypted { .. } => Failure::new(Exit::SourceUnreachable, "source-unencrypted", what)
                .help("set ssl = on there; or choose another sslmode, on a network that you trust"),
            WireError::Nonsense(_) => Failure::new(Exit::SourceUnreachable, "source-failed", what)
                .help("see whether something else listens there"),
            WireError::Stopped => RepoError::Stopped.into(),
        }
    }
}

impl From<BaseError> for Failure {
    fn from(e: BaseError) -> Self {
        match e {
            BaseError::Server(e) => e.into(),
            BaseError::Repo(e) => e.into(),
            BaseError::NotLetIn { what, needs } => {
                Failure::new(Exit::SourceUnreachable, "replication-refused", what).help(needs)
            }
            BaseError::Source(what) => Failure::new(Exit::SourceUnreachable, "source-failed", what)
                .help("no snapshot was made; run this on the server's machine, as the user that the server runs as"),
        }
    }
}
