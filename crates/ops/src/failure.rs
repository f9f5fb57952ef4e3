//! What went wrong, for a person, and the exit code that says so to programs.
//!
//! What it is for: every verb returns a [`Failure`] when it cannot do what was asked.
//! What it may not know: terminals, JSON.
//! Where data comes from and goes: errors of the crates below become failures here; the binary renders them.

use repo::RepoError;
use store::{Kind, StoreError};

/// How a program ends. The numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// Finished, but something is missing or was worth a warning.
    Incomplete = 3,
    /// A verification or a drill found damage.
    Verification = 4,
    /// An objective is violated.
    Objective = 5,
    /// A confirmation or an approval is missing.
    Confirmation = 6,
    /// There is no repository.
    NoRepository = 10,
    /// Somebody else holds what this needs.
    Locked = 11,
    /// The key does not open the repository.
    WrongKey = 12,
    /// The key does not allow this.
    NotAuthorised = 13,
    /// What is to be protected cannot be read.
    SourceUnreachable = 20,
    /// Where data is to go cannot be reached, or is full.
    TargetUnreachable = 21,
    /// `wal get` could not tell, or found a gap: whoever asked must not take it for the end.
    TryAgain = 126,
    /// Stopped by an interrupt.
    Interrupted = 130,
    /// Stopped by a request to terminate.
    Terminated = 143,
}

impl Exit {
    /// Every code with what it means, in order.
    pub const ALL: [(Exit, &'static str); 16] = [
        (Exit::Ok, "everything was done"),
        (Exit::Failed, "it failed; what was not named as failed is unharmed"),
        (Exit::Usage, "the command line or the configuration makes no sense; nothing was done"),
        (Exit::Incomplete, "finished, but incomplete or with warnings: some files could not be read"),
        (Exit::Verification, "a verification or a drill found something wrong"),
        (Exit::Objective, "an objective is violated"),
        (Exit::Confirmation, "a confirmation or an approval is missing; nothing was done"),
        (Exit::NoRepository, "there is no repository at this place"),
        (Exit::Locked, "somebody else holds what this needs"),
        (Exit::WrongKey, "the key does not open the repository"),
        (Exit::NotAuthorised, "the key does not allow this"),
        (Exit::SourceUnreachable, "what is to be protected cannot be reached"),
        (Exit::TargetUnreachable, "where data is to go cannot be reached, cannot be written, or is full"),
        (Exit::TryAgain, "wal get: the segment cannot be had now, or the log has a gap there; a server must not go on"),
        (Exit::Interrupted, "stopped by an interrupt (SIGINT)"),
        (Exit::Terminated, "stopped by a request to terminate (SIGTERM)"),
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What went wrong: one line says what, one line says what the reader can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// Stable name: `no-repository`.
    pub code: &'static str,
    /// What failed, with its name, and why.
    pub what: String,
    /// What the reader can do about it.
    pub help: Option<String>,
}

impl Failure {
    /// A failure without a remedy; see [`Failure::help`].
    pub fn new(exit: Exit, code: &'static str, what: impl Into<String>) -> Self {
        Failure { exit, code, what: what.into(), help: None }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, "usage", what)
    }

    /// The same with what the reader can do; an empty text says nothing.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|help| !help.is_empty());
        self
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        let what = e.to_string();
        let (exit, code, help) = match e.kind {
            Kind::Absent => (Exit::Failed, "object-missing", "run `backstay verify` to see what is damaged"),
            Kind::Corrupt => (Exit::Failed, "damaged", "run `backstay verify --read-data` to see what is damaged"),
            Kind::Denied => (
                Exit::TargetUnreachable,
                "store-denied",
                "run this as a user, or with credentials, that may read and write the repository",
            ),
            Kind::Locked => (
                Exit::TargetUnreachable,
                "object-locked",
                "wait until its lock has run out: nobody can delete it before",
            ),
            Kind::Full => {
                (Exit::TargetUnreachable, "store-full", "make room there: forget snapshots and run `backstay prune`")
            }
            Kind::Unreachable => (
                Exit::TargetUnreachable,
                "store-unreachable",
                "see whether the disk is mounted and healthy, or the service answers, and try again",
            ),
            Kind::Unsuitable => (
                Exit::TargetUnreachable,
                "store-unsuitable",
                "use another place, or read what --help says about this one",
            ),
        };
        Failure::new(exit, code, what).help(help)
    }
}

impl From<RepoError> for Failure {
    fn from(e: RepoError) -> Self {
        let what = e.to_string();
        let (exit, code, help) = match e {
            RepoError::Store(e) => return e.into(),
            RepoError::NoRepository(_) => {
                (Exit::NoRepository, "no-repository", "check the path, or make a repository: backstay init")
            }
            RepoError::AlreadyExists(_) => (Exit::Failed, "repository-exists", "use it, or name another place"),
            RepoError::LaterFormat { .. } => (Exit::Failed, "later-format", "use a later version of backstay"),
            RepoError::WrongKey(_) => (
                Exit::WrongKey,
                "wrong-key",
                "check --key-file and BACKSTAY_KEY…: a passphrase must match to the letter",
            ),
            RepoError::BadKey(_) => {
                (Exit::WrongKey, "bad-key", "give a passphrase, a key file made by backstay, or an age identity")
            }
            RepoError::NotAuthorised { .. } => {
                (Exit::NotAuthorised, "not-authorised", "use a key with that role: backstay key list")
            }
            RepoError::Damaged { .. } | RepoError::MissingChunk(_) => {
                (Exit::Failed, "damaged", "run `backstay verify --read-data` to see what is damaged")
            }
            RepoError::LostHistory(_) => (
                Exit::Failed,
                "history-lost",
                "find out who changed the repository; `backstay verify` shows what is left",
            ),
            RepoError::NoSnapshot(_) => (Exit::Failed, "no-snapshot", "list what there is: backstay snapshots"),
            RepoError::Ambiguous { .. } => (Exit::Failed, "ambiguous-snapshot", "give more digits of the id"),
            RepoError::Fenced => (Exit::Failed, "fenced", "nothing was harmed: run it again"),
            RepoError::Busy(_) => {
                (Exit::Locked, "busy", "try again when it has ended; if it died, that is noticed by itself")
            }
            RepoError::Outside(_) => (Exit::Failed, "io", ""),
            RepoError::Stopped => (Exit::Interrupted, "interrupted", "nothing was harmed: run it again"),
            RepoError::Limit(_) => (Exit::Failed, "limit", ""),
            _ => (Exit::Failed, "failed", ""),
        };
        Failure::new(exit, code, what).help(help)
    }
}
