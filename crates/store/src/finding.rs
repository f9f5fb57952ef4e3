//! What a close look at a place finds: for who wants to know whether backups will work there.
//!
//! What it may not know: how a place is looked at, and how findings are shown.

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at with the rights at hand.
    Unknown,
    /// It works, and may hurt one day.
    Warning,
    /// It does not work, or will lose data.
    Problem,
}

impl State {
    /// Its name: `ok`, `unknown`, `warning`, `problem`.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Unknown => "unknown",
            State::Warning => "warning",
            State::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable name of what was looked at, such as `versioning`.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What is, in one sentence.
    pub text: String,
    /// What to do about it; nothing where all is well.
    pub help: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(name: &'static str, text: impl Into<String>) -> Finding {
        Finding { name, state: State::Ok, text: text.into(), help: None }
    }

    /// It could not be looked at; `help` says with which right it could.
    pub fn unknown(name: &'static str, text: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { name, state: State::Unknown, text: text.into(), help: Some(help.into()) }
    }

    /// It may hurt one day.
    pub fn warning(name: &'static str, text: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { name, state: State::Warning, text: text.into(), help: Some(help.into()) }
    }

    /// It does not work.
    pub fn problem(name: &'static str, text: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { name, state: State::Problem, text: text.into(), help: Some(help.into()) }
    }
}
