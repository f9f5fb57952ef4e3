//! Backing up files, standard input, or what a program writes.
//!
//! What it is for: `backstay backup`: from what a person asked for to a committed snapshot and a report.
//! What it may not know: terminals. Where data comes from and goes: `sources` reads it into a [`Capture`]; this module
//! begins and commits that, and puts the cache for the next run into place.

mod source;

use crate::ctx::Ctx;
use crate::dry::dry;
use crate::failure::{Exit, Failure};
use crate::open::{KeyFrom, Locator, open_store, remember};
use repo::{
    Assurance, Capture, CapturePlan, Compression, Outcome, RepoError, Repository, Snapshot, Stats, Warning,
    percent_path,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sources::files::{
    CacheSpec, Captured, FilesPlan, FilesReport, Pattern, Problem, Progress, REHASH_EVERY, Roots, Select, SelectError,
    SelectSpec, Severity, check_roots,
};
use sources::sqlite::Sqlite;
use sources::stream::{StreamPlan, capture_stream};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use store::{Lanes, Stop, Store, Timestamp, World};

pub use source::{Form, SourceRun, backup_source};

/// What to protect.
pub enum What {
    /// A source of the configuration.
    Source(Box<SourceRun>),
    /// Files and directories.
    Files(Files),
    /// Standard input, as a file of this name.
    Stdin {
        /// The file's name; with slashes in it, in these directories.
        name: String,
    },
    /// What a program writes to its standard output. Started as it is, without a shell.
    Command {
        /// The file's name.
        name: String,
        /// The program and its arguments.
        argv: Vec<std::ffi::OsString>,
    },
}

/// Which files, and how.
pub struct Files {
    /// The places, as given.
    pub paths: Vec<PathBuf>,
    /// Directory that relative paths are relative to.
    pub current: PathBuf,
    /// What to leave out.
    pub select: SelectSpec,
    /// What to do with SQLite databases.
    pub sqlite: Sqlite,
    /// Whether unchanged files are read again.
    pub reading: Reading,
    /// How many files to read at the same time; as many as there are processors when `None`.
    pub readers: Option<usize>,
}

/// Which files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Those that look changed since the previous run.
    Changed,
    /// All.
    All,
}

/// Whether to store anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read and count.
    Preview,
    /// Make a snapshot.
    Do,
}

/// What is wanted.
pub struct Request {
    /// What to protect.
    pub what: What,
    /// Name of the host, for the snapshot.
    pub host: String,
    /// Words of its owner.
    pub tags: Vec<String>,
    /// Why it is made.
    pub reason: Option<String>,
    /// When the source was looked at; now when `None`.
    pub time: Option<Timestamp>,
    /// How hard to compress.
    pub compression: Compression,
    /// Whether to store anything.
    pub act: Act,
    /// When what is stored counts as stored.
    pub assurance: Assurance,
}

/// Something that was asked for and is not in the snapshot, or that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Absolute path, as bytes.
    pub path: Vec<u8>,
    /// What happened.
    pub what: String,
    /// How bad it is.
    pub severity: Severity,
}

/// What was done.
pub struct Report {
    /// The snapshot; none for a preview.
    pub snapshot: Option<Snapshot>,
    /// What is protected, as percent paths.
    pub paths: Vec<String>,
    /// Counts of the repository.
    pub stats: Stats,
    /// Counts of the files; none for a stream.
    pub files: Option<FilesReport>,
    /// What went wrong: the first thousand errors, the first thousand warnings.
    pub troubles: Vec<Trouble>,
    /// How many errors there were.
    pub errors: u64,
    /// How many warnings there were.
    pub warnings: u64,
    /// What was wrong beside the files: the cache, what is remembered. Sentences.
    pub remarks: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Where the files of a database server come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From its directory.
    Directory,
    /// From the server itself.
    Server,
}

/// How far it is.
pub enum Step<'a> {
    /// The files of a database server are about to be taken.
    Begins {
        /// Where from.
        way: Way,
        /// Why so, where nobody asked for it.
        because: Option<&'a str>,
    },
    /// What the previous run found, as an estimate of what is to be done.
    Expect {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
    /// This much more is done.
    Done {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
        /// Path of one of them, as bytes, now and then.
        path: Option<&'a [u8]>,
    },
}

/// Opens a repository to back up into; what a preview writes is thrown away.
///
/// # Errors
/// As [`crate::open`].
pub fn open(ctx: &Ctx, at: &Locator, key: &KeyFrom, act: Act) -> Result<Repository, Failure> {
    let store = at.cached_store(ctx)?;
    let store = match act {
        Act::Preview => dry(&store),
        Act::Do => store,
    };
    open_store(ctx, &store, key)
}

/// Takes a snapshot. When this returns `Ok` with one, it survives power loss. `repository` must come from [`open`] with
/// the same act. `on` is called from several threads.
///
/// # Errors
/// `not-yet` with exit 2 for a source that this version cannot back up; `nothing-to-back-up` with exit 20 when none of the
/// places is there; `source-failed` with exit 20 when standard input or the program fails; `pattern` with exit 2; whatever
/// the repository returns. There is no snapshot then.
pub fn backup(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    match &request.what {
        What::Source(run) => backup_source(ctx, repository, request, run, on),
        What::Files(files) => backup_files(ctx, repository, request, files, on),
        What::Stdin { name } => {
            let stdin = std::io::stdin().lock();
            let mut from = Patient { from: stdin, stop: &ctx.world.stop };
            backup_stream(ctx, repository, request, name, &mut from, &mut || Ok(()), on)
        }
        What::Command { name, argv } => {
            let mut program = Program::start(argv)?;
            let Some(stdout) = program.child.stdout.take() else {
                return Err(program.failed("has no output"));
            };
            let mut from = Patient { from: stdout, stop: &ctx.world.stop };
            backup_stream(ctx, repository, request, name, &mut from, &mut || program.end(), on)
        }
    }
}

impl Request {
    /// The run that it asks for.
    pub(crate) fn capture_plan(&self, ctx: &Ctx, kind: &str, paths: &[String]) -> CapturePlan {
        CapturePlan {
            host: self.host.clone(),
            user: ctx.user.clone(),
            kind: kind.to_owned(),
            paths: paths.to_vec(),
            source: match &self.what {
                What::Source(run) => Some(run.to_string()),
                _ => None,
            },
            tags: self.tags.clone(),
            reason: self.reason.clone(),
            program: ctx.program.clone(),
            process: ctx.process.clone(),
            compression: self.compression,
            time: self.time,
            // A preview stores nothing that could be read back.
            assurance: if self.act == Act::Do { self.assurance } else { Assurance::Acknowledged },
        }
    }
}

impl From<&Problem> for Trouble {
    fn from(problem: &Problem) -> Self {
        Trouble { path: problem.path.clone(), what: problem.what.clone(), severity: problem.severity }
    }
}

fn backup_files(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request,
    files: &Files,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    let began = ctx.world.clock.monotonic();
    let parse = |paths: &[&PathBuf]| {
        Roots::parse(paths, &files.current).map_err(|e| Failure::usage(e.to_string()).help("name files or directories"))
    };
    let all: Vec<&PathBuf> = files.paths.iter().collect();
    // The group that retention looks at must not change because a disk is not mounted today.
    let paths: Vec<String> = parse(&all)?.paths().iter().map(|path| percent_path(path)).collect();
    let mut troubles = Vec::new();
    let mut there = Vec::new();
    for path in all {
        let (_, missing) = check_roots(&parse(&[path])?);
        if missing.is_empty() {
            there.push(path);
        }
        troubles.extend(missing.into_iter().map(|(path, e)| Trouble {
            path: path.as_os_str().as_bytes().to_vec(),
            what: format!("cannot be backed up: {e}"),
            severity: Severity::Error,
        }));
    }
    if there.is_empty() {
        let first = troubles.first().map(|t| format!("{}: {}", percent_path(&t.path), t.what));
        let what = first.unwrap_or_else(|| "there is nothing to back up".into());
        return Err(Failure::new(Exit::SourceUnreachable, "nothing-to-back-up", what).help("check the paths"));
    }
    let plan = FilesPlan {
        roots: parse(&there)?,
        select: select_of(ctx, repository.store(), &files.select)?,
        sqlite: files.sqlite,
        cache: Some(CacheSpec {
            dir: ctx.cache_dir.join("files"),
            repository: repository.id(),
            host: request.host.clone(),
            rehash_every: match files.reading {
                Reading::Changed => REHASH_EVERY,
                Reading::All => 1,
            },
        }),
        scratch: ctx.cache_dir.join("scratch"),
        moving: None,
        world: World {
            lanes: files.readers.map_or(ctx.world.lanes, |n| Lanes::Threads(n.clamp(1, 256))),
            ..ctx.world.clone()
        },
    };
    if let Some(previous) = sources::files::previous(&plan) {
        on(Step::Expect { entries: previous.totals.entries, bytes: previous.totals.bytes });
    }
    let mut capture = repository.capture(request.capture_plan(ctx, "files", &paths))?;
    let captured = sources::files::capture(&plan, &mut capture, &|progress: Progress<'_>| {
        on(Step::Done { entries: progress.entries, bytes: progress.bytes, path: progress.path });
    })?;
    let taken = Taken { began, paths, files: Some(captured), missing: troubles, outcome: Outcome::default() };
    conclude(ctx, (repository, request.act), capture, taken)
}

/// What a run took, before it is committed.
pub(crate) struct Taken {
    /// When it began.
    pub began: Duration,
    /// What is protected, as percent paths.
    pub paths: Vec<String>,
    /// The files; none for a stream.
    pub files: Option<Captured>,
    /// What was asked for and is not there at all, and what else somebody should know.
    pub missing: Vec<Trouble>,
    /// What the source says about itself; its warnings and errors are filled in here.
    pub outcome: Outcome,
}

/// Commits a run, unless it is a preview, and puts the cache for the next one into place.
pub(crate) fn conclude(
    ctx: &Ctx,
    (repository, act): (&Repository, Act),
    capture: Capture<'_>,
    taken: Taken,
) -> Result<Report, Failure> {
    let Taken { began, paths, files, missing: mut troubles, mut outcome } = taken;
    let (files, cache) = files.map(|files| (files.report, files.cache)).unzip();
    let count = |severity| troubles.iter().filter(|trouble| trouble.severity == severity).count() as u64;
    let (mut errors, mut warnings) = (count(Severity::Error), count(Severity::Warning));
    if let Some(FilesReport { problems, .. }) = &files {
        troubles.extend(problems.kept().iter().map(Trouble::from));
        errors += problems.errors();
        warnings += problems.warnings();
    }
    let mut remarks = Vec::new();
    let (snapshot, stats) = match act {
        Act::Preview => (None, capture.stats()),
        Act::Do => {
            let told = troubles.iter().map(|t| Warning { path: percent_path(&t.path), what: t.what.clone() });
            outcome.warnings = told.collect();
            outcome.errors = errors;
            let committed = capture.commit(outcome)?;
            if let Some(Err(e)) = cache.map(|cache| cache.finish(&committed.snapshot.id, &committed.basis)) {
                remarks.push(format!("the cache was not written, so the next backup reads every file: {e}"));
            }
            remarks.extend(remember(ctx, repository));
            let stats = committed.snapshot.public.stats.clone();
            (Some(committed.snapshot), stats)
        }
    };
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    Ok(Report { snapshot, paths, stats, files, troubles, errors, warnings, remarks, seconds })
}

/// What a person wants left out, and the repository and the cache themselves.
fn select_of(ctx: &Ctx, store: &Store, wanted: &SelectSpec) -> Result<Select, Failure> {
    let mut spec = wanted.clone();
    // The address of a place that is no directory is no path.
    let at = Some(PathBuf::from(store.address())).filter(|path| path.is_absolute());
    let own: Vec<PathBuf> = at.into_iter().chain([ctx.cache_dir.clone()]).collect();
    // The walk names what it finds by the path that leads there, symbolic links and all.
    let by_name = own.iter().filter_map(|path| std::path::absolute(path).ok());
    let in_truth = own.iter().filter_map(|path| std::fs::canonicalize(path).ok());
    for path in by_name.chain(in_truth) {
        if let Some(text) = literal(&path) {
            spec.patterns.push(Pattern { text, origin: "backstay's own files".into() });
        }
    }
    Select::new(&spec).map_err(|e| match &e {
        SelectError::Pattern { .. } => Failure::new(Exit::Usage, "pattern", e.to_string())
            .help("write it as in a .gitignore file: *.log, cache/, /srv/**/tmp"),
        SelectError::File(..) => Failure::new(Exit::Usage, "pattern-file", e.to_string()).help("check the file's name"),
    })
}

/// The pattern that means this path and nothing else.
fn literal(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| text.len() > 1 && !text.contains('\n'))?;
    let escape = |c: char| if "*?[]\\ !#{}".contains(c) { vec!['\\', c] } else { vec![c] };
    Some(text.chars().flat_map(escape).collect())
}

fn backup_stream(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request,
    name: &str,
    from: &mut dyn Read,
    ended: &mut dyn FnMut() -> Result<(), Failure>,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    let began = ctx.world.clock.monotonic();
    let plan =
        StreamPlan::named(name).map_err(|e| Failure::usage(e.to_string()).help("give another --stdin-filename"))?;
    let paths = vec![percent_path(&plan.path())];
    let mut capture: Capture<'_> = repository.capture(request.capture_plan(ctx, "stream", &paths))?;
    let path = plan.path();
    let tell = |bytes| on(Step::Done { entries: 0, bytes, path: Some(&path) });
    let streamed = capture_stream(&plan, from, &mut capture, (&ctx.world, &tell));
    match streamed {
        Err(e @ RepoError::Stopped) => return Err(e.into()),
        Err(_) if ctx.world.stop.requested() => return Err(RepoError::Stopped.into()),
        Err(RepoError::Outside(e)) => {
            // That a program failed says more than that its output cannot be read.
            ended()?;
            return Err(source_failed(format!("cannot read what is to be backed up: {e}")));
        }
        Err(e) => return Err(e.into()),
        Ok(_) => ended()?,
    }
    let taken = Taken { began, paths, files: None, missing: Vec::new(), outcome: Outcome::default() };
    conclude(ctx, (repository, request.act), capture, taken)
}

fn source_failed(what: impl Into<String>) -> Failure {
    Failure::new(Exit::SourceUnreachable, "source-failed", what)
        .help("no snapshot was made; see why it failed, and try again")
}

/// A program whose output is backed up. Dropped before it ended, it is killed.
struct Program {
    name: String,
    child: Child,
}

impl Program {
    fn start(argv: &[std::ffi::OsString]) -> Result<Program, Failure> {
        let Some((program, args)) = argv.split_first() else {
            return Err(Failure::usage("--stdin-from-command needs a command").help("write it after --"));
        };
        let name = percent_path(program.as_bytes());
        let mut command = Command::new(program);
        // What it runs is none of the keys' business.
        for secret in crate::open::KEY_VARIABLES {
            command.env_remove(secret);
        }
        let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.map_err(|e| source_failed(format!("cannot start {name}: {e}")))?;
        Ok(Program { name, child })
    }

    fn failed(&self, why: &str) -> Failure {
        source_failed(format!("{} {why}", self.name))
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed(&format!("failed: {status}"))),
            Err(e) => Err(self.failed(&format!("failed: {e}"))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It may end between these lines; then there is nothing to kill.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Reads what may take long to come, and gives up when asked to stop.
struct Patient<'a, R> {
    from: R,
    stop: &'a Stop,
}

impl<R: Read + AsFd> Read for Patient<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if self.stop.requested() {
                return Err(std::io::Error::other(RepoError::Stopped));
            }
            let mut fds = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut fds, Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.from.read(into),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_as_a_pattern_means_only_itself() {
        assert_eq!(literal(Path::new("/srv/a*b [1]")).as_deref(), Some("/srv/a\\*b\\ \\[1\\]"));
        assert_eq!(literal(Path::new("/")), None);
    }
}
