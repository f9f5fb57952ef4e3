//! Locks on objects: nobody may delete or replace them before a date, on places that can hold them so.
//!
//! What it is for: [`LockPolicy`] is what a repository wants, [`Lock`] what one object gets.
//! What it may not know: how a place locks. Where data comes from and goes: a policy from the repository's configuration and
//! a moment in; a date out.

use crate::key::Shelf;
use crate::world::Timestamp;
use std::time::Duration;

/// Who may take a lock off before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever was given the right to.
    Governance,
    /// Nobody, not even the owner of the place.
    Compliance,
}

impl LockMode {
    /// Both, the weaker one first.
    pub const ALL: [LockMode; 2] = [LockMode::Governance, LockMode::Compliance];

    /// Its name: `governance`, `compliance`.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        }
    }

    /// The mode of this name, in letters of either case.
    pub fn parse(name: &str) -> Option<LockMode> {
        LockMode::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

/// A lock on one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may take it off.
    pub mode: LockMode,
    /// When it ends, in whole seconds.
    pub until: Timestamp,
}

/// What a repository wants locked: every object that a snapshot needs, from when it is written until at least this many days
/// later, and for longer as long as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockPolicy {
    /// Who may take locks off.
    pub mode: LockMode,
    /// For how many days.
    pub days: u32,
}

impl LockPolicy {
    /// The longest period: a mistyped number must not lock a bucket for life.
    pub const DAYS_MAX: u32 = 3650;

    /// A whole period.
    pub fn period(self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 24 * 3600)
    }

    /// The lock of what is written or extended now.
    pub fn lock(self, now: Timestamp) -> Lock {
        Lock { mode: self.mode, until: Timestamp::new(now.after(self.period()).secs(), 0) }
    }

    /// A lock that ends before this moment is extended: it has less than half of a period left.
    pub fn enough(self, now: Timestamp) -> Timestamp {
        now.after(self.period() / 2)
    }

    /// Whether objects of this family are locked. What says who is at work and what is about to go must be deletable soon,
    /// and no snapshot needs it.
    pub fn covers(shelf: Shelf) -> bool {
        !matches!(shelf, Shelf::Intents | Shelf::Condemned)
    }
}

/// What became of the locks of many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// When each lock ends now, in the order of the objects.
    pub ends: Vec<Timestamp>,
    /// How many were extended.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lasts_a_whole_period_and_is_renewed_in_its_second_half() {
        let policy = LockPolicy { mode: LockMode::Compliance, days: 10 };
        let now = Timestamp::new(1_000, 7);
        let lock = policy.lock(now);
        assert_eq!(lock.until, Timestamp::new(1_000 + 10 * 86_400, 0));
        let later = |days: u64| now.after(Duration::from_secs(days * 86_400));
        assert!(lock.until >= policy.enough(later(4)));
        assert!(lock.until < policy.enough(later(6)));
    }

    #[test]
    fn modes_have_names_and_nothing_else_is_one() {
        for mode in LockMode::ALL {
            assert_eq!(LockMode::parse(&mode.name().to_uppercase()), Some(mode));
        }
        assert_eq!(LockMode::parse("legal-hold"), None);
    }
}
