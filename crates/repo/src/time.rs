//! Moments as text: RFC 3339, in UTC. Reading a clock is `World`'s business, not this module's.

use store::Timestamp;

/// `2025-12-09T14:30:00.123456789Z`.
pub fn text(at: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(at.0) {
        Ok(at) => at.to_string(),
        // Clocks that are thousands of years off exist only in tests; they still must not stop a backup.
        Err(_) if at.0 < 0 => jiff::Timestamp::MIN.to_string(),
        Err(_) => jiff::Timestamp::MAX.to_string(),
    }
}

/// The moment that an RFC 3339 text names, or `None` when it is none.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_nanosecond()))
}
