//! Where to go on with a log: decided by what the archive has, and by how the server's timelines follow each other.
//!
//! It asks nobody and keeps nothing: what is there in, a place out.

use crate::postgres::archive::Tail;
use repo::ledger::Stretch;
use sources::postgres::Lsn;

/// A timeline on the way to the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number.
    pub timeline: u32,
    /// Where it was left; none for the one that the server is on.
    pub left: Option<Lsn>,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// On which timeline.
    pub timeline: u32,
    /// In which segment: it is received from its beginning, whatever of it is durable.
    pub number: u64,
    /// Up to where the log is durable.
    pub safe: Lsn,
}

impl Place {
    /// Position of the segment's first byte.
    pub fn start(&self, segment_bytes: u64) -> Lsn {
        Lsn(self.number * segment_bytes)
    }

    /// The place of a position of which nothing is known but that the server has it.
    pub fn of(line: &[Line], position: Lsn, segment_bytes: u64) -> Place {
        let on = line.iter().find(|line| line.left.is_none_or(|left| position < left));
        let timeline = on.or(line.last()).map_or(1, |line| line.timeline);
        let number = position.0 / segment_bytes;
        Place { timeline, number, safe: Lsn(number * segment_bytes) }
    }
}

/// Where the archive ends, as seen from a server with these timelines, the oldest first; none where the archive has nothing
/// of any of them.
pub(super) fn resume(line: &[Line], stretches: &[Stretch], tails: &[Tail], segment_bytes: u64) -> Option<Place> {
    let tail_of = |timeline: u32| tails.iter().find(|tail| tail.timeline == timeline);
    // Parts are stored without a gap before them, but for one that somebody has accepted.
    let next_of = |timeline: u32| {
        let whole =
            stretches.iter().filter(|stretch| stretch.timeline == timeline).map(|stretch| stretch.last + 1).max();
        whole.max(tail_of(timeline).map(|tail| tail.number))
    };
    let newest = line.iter().enumerate().rev().find_map(|(at, line)| Some((at, next_of(line.timeline)?)));
    let (mut at, mut number) = newest?;
    // A timeline begins with the segment in which the one before was left, and has what that had of it.
    while let Some(left) = line[at].left.map(|left| left.0 / segment_bytes)
        && number >= left
        && at + 1 < line.len()
    {
        (at, number) = (at + 1, left);
    }
    let timeline = line[at].timeline;
    let tail = tail_of(timeline).filter(|tail| tail.number == number);
    Some(Place { timeline, number, safe: tail.map_or(Lsn(number * segment_bytes), |tail| tail.end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1 << 20;

    fn whole(timeline: u32, first: u64, last: u64) -> Stretch {
        Stretch { timeline, first, last }
    }

    fn tail(timeline: u32, number: u64, end: u64) -> Tail {
        Tail { timeline, number, end: Lsn(number * BYTES + end) }
    }

    fn place(timeline: u32, number: u64, end: u64) -> Option<Place> {
        Some(Place { timeline, number, safe: Lsn(number * BYTES + end) })
    }

    #[test]
    fn a_log_goes_on_where_the_archive_ends() {
        let line = [Line { timeline: 1, left: None }];
        let resume = |stretches: &[Stretch], tails: &[Tail]| resume(&line, stretches, tails, BYTES);
        assert_eq!(resume(&[], &[]), None);
        assert_eq!(resume(&[whole(1, 2, 4)], &[]), place(1, 5, 0));
        assert_eq!(resume(&[whole(1, 2, 4)], &[tail(1, 5, 77)]), place(1, 5, 77));
        assert_eq!(resume(&[], &[tail(1, 5, 77)]), place(1, 5, 77));
        // The parts are of a segment that is complete by now.
        assert_eq!(resume(&[whole(1, 2, 5)], &[tail(1, 5, 77)]), place(1, 6, 0));
        // Log that is lost, and was given up, is not asked for again.
        assert_eq!(resume(&[whole(1, 2, 4)], &[tail(1, 9, 77)]), place(1, 9, 77));
        // Another server's timeline does not count.
        assert_eq!(resume(&[whole(3, 2, 4)], &[]), None);
    }

    #[test]
    fn a_failover_is_followed_from_wherever_the_old_timeline_ends_in_the_archive() {
        let left = Lsn(6 * BYTES + 500);
        let line = [Line { timeline: 1, left: Some(left) }, Line { timeline: 2, left: None }];
        let resume = |stretches: &[Stretch], tails: &[Tail]| resume(&line, stretches, tails, BYTES);
        assert_eq!(resume(&[whole(1, 2, 3)], &[]), place(1, 4, 0), "the rest of the old one comes first");
        assert_eq!(resume(&[whole(1, 2, 5)], &[tail(1, 6, 500)]), place(2, 6, 0));
        assert_eq!(resume(&[whole(1, 2, 9)], &[]), place(2, 6, 0), "the old one went on for a while");
        assert_eq!(resume(&[whole(1, 2, 5)], &[tail(1, 6, 500), tail(2, 6, 700)]), place(2, 6, 700));
        assert_eq!(resume(&[whole(1, 2, 5), whole(2, 6, 7)], &[]), place(2, 8, 0));
    }

    #[test]
    fn a_slot_begins_on_the_timeline_that_its_position_belongs_to() {
        let line = [Line { timeline: 1, left: Some(Lsn(6 * BYTES)) }, Line { timeline: 2, left: None }];
        assert_eq!(Some(Place::of(&line, Lsn(4 * BYTES + 9), BYTES)), place(1, 4, 0));
        assert_eq!(Some(Place::of(&line, Lsn(6 * BYTES + 9), BYTES)), place(2, 6, 0));
    }
}
