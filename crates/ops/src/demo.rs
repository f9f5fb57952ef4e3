//! Backup, loss and recovery on this machine, with everything checked that is promised.
//!
//! What it is for: `backstay demo`: somebody who has a minute sees the real engine at work, on real files.
//! What it may not know: terminals.
//! Where data comes from and goes: a private temporary directory (`tree`), and the same functions as the real verbs.

mod tree;

use crate::backup::{self, Files, Reading, What};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::init::{self, FirstKey};
use crate::open::{KeyFrom, Locator, open};
use crate::prune::{PruneRequest, prune};
use crate::restore::{self, restore};
use crate::select::Filter;
use crate::verify::{Mend, VerifyOutcome, VerifyRequest, verify};
use repo::{Compression, Depth, Grace, MaxUnused, PackSize, Repository, Share, Snapshot, key_of_path};
use serde::Serialize;
use sources::files::SelectSpec;
use sources::files::apply::{AfterCheck, Extras, Rebase, RestoreMode, RestorePlan, RestoreReport};
use sources::sqlite::Sqlite;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use store::NetworkPolicy;
use tree::{Place, Tree};

/// What becomes of the directory afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is removed.
    Remove,
    /// It stays.
    Keep,
}

/// One thing that was done and measured.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done, in a word or two.
    pub name: &'static str,
    /// What came out, with figures.
    pub told: String,
    /// How long it took.
    pub seconds: f64,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The directory, if it was kept.
    pub kept: Option<PathBuf>,
    /// Files in the tree.
    pub files: u64,
    /// Bytes in the tree.
    pub bytes: u64,
    /// Transactions that were committed to the database while the backups ran.
    pub transactions: u64,
    /// Files that the disaster hit.
    pub lost: u64,
    /// How long everything took.
    pub seconds: f64,
}

/// Shows everything. `on` is told each step when it is done.
///
/// # Errors
/// `demo-broken` with exit 4 when anything is not as promised; what the verbs return.
pub fn demo(ctx: &Ctx, after: After, on: &dyn Fn(&Step)) -> Result<Report, Failure> {
    let place = Place::make(ctx, after)?;
    let show = Show { ctx: place.ctx(ctx), place: &place, on, began: ctx.world.clock.monotonic() };
    let (tree, transactions, lost) = show.run()?;
    let seconds = (ctx.world.clock.monotonic() - show.began).as_secs_f64();
    let kept = (after == After::Keep).then(|| place.dir.clone());
    Ok(Report { kept, files: tree.files, bytes: tree.bytes, transactions, lost, seconds })
}

fn broken(what: impl Into<String>) -> Failure {
    Failure::new(Exit::Verification, "demo-broken", what)
        .help("this must not happen: please report it, with the output of `backstay version`")
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(broken(otherwise())) }
}

struct Show<'d> {
    ctx: Ctx,
    place: &'d Place,
    on: &'d dyn Fn(&Step),
    began: Duration,
}

impl Show<'_> {
    fn run(&self) -> Result<(Tree, u64, u64), Failure> {
        let place = self.place;
        let at = Locator::Local(place.repository());
        let key = KeyFrom::File(place.key());
        let tree = self.step("files", || {
            let tree = place.grow(&self.ctx)?;
            let told = format!(
                "{} files, {}: texts, large files, links, odd names, a secret, and a SQLite database",
                tree.files,
                mib(tree.bytes)
            );
            Ok((tree, told))
        })?;
        self.step("init", || {
            let request = init::Request {
                at: at.clone(),
                key: FirstKey::NewFile(place.key()),
                layout: PackSize::Disk.into(),
                on_network: NetworkPolicy::Accept,
            };
            let report = init::init(&self.ctx, &request)?;
            Ok(((), format!("an encrypted repository {} and a key file for its owner only", &report.id[..8])))
        })?;
        let mut repository = open(&self.ctx, &at, &key)?;
        let (first, transactions) = self.with_writer(&mut |commits| self.first_backup(&repository, commits))?;
        place.edit(&self.ctx)?;
        let before = place.survey()?;
        let (second, more) = self.with_writer(&mut |commits| self.second_backup(&repository, commits))?;
        must(before == place.survey()?, || "the backup changed what it read".into())?;
        let lost = self.step("disaster", || {
            let lost = place.disaster(&self.ctx)?;
            must(before != place.survey()?, || "the disaster did nothing".into())?;
            Ok((lost, format!("{lost} files deleted, overwritten or cut short, the database among them")))
        })?;
        self.restore_elsewhere(&repository, &second, &before)?;
        self.restore_in_place(&repository, &second, &before)?;
        self.check_repository(&mut repository, &tree)?;
        self.find_damage(&key)?;
        self.thin_out(&mut repository, &first, &second)?;
        Ok((tree, transactions + more, lost))
    }

    fn step<T>(&self, name: &'static str, run: impl FnOnce() -> Result<(T, String), Failure>) -> Result<T, Failure> {
        let began = self.ctx.world.clock.monotonic();
        let (result, told) = run()?;
        let seconds = (self.ctx.world.clock.monotonic() - began).as_secs_f64();
        (self.on)(&Step { name, told, seconds });
        Ok(result)
    }

    /// Runs `work` while somebody writes to the database, and stops them afterwards. Returns how many transactions were
    /// committed.
    fn with_writer<T>(&self, work: &mut dyn FnMut(&AtomicU64) -> Result<T, Failure>) -> Result<(T, u64), Failure> {
        let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.place.write_database(&stop, &commits));
            // A backup of a database that nobody has begun to write to would show nothing.
            while commits.load(Ordering::SeqCst) < 10 && !writer.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let result = work(&commits);
            stop.store(true, Ordering::SeqCst);
            let written = writer.join().map_err(|_| broken("the database's writer panicked"))?;
            written.map_err(|e| broken(format!("the database's writer was disturbed: {e}")))?;
            Ok((result?, commits.load(Ordering::SeqCst)))
        })
    }

    fn backup(&self, repository: &Repository) -> Result<backup::Report, Failure> {
        let request = backup::Request {
            what: What::Files(Files {
                paths: vec![self.place.tree()],
                current: self.place.dir.clone(),
                select: SelectSpec::default(),
                sqlite: Sqlite::Auto,
                reading: Reading::Changed,
                readers: None,
            }),
            host: self.ctx.host.clone(),
            tags: vec!["demo".into()],
            reason: None,
            time: None,
            compression: Compression::Level(3),
            act: backup::Act::Do,
            assurance: repo::Assurance::ReadBack,
        };
        let report = backup::backup(&self.ctx, repository, &request, &|_| {})?;
        let first = report.troubles.first().map(|t| format!("{}: {}", repo::percent_path(&t.path), t.what));
        must(report.errors == 0, || format!("the backup is incomplete: {}", first.unwrap_or_default()))?;
        Ok(report)
    }

    fn first_backup(&self, repository: &Repository, commits: &AtomicU64) -> Result<Snapshot, Failure> {
        self.step("backup", || {
            let before = commits.load(Ordering::SeqCst);
            let report = self.backup(repository)?;
            let meanwhile = commits.load(Ordering::SeqCst) - before;
            let read = report.files.as_ref().map_or(0, |files| files.bytes_read);
            let told = format!(
                "{} files, {} read at {}, {} stored; {meanwhile} transactions were committed to the database meanwhile",
                report.stats.files,
                mib(read),
                rate(read, report.seconds),
                mib(report.stats.stored_bytes)
            );
            Ok((committed(report)?, told))
        })
    }

    fn second_backup(&self, repository: &Repository, commits: &AtomicU64) -> Result<Snapshot, Failure> {
        self.step("backup again", || {
            let before = commits.load(Ordering::SeqCst);
            let report = self.backup(repository)?;
            let meanwhile = commits.load(Ordering::SeqCst) - before;
            let files = report.files.clone().unwrap_or_default();
            let told = format!(
                "{} files new, {} changed, {} unchanged; {} stored for {} of data; {meanwhile} transactions meanwhile",
                files.files_new,
                files.files_changed,
                files.files_unmodified,
                mib(report.stats.stored_bytes),
                mib(report.stats.bytes)
            );
            let few = report.stats.stored_bytes < report.stats.bytes / 2;
            must(few, || format!("a small change stored {}", mib(report.stats.stored_bytes)))?;
            Ok((committed(report)?, told))
        })
    }

    fn restored(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport, Failure> {
        let mut plan = RestorePlan::new(target);
        plan.within = key_of_path(self.place.tree().as_os_str().as_bytes()).unwrap_or_default();
        plan.rebase = Rebase::StripPrefix;
        plan.mode = mode;
        plan.check = AfterCheck::ReadBack;
        let request = restore::Request {
            snapshot,
            plan,
            target: target.as_os_str().to_owned(),
            confirmed: Some(target.as_os_str().to_owned()),
            act: restore::Act::Do,
        };
        let done = restore(&self.ctx, repository, &request, &|_, _| {}, &|_| {})?.done.unwrap_or_default();
        let first = done.problems.first().map(|p| format!("{}: {}", repo::percent_path(&p.path), p.what));
        must(done.problem_count == 0, || format!("not everything came back: {}", first.unwrap_or_default()))?;
        Ok(done)
    }

    fn restore_elsewhere(
        &self,
        repository: &Repository,
        from: &Snapshot,
        expect: &tree::Survey,
    ) -> Result<(), Failure> {
        let target = self.place.dir.join("restored");
        self.step("restore", || {
            let began = self.ctx.world.clock.monotonic();
            let done = self.restored(repository, from, &target, RestoreMode::NewTarget)?;
            let seconds = (self.ctx.world.clock.monotonic() - began).as_secs_f64();
            same(expect, &Place::survey_of(&target)?)?;
            let told = format!(
                "{} files, {} at {} into a new directory, read back: every byte, name, mode and time is as it was",
                done.files,
                mib(done.bytes),
                rate(done.bytes_written, seconds)
            );
            Ok(((), told))
        })?;
        self.step("database", || {
            let rows = Place::check_database(&target)?;
            Ok(((), format!("the restored database is sound: integrity check, and the books balance over {rows} rows")))
        })
    }

    fn restore_in_place(&self, repository: &Repository, from: &Snapshot, expect: &tree::Survey) -> Result<(), Failure> {
        self.step("repair", || {
            let tree = self.place.tree();
            let done = self.restored(repository, from, &tree, RestoreMode::Delta(Extras::Delete))?;
            same(expect, &self.place.survey()?)?;
            Place::check_database(&tree)?;
            let told = format!(
                "the damaged directory itself is as it was: {} written, {} were still right, {} file of strangers removed",
                mib(done.bytes_written),
                mib(done.unchanged_bytes),
                done.deleted
            );
            Ok(((), told))
        })
    }

    fn verified(&self, repository: &mut Repository) -> Result<VerifyOutcome, Failure> {
        let request = VerifyRequest {
            depth: Depth::Decoded,
            share: Share::All,
            snapshots: Vec::new(),
            filter: Filter::default(),
            mend: Mend::Nothing,
        };
        verify(&self.ctx, repository, &request, &|_| {})
    }

    fn check_repository(&self, repository: &mut Repository, tree: &Tree) -> Result<(), Failure> {
        self.step("verify", || {
            let outcome = self.verified(repository)?;
            let first = outcome.report.problems.first().map(|p| format!("{} {}", p.object, p.what));
            must(outcome.ok, || format!("the repository is damaged: {}", first.unwrap_or_default()))?;
            let leaks = self.place.leaks(&tree.secret)?;
            must(leaks.is_none(), || format!("a secret lies readable in {}", leaks.unwrap_or_default().display()))?;
            let told = format!(
                "all {} objects, {} read and decrypted, every chunk is what its name says; no secret is readable in them",
                outcome.report.objects,
                mib(outcome.report.bytes_read)
            );
            Ok(((), told))
        })
    }

    /// Damages a copy of the repository by one bit; verification must see it.
    fn find_damage(&self, key: &KeyFrom) -> Result<(), Failure> {
        self.step("one bit", || {
            let (copy, victim) = self.place.damaged_copy(&self.ctx)?;
            let mut repository = open(&self.ctx, &Locator::Local(copy.clone()), key)?;
            let outcome = self.verified(&mut repository)?;
            let found = outcome.report.problems.iter().any(|problem| problem.object.contains(&victim));
            must(!outcome.ok && found, || format!("one bit was changed in {victim}, and verify did not see it"))?;
            std::fs::remove_dir_all(&copy).map_err(|e| tree::io(&copy, &e))?;
            let short = victim.get(..12).unwrap_or(&victim);
            Ok(((), format!("of a copy of the repository was changed, in {short}…: verify named that object")))
        })
    }

    fn thin_out(&self, repository: &mut Repository, first: &Snapshot, second: &Snapshot) -> Result<(), Failure> {
        self.step("forget, prune", || {
            repository.forget(&[first.id])?;
            let request =
                PruneRequest { act: repo::Act::Do, max_unused: MaxUnused::Percent(0.0), grace: Grace::Default };
            let outcome = prune(&self.ctx, repository, &request, &|_| {})?;
            let left = repository.snapshots()?;
            let is_right = left.len() == 1 && left.iter().all(|snapshot| snapshot.id == second.id);
            must(is_right, || format!("{} snapshots are left", left.len()))?;
            let outcome_after = self.verified(repository)?;
            must(outcome_after.ok, || "the repository is damaged after the prune".into())?;
            let target = self.place.dir.join("restored-again");
            self.restored(repository, second, &target, RestoreMode::NewTarget)?;
            same(&Place::survey_of(&self.place.dir.join("restored"))?, &Place::survey_of(&target)?)?;
            let told = format!(
                "the first snapshot is gone, {} freed, and the second still comes back whole",
                mib(outcome.report.bytes_freed)
            );
            Ok(((), told))
        })
    }
}

fn committed(report: backup::Report) -> Result<Snapshot, Failure> {
    report.snapshot.ok_or_else(|| broken("the backup made no snapshot"))
}

fn same(expect: &tree::Survey, found: &tree::Survey) -> Result<(), Failure> {
    let odd = expect.iter().find(|(path, seen)| found.get(*path) != Some(seen)).map(|(path, _)| path);
    let odd = odd.or_else(|| found.keys().find(|path| !expect.contains_key(*path)));
    let told = |path: &PathBuf| {
        let (was, is) = (expect.get(path), found.get(path));
        format!("{} is not as it was: {was:?}, now {is:?}", repo::percent_path(path.as_os_str().as_bytes()))
    };
    odd.map_or(Ok(()), |path| Err(broken(told(path))))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn rate(bytes: u64, seconds: f64) -> String {
    format!("{:.0} MiB/s", bytes as f64 / 1_048_576.0 / seconds.max(0.001))
}

/// The name of a file in the tree, from bytes.
fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
