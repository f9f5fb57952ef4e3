//! Why a store could not do what it was asked: few kinds, chosen by what the caller does differently.

use std::fmt;

/// What kind of failure this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No object of that name.
    Absent,
    /// Not allowed: permissions, credentials, read-only.
    Denied,
    /// The object is locked until a date that has not come.
    Locked,
    /// No space or quota left.
    Full,
    /// The place does not answer, or failed in a way that may pass (I/O error, timeout).
    Unreachable,
    /// The place answered with something that cannot be true (short body, name that is none).
    Corrupt,
    /// The place cannot keep the promises a repository needs.
    Unsuitable,
}

/// A failed store operation: what was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub struct StoreError {
    /// What kind of failure.
    pub kind: Kind,
    /// What was tried on what: `write packs/ab/…`.
    pub what: String,
    /// Why it failed, in the words of the system below.
    pub why: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)
    }
}

impl StoreError {
    /// A failure of `kind` while doing `what`.
    pub fn new(kind: Kind, what: impl Into<String>, why: impl Into<String>) -> Self {
        StoreError { kind, what: what.into(), why: why.into() }
    }

    /// Whether trying again may help without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// Whether the object simply is not there.
    pub fn is_absent(&self) -> bool {
        self.kind == Kind::Absent
    }
}
