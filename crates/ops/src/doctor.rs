//! A look at everything that a backup depends on here, before the bad day.
//!
//! What it is for: `backstay doctor`: each thing is named, with what it is like and what to do about it. It establishes what
//! it says, and changes nothing but what tries need.
//! What it may not know: terminals.
//! Where data comes from and goes: the store's findings, the key, the repository and this machine's directories become checks.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::open::{KeyFrom, Locator, check_memory, looks_like_one};
use repo::{Credential, Life, RepoError, Repository};
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use store::{Finding, Kind, State, Store};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable name of what was looked at.
    pub name: &'static str,
    /// `ok`, `unknown`, `warning` or `problem`.
    pub state: &'static str,
    /// What is, in one sentence.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// Of which repository.
    pub repository: String,
    /// Everything that was looked at, in order.
    pub checks: Vec<Check>,
    /// How many problems there are.
    pub problems: usize,
    /// How many warnings.
    pub warnings: usize,
    /// How the program ends: why the repository cannot be used, 4 for other problems, 3 for warnings.
    #[serde(skip)]
    pub exit: Exit,
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Looking {
    found: Vec<Finding>,
    /// Why what is looked at cannot be used, when it cannot.
    failed: Option<Exit>,
}

/// What was found, counted.
pub(crate) struct Seen {
    pub(crate) checks: Vec<Check>,
    pub(crate) problems: usize,
    pub(crate) warnings: usize,
    pub(crate) exit: Exit,
}

impl Looking {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    pub(crate) fn fail(&mut self, name: &'static str, failure: Failure) {
        self.failed.get_or_insert(failure.exit);
        let help = failure.help.unwrap_or_default();
        self.add(Finding::problem(name, failure.what, help));
    }

    pub(crate) fn seen(self) -> Seen {
        let count = |state| self.found.iter().filter(|finding| finding.state == state).count();
        let (problems, warnings) = (count(State::Problem), count(State::Warning));
        let exit = self.failed.unwrap_or(match (problems, warnings) {
            (0, 0) => Exit::Ok,
            (0, _) => Exit::Incomplete,
            _ => Exit::Verification,
        });
        let checks = self.found.into_iter().map(|finding| Check {
            name: finding.name,
            state: finding.state.name(),
            message: finding.text,
            help: finding.help.filter(|help| !help.is_empty()),
        });
        Seen { checks: checks.collect(), problems, warnings, exit }
    }

    fn report(self, repository: String) -> DoctorReport {
        let Seen { checks, problems, warnings, exit } = self.seen();
        DoctorReport { repository, checks, problems, warnings, exit }
    }
}

/// Looks. `key` is where the key comes from, or why there is none.
pub fn doctor(ctx: &Ctx, at: &Locator, key: Result<KeyFrom, Failure>) -> DoctorReport {
    let mut looking = Looking::default();
    if let Some(store) = look_at_place(ctx, at, &mut looking)
        && let Some(repository) = look_at_key(ctx, &store, key, &mut looking)
    {
        look_at_history(ctx, &repository, &mut looking);
        look_at_locks(at, &repository, &mut looking);
        look_at_work(ctx, &repository, &mut looking);
    }
    let (cache, state) = ("what was read is fetched again in every run", "that history was lost is not noticed here");
    looking.add(directory("cache", &ctx.cache_dir, cache));
    looking.add(directory("state", &ctx.state_dir, state));
    looking.report(at.to_string())
}

/// The store, when there is a repository in it.
fn look_at_place(ctx: &Ctx, at: &Locator, looking: &mut Looking) -> Option<Store> {
    let store = at.store(ctx).map_err(|failure| looking.fail("repository", failure)).ok()?;
    let there = looks_like_one(&store);
    let answers = !there.as_ref().is_err_and(|failure| failure.code == "store-unreachable");
    match there {
        Ok(true) => looking.add(Finding::ok("repository", "it is there and answers")),
        Ok(false) => looking.fail("repository", RepoError::NoRepository(store.address()).into()),
        Err(failure) => looking.fail("repository", failure),
    }
    // Of who does not answer, each question would wait as long as the first.
    if answers {
        store.examine().into_iter().for_each(|finding| looking.add(finding));
    }
    looking.failed.is_none().then_some(store)
}

fn look_at_key(ctx: &Ctx, store: &Store, key: Result<KeyFrom, Failure>, looking: &mut Looking) -> Option<Repository> {
    let read =
        key.and_then(|key| Ok((key_file(&key), key.read(&format!("key or passphrase of {}: ", store.address()))?)));
    let (file, key) = read.map_err(|failure| looking.fail("key", failure)).ok()?;
    match (file, key.warning) {
        (_, Some(warning)) => {
            looking.add(Finding::warning("key-file", warning, "then change the key if others are not trusted"))
        }
        (Some(file), None) => {
            looking.add(Finding::ok("key-file", format!("only its owner may read {}", file.display())));
        }
        (None, None) => {}
    }
    let opened = Credential::parse(&key.text).and_then(|credential| Repository::open(store, &ctx.world, &credential));
    let repository = opened.map_err(|e| looking.fail("key", e.into())).ok()?;
    let (role, label) = (repository.keyring().role().name(), repository.keyring().label());
    looking.add(Finding::ok("key", format!("it opens the repository as {role} ({label:?})")));
    for warning in &repository.warnings {
        looking.add(Finding::warning("damage", warning.as_str(), "mend it: backstay verify --repair"));
    }
    Some(repository)
}

/// The file that the key is in, when it is in one.
fn key_file(key: &KeyFrom) -> Option<PathBuf> {
    match key {
        KeyFrom::File(path) => Some(path.clone()),
        KeyFrom::Protected { key, .. } => key_file(key),
        _ => None,
    }
}

fn look_at_history(ctx: &Ctx, repository: &Repository, looking: &mut Looking) {
    if let Err(failure) = check_memory(ctx, repository) {
        return looking.fail("history", failure);
    }
    let remarks = ctx.take_remarks();
    let problems = match repository.history_problems() {
        Ok(problems) => problems,
        Err(e) => return looking.fail("history", e.into()),
    };
    for problem in &problems {
        let help = "see what is left: backstay verify; bring the rest back from a copy";
        looking.add(Finding::problem("history", problem.as_str(), help));
    }
    if problems.is_empty() && remarks.is_empty() {
        looking.add(Finding::ok("history", "nothing that was seen here before is missing"));
    }
    if problems.is_empty() {
        remarks.into_iter().for_each(|remark| looking.add(Finding::warning("history", remark, "")));
    }
}

fn look_at_locks(at: &Locator, repository: &Repository, looking: &mut Looking) {
    const NAME: &str = "locks";
    let wanted = repository.lock_policy();
    let has = match (at, repository.store().has_locks()) {
        (_, Ok(has)) => has,
        (_, Err(e)) if e.kind == Kind::Denied => {
            return looking.add(Finding::unknown(
                NAME,
                "these credentials may not see whether the bucket locks objects",
                "it takes the right s3:GetBucketObjectLockConfiguration",
            ));
        }
        (_, Err(e)) => return looking.fail(NAME, e.into()),
    };
    looking.add(match (wanted, has, at) {
        (Some(policy), true, _) => {
            let mode = policy.mode.name();
            Finding::ok(
                NAME,
                format!("what is written is locked for {} days ({mode}), and prune extends it", policy.days),
            )
        }
        (Some(_), false, Locator::Local(_)) => Finding::ok(NAME, "a directory has no locks: this copy is not locked"),
        (Some(_), false, _) => Finding::problem(
            NAME,
            "the repository locks what it writes, and this bucket has no object lock: nothing can be written",
            "copy the repository into a bucket with object lock, or into a directory",
        ),
        (None, true, _) => Finding::ok(NAME, "the bucket could lock objects; this repository locks none by itself"),
        (None, false, _) => Finding::ok(NAME, "nothing is locked: whoever may delete here can delete everything"),
    });
}

fn look_at_work(ctx: &Ctx, repository: &Repository, looking: &mut Looking) {
    const NAME: &str = "leftovers";
    let left = match repository.leftovers() {
        Ok(left) => left,
        Err(e) => return looking.fail(NAME, e.into()),
    };
    let is_dead = |process: &&repo::Process| ctx.life_of(process) == Life::Dead;
    let dead = left.open.iter().flatten().filter(is_dead).count();
    let text = format!(
        "{} at work or silent, {dead} died, {} lists of packs that wait to be deleted",
        left.open.len() - dead,
        left.condemned
    );
    looking.add(match dead {
        0 => Finding::ok(NAME, text),
        _ => Finding::warning(NAME, text, "backstay prune clears up after who died"),
    });
}

/// Whether files can be made in a directory of this machine, and how much is in it. Without it, `price`.
fn directory(name: &'static str, dir: &Path, price: &str) -> Finding {
    let probe = dir.join(format!(".doctor.{}", std::process::id()));
    let tried = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| {
        let written = std::fs::File::create(&probe).and_then(|mut file| file.write_all(b"doctor"));
        written.and(std::fs::remove_file(&probe))
    });
    match tried {
        Ok(()) => {
            let mebibytes = bytes_in(dir) >> 20;
            Finding::ok(name, format!("{} can be written and holds {mebibytes} MiB", dir.display()))
        }
        Err(e) => {
            let text = format!("{} cannot be written ({e}): {price}", dir.display());
            Finding::warning(name, text, format!("make it, or name another: BACKSTAY_{}_DIR", name.to_uppercase()))
        }
    }
}

/// Bytes of all files below a directory, as their lengths say. What cannot be read is not counted.
fn bytes_in(dir: &Path) -> u64 {
    let mut waiting = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => waiting.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
