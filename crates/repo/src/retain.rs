//! Which snapshots a retention policy keeps and which it removes, and why: a pure function of what it is given.
//!
//! What it is for: [`decide`] gives every point of a repository a [`Verdict`] with its reasons. It deletes nothing.
//! What it may not know: storage, the format, time zones, the clock. The caller reads the zone ([`Civil`]), says what
//! time it is, and names the groups.
//! Where data comes from and goes: `forget` and `retention simulate` make the points from the snapshots they can see,
//! show every reason, and hand the removals to whoever may remove.
//!
//! The walk goes from the newest to the oldest by the order of commits. Times decide only into which day, week or
//! month a point falls, and only while they can be believed: a host that could date its points freely could otherwise
//! fill the buckets and push real history out (restic#22057). So a point whose time cannot be right takes no part: it
//! is kept, displaces nothing, and shows why.
//!
//! Doubt is relative to what is there. When the point whose time made others doubtful expires, those are judged anew
//! by the next call: one wrong clock does not keep its neighbours for ever.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use store::Timestamp;

/// How far a time may lie behind an earlier commit, or ahead of now, before it is doubted. Clocks of one system
/// differ by seconds; an hour also covers two runs that overlap a little.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// A calendar reading of a moment in the zone the owner thinks in (computed by the caller).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The calendar year.
    pub year: i32,
    /// The month, 1 to 12.
    pub month: u8,
    /// The day of the month, 1 to 31.
    pub day: u8,
    /// The hour of the day, 0 to 23.
    pub hour: u8,
    /// The year the ISO 8601 week belongs to: differs from `year` around New Year.
    pub iso_year: i32,
    /// The ISO 8601 week, 1 to 53.
    pub iso_week: u8,
}

/// What retention needs to know of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which snapshot.
    pub id: [u8; 32],
    /// Its source, or whatever the owner groups by. A policy is applied to each group alone.
    pub group: String,
    /// Its place in the order of commits: greater is later.
    pub order: u64,
    /// When it says it was taken. Believed only within [`CLOCK_TOLERANCE`].
    pub time: Timestamp,
    /// The same moment, read in the owner's zone.
    pub civil: Civil,
    /// Its tags.
    pub tags: Vec<String>,
    /// Why it must not expire, if somebody said so.
    pub hold: Option<String>,
    /// Whether the run finished with everything it was to capture. Partial and failed runs never count.
    pub complete: bool,
    /// Whether it was proven readable. Heard only of complete points.
    pub verified: bool,
}

/// How many buckets a rule fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The newest so many. Zero is no rule, unless the owner also allows groups to end empty.
    Last(u32),
    /// All of them: `unlimited`, or `-1` on the command line.
    All,
}

/// Whether a group may lose its newest complete and its newest verified point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AllowEmpty {
    /// Both are always kept.
    #[default]
    No,
    /// The policy alone decides: for sources that are given up. Held and doubtful points stay even so.
    Yes,
}

/// What to keep. A point stays when any rule keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest so many.
    pub last: Option<Count>,
    /// The newest of each of the newest so many hours that have one.
    pub hourly: Option<Count>,
    /// The same of days.
    pub daily: Option<Count>,
    /// The same of ISO weeks.
    pub weekly: Option<Count>,
    /// The same of months.
    pub monthly: Option<Count>,
    /// The same of years.
    pub yearly: Option<Count>,
    /// Everything less than this older than the newest point of the group.
    pub within: Option<Duration>,
    /// The newest of each hour less than this older than the newest point of the group.
    pub within_hourly: Option<Duration>,
    /// The same of days.
    pub within_daily: Option<Duration>,
    /// The same of ISO weeks.
    pub within_weekly: Option<Duration>,
    /// The same of months.
    pub within_monthly: Option<Duration>,
    /// The same of years.
    pub within_yearly: Option<Duration>,
    /// Which point of an hour, day, week, month or year stays.
    pub of_period: OfPeriod,
    /// Points that carry every tag of any of these lists. The tag `""` means: carries no tag at all.
    pub tags: Vec<Vec<String>>,
    /// Whether a group may end empty.
    pub allow_empty: AllowEmpty,
}

/// Which point of a period stands for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfPeriod {
    /// The newest: a period that is not over moves on with every run.
    #[default]
    Newest,
    /// The first: once taken it stays until its period expires.
    First,
}

/// What becomes of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for every one of these reasons; never without one.
    Keep(Vec<Reason>),
    /// It goes, for this reason.
    Remove(Reason),
}

/// The buckets a rule sorts points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Every point is a bucket of its own.
    Each,
    /// One per hour.
    Hourly,
    /// One per day.
    Daily,
    /// One per ISO week.
    Weekly,
    /// One per month.
    Monthly,
    /// One per year.
    Yearly,
}

/// Which point of its bucket a rule took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The newest of the bucket.
    Newest,
    /// The first of the bucket.
    First,
    /// The oldest point of the group: kept while a rule is not used up, so that a young history reaches as far back as
    /// it can.
    Oldest,
}

/// Why a point is kept or removed. `Display` gives text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule that counts buckets keeps it: as the `nth`, from 1, of `count`.
    Counted {
        /// What the rule counts.
        tier: Tier,
        /// Which of them this is, the newest being 1.
        nth: u32,
        /// How many the rule keeps.
        count: Count,
        /// Which point of the bucket it is.
        pick: Pick,
    },
    /// A rule that reaches back a span of time keeps it.
    Within {
        /// Of what the rule keeps one each.
        tier: Tier,
        /// How far the rule reaches back from the newest point.
        span: Duration,
        /// Which point of the bucket it is.
        pick: Pick,
    },
    /// It carries all of these tags.
    Tagged(Vec<String>),
    /// Somebody holds it, and said why.
    Held(String),
    /// No rule keeps it, but without it the source had nothing new to restore from.
    NewestComplete,
    /// No rule keeps it, but it is the last of its source that was proven.
    NewestVerified,
    /// Its time lies this long before that of a point committed earlier.
    ClockBehind(Duration),
    /// Its time lies this long after now.
    ClockAhead(Duration),
    /// It is partial, and no complete point came after it.
    PartialAndLatest,
    /// It is partial, and a later complete point exists.
    PartialAndSuperseded,
    /// No rule keeps it.
    NoRule,
}

/// Why a policy is not applied. Nothing may be removed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The policy has no rule: it would remove everything.
    #[error("the retention policy has no rule, so it would remove every snapshot")]
    NoRule,
    /// Every rule of the policy keeps zero.
    #[error("every rule of the retention policy keeps zero, so it would remove every snapshot")]
    KeepsNothing,
    /// A list of tags without a tag: it would match everything.
    #[error("a rule of the retention policy keeps by tag, and names no tag")]
    NoTag,
    /// The policy keeps by tags alone, and no complete snapshot carries them (restic#4568: a typo removed everything).
    #[error("the retention policy keeps by tag alone, and no complete snapshot carries {tags}")]
    TagsMatchNothing {
        /// The lists that were asked for.
        tags: String,
    },
    /// Two points have one id, so that a verdict on one would be a verdict on the other.
    #[error("a snapshot was given twice: {}", hex(.id))]
    GivenTwice {
        /// The id.
        id: [u8; 32],
    },
}

impl PolicyError {
    /// What the reader can do about it, in one sentence.
    pub fn help(&self) -> &'static str {
        match self {
            PolicyError::NoRule => "say what to keep, for example --keep-daily 7 --keep-weekly 4 --keep-monthly 12",
            PolicyError::KeepsNothing => {
                "raise one of the counts above zero, or add --allow-empty if the source is given up"
            }
            PolicyError::NoTag => "name the tags to keep, for example --keep-tag release",
            PolicyError::TagsMatchNothing { .. } => {
                "check the spelling of the tags, add another --keep rule, or add --allow-empty to remove all the same"
            }
            PolicyError::GivenTwice { .. } => {
                "nothing was removed; group so that each snapshot belongs to one group, or report this as a defect"
            }
        }
    }
}

/// The verdict on every point, in the order of `points`. Pure: the same points in any order get the same verdicts.
///
/// In each group, complete points whose time can be believed are walked from the latest commit to the earliest. A rule
/// with a count keeps the newest of each new bucket until the count is used up, and the oldest of all if it is not; a
/// rule with a span does so for points less than the span older than the latest commit. Then:
///
/// - held points are kept, whatever the policy;
/// - doubtful points are kept: those dated more than [`CLOCK_TOLERANCE`] after `now`, or before a complete and not
///   doubtful point committed earlier. They fill no bucket;
/// - partial points fill no bucket either. They are removed once a later complete point, not doubtful, exists;
/// - the newest complete and the newest verified point of a group, doubtful ones aside, are kept under
///   [`AllowEmpty::No`].
///
/// # Errors
/// [`PolicyError`] when the policy would by its wording remove everything, or `points` names a snapshot twice. The
/// caller removes nothing and shows [`PolicyError::help`].
pub fn decide(points: &[Point], policy: &Policy, now: Timestamp) -> Result<Vec<([u8; 32], Verdict)>, PolicyError> {
    check(points, policy)?;
    let mut groups: BTreeMap<&str, Vec<Seat>> = BTreeMap::new();
    for (at, point) in points.iter().enumerate() {
        groups.entry(&point.group).or_default().push(Seat { at, point });
    }
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); points.len()];
    for history in groups.values_mut() {
        // Ids settle what the order of commits leaves open; clocks have no say.
        history.sort_by_key(|seat| (seat.point.order, seat.point.id));
        judge(history, policy, now, &mut reasons);
    }
    let verdicts = points.iter().zip(reasons).map(|(point, keep)| {
        let verdict = match (keep.is_empty(), point.complete) {
            (false, _) => Verdict::Keep(keep),
            (true, true) => Verdict::Remove(Reason::NoRule),
            (true, false) => Verdict::Remove(Reason::PartialAndSuperseded),
        };
        (point.id, verdict)
    });
    Ok(verdicts.collect())
}

/// A point, and where in the input it stands.
#[derive(Clone, Copy)]
struct Seat<'a> {
    at: usize,
    point: &'a Point,
}

/// Refuses a policy that by its wording would remove everything, and points that cannot be told apart.
fn check(points: &[Point], policy: &Policy) -> Result<(), PolicyError> {
    if policy.tags.iter().any(Vec::is_empty) {
        return Err(PolicyError::NoTag);
    }
    if !policy.names_a_rule() {
        return Err(PolicyError::NoRule);
    }
    if policy.rules().is_empty() && policy.allow_empty == AllowEmpty::No {
        if policy.tags.is_empty() {
            return Err(PolicyError::KeepsNothing);
        }
        let mut complete = points.iter().filter(|point| point.complete).peekable();
        if complete.peek().is_some() && !complete.any(|point| policy.tags.iter().any(|tags| carries(point, tags))) {
            let lists: Vec<String> = policy.tags.iter().map(|tags| quoted(tags)).collect();
            return Err(PolicyError::TagsMatchNothing { tags: lists.join(" or ") });
        }
    }
    let mut ids = BTreeSet::new();
    match points.iter().find(|point| !ids.insert(point.id)) {
        Some(point) => Err(PolicyError::GivenTwice { id: point.id }),
        None => Ok(()),
    }
}

/// Adds the reasons to keep what one group keeps. `history` goes from the earliest commit to the latest.
fn judge(history: &[Seat], policy: &Policy, now: Timestamp, reasons: &mut [Vec<Reason>]) {
    for seat in history {
        reasons[seat.at].extend(seat.point.hold.clone().map(Reason::Held));
    }
    let counting = believed(history, now, reasons);
    for rule in policy.rules() {
        rule.apply(&counting, policy.of_period, reasons);
    }
    for seat in history.iter().filter(|seat| seat.point.complete) {
        let matching = policy.tags.iter().filter(|tags| carries(seat.point, tags));
        reasons[seat.at].extend(matching.cloned().map(Reason::Tagged));
    }
    let newest = counting.first();
    for seat in history.iter().filter(|seat| !seat.point.complete) {
        if newest.is_none_or(|newest| newest.point.order <= seat.point.order) {
            reasons[seat.at].push(Reason::PartialAndLatest);
        }
    }
    if policy.allow_empty == AllowEmpty::No {
        let proven = counting.iter().find(|seat| seat.point.verified);
        for (guarded, reason) in [(proven, Reason::NewestVerified), (newest, Reason::NewestComplete)] {
            if let Some(seat) = guarded.filter(|seat| reasons[seat.at].is_empty()) {
                reasons[seat.at].push(reason);
            }
        }
    }
}

/// The complete points whose time can be believed, latest commit first. Doubtful points get their reason to stay.
fn believed<'a>(history: &[Seat<'a>], now: Timestamp, reasons: &mut [Vec<Reason>]) -> Vec<Seat<'a>> {
    let mut counting = Vec::new();
    let mut latest: Option<Timestamp> = None;
    for &seat in history {
        let time = seat.point.time;
        let ahead = gap(now, time);
        let behind = latest.map_or(Duration::ZERO, |latest| gap(time, latest));
        if ahead > CLOCK_TOLERANCE {
            reasons[seat.at].push(Reason::ClockAhead(ahead));
        } else if behind > CLOCK_TOLERANCE {
            reasons[seat.at].push(Reason::ClockBehind(behind));
        } else if seat.point.complete || store::sabotaged("count partial runs") {
            // Only complete points testify against later ones: partial ones have no influence on anything.
            latest = latest.max(Some(time));
            counting.push(seat);
        }
    }
    counting.reverse();
    counting
}

/// The time from one moment to a later one; zero when it is not later. Saturates: a stored time may be anything.
fn gap(from: Timestamp, to: Timestamp) -> Duration {
    let nanos = to.0.saturating_sub(from.0).max(0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Whether a point carries every one of these tags.
fn carries(point: &Point, tags: &[String]) -> bool {
    tags.iter().all(|tag| if tag.is_empty() { point.tags.is_empty() } else { point.tags.contains(tag) })
}

impl Policy {
    /// Whether any rule is written down, even one that keeps nothing.
    fn names_a_rule(&self) -> bool {
        self.counts().iter().any(|(_, count)| count.is_some())
            || self.spans().iter().any(|(_, span)| span.is_some())
            || !self.tags.is_empty()
    }

    /// The rules that can keep something, tags aside.
    fn rules(&self) -> Vec<Rule> {
        let counts = self.counts().into_iter().filter_map(|(tier, count)| {
            let count = count.filter(|&count| count != Count::Last(0))?;
            Some(Rule { tier, reach: Reach::Count(count) })
        });
        let spans = self.spans().into_iter().filter_map(|(tier, span)| {
            let span = span.filter(|span| !span.is_zero())?;
            Some(Rule { tier, reach: Reach::Span(span) })
        });
        counts.chain(spans).collect()
    }

    fn counts(&self) -> [(Tier, Option<Count>); 6] {
        [
            (Tier::Each, self.last),
            (Tier::Hourly, self.hourly),
            (Tier::Daily, self.daily),
            (Tier::Weekly, self.weekly),
            (Tier::Monthly, self.monthly),
            (Tier::Yearly, self.yearly),
        ]
    }

    fn spans(&self) -> [(Tier, Option<Duration>); 6] {
        [
            (Tier::Each, self.within),
            (Tier::Hourly, self.within_hourly),
            (Tier::Daily, self.within_daily),
            (Tier::Weekly, self.within_weekly),
            (Tier::Monthly, self.within_monthly),
            (Tier::Yearly, self.within_yearly),
        ]
    }
}

/// What points of one bucket share: a rank, a year, and the rest of a date.
type Bucket = (usize, i32, [u8; 3]);

/// One rule: buckets, and how far back it goes.
struct Rule {
    tier: Tier,
    reach: Reach,
}

enum Reach {
    Count(Count),
    Span(Duration),
}

impl Rule {
    /// Adds this rule's reason to every point it keeps. `counting` goes from the latest commit to the earliest.
    fn apply(&self, counting: &[Seat], of_period: OfPeriod, reasons: &mut [Vec<Reason>]) {
        let Some(newest) = counting.first() else { return };
        if of_period == OfPeriod::First && self.tier != Tier::Each {
            return self.apply_to_first(counting, newest, reasons);
        }
        // Buckets seen, not the last bucket alone: times may differ from the order of commits within the tolerance,
        // and clocks that flip around midnight would use up a count two days at a time.
        let mut seen = BTreeSet::new();
        let mut nth = 0;
        for (rank, seat) in counting.iter().enumerate() {
            let used_up = matches!(self.reach, Reach::Count(Count::Last(count)) if nth >= count);
            let too_old = matches!(self.reach, Reach::Span(span) if gap(seat.point.time, newest.point.time) >= span);
            if used_up || too_old {
                continue;
            }
            let pick = match (seen.insert(self.tier.bucket(seat.point, rank)), rank + 1 == counting.len()) {
                (true, _) => Pick::Newest,
                (false, true) => Pick::Oldest,
                (false, false) => continue,
            };
            nth += 1;
            reasons[seat.at].push(match self.reach {
                Reach::Count(count) => Reason::Counted { tier: self.tier, nth, count, pick },
                Reach::Span(span) => Reason::Within { tier: self.tier, span, pick },
            });
        }
    }
}

impl Rule {
    /// As [`Rule::apply`], where the first point of each bucket stands for it.
    fn apply_to_first(&self, counting: &[Seat], newest: &Seat, reasons: &mut [Vec<Reason>]) {
        // Buckets in the order in which the walk meets them, latest first; the last point met of each is its first.
        let mut firsts: Vec<(Bucket, &Seat)> = Vec::new();
        for (rank, seat) in counting.iter().enumerate() {
            let bucket = self.tier.bucket(seat.point, rank);
            match firsts.iter_mut().find(|(known, _)| *known == bucket) {
                Some((_, first)) => *first = seat,
                None => firsts.push((bucket, seat)),
            }
        }
        let pick = Pick::First;
        for (nth, (_, seat)) in (1u32..).zip(&firsts) {
            reasons[seat.at].push(match self.reach {
                Reach::Count(Count::Last(count)) if nth > count => continue,
                Reach::Count(count) => Reason::Counted { tier: self.tier, nth, count, pick },
                Reach::Span(span) if gap(seat.point.time, newest.point.time) >= span => continue,
                Reach::Span(span) => Reason::Within { tier: self.tier, span, pick },
            });
        }
    }
}

impl Tier {
    /// What two points share when they fall into one bucket.
    fn bucket(self, point: &Point, rank: usize) -> Bucket {
        let Civil { year, month, day, hour, iso_year, iso_week } = point.civil;
        match self {
            Tier::Each => (rank, 0, [0; 3]),
            Tier::Hourly => (0, year, [month, day, hour]),
            Tier::Daily => (0, year, [month, day, 0]),
            Tier::Weekly => (0, iso_year, [iso_week, 0, 0]),
            Tier::Monthly => (0, year, [month, 0, 0]),
            Tier::Yearly => (0, year, [0; 3]),
        }
    }

    /// The name of the rule, and what it counts.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Tier::Each => ("last", "snapshot"),
            Tier::Hourly => ("hourly", "hour"),
            Tier::Daily => ("daily", "day"),
            Tier::Weekly => ("weekly", "week"),
            Tier::Monthly => ("monthly", "month"),
            Tier::Yearly => ("yearly", "year"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Counted { tier, nth, count, pick } => {
                let (rule, unit) = tier.words();
                let unit = match pick {
                    Pick::Newest => unit.to_owned(),
                    Pick::First => format!("first of {unit}"),
                    Pick::Oldest => "oldest,".to_owned(),
                };
                match count {
                    Count::Last(count) => write!(f, "{rule}, {unit} {nth} of {count}"),
                    Count::All => write!(f, "{rule}, {unit} {nth}, no limit"),
                }
            }
            Reason::Within { tier, span, pick } => {
                match tier {
                    Tier::Each => {}
                    tier => write!(f, "{}, ", tier.words().0)?,
                }
                match pick {
                    Pick::Newest => {}
                    Pick::First => write!(f, "first, ")?,
                    Pick::Oldest => write!(f, "oldest, ")?,
                }
                write!(f, "within {} of the newest", Span(*span))
            }
            Reason::Tagged(tags) => match tags.as_slice() {
                [tag] if tag.is_empty() => write!(f, "has no tag"),
                [tag] => write!(f, "tag {tag}"),
                tags => write!(f, "tags {}", tags.join(", ")),
            },
            Reason::Held(why) if why.is_empty() => write!(f, "held"),
            Reason::Held(why) => write!(f, "held: {why}"),
            Reason::NewestComplete => write!(f, "newest complete of its source"),
            Reason::NewestVerified => write!(f, "newest verified of its source"),
            Reason::ClockBehind(by) => write!(f, "clock doubtful: {} before an earlier commit", Span(*by)),
            Reason::ClockAhead(by) => write!(f, "clock doubtful: {} in the future", Span(*by)),
            Reason::PartialAndLatest => write!(f, "partial, and no later complete one exists"),
            Reason::PartialAndSuperseded => write!(f, "partial, and a later complete one exists"),
            Reason::NoRule => write!(f, "no rule keeps it"),
        }
    }
}

/// A duration as people write it in a policy, in its two largest units: `30d`, `1d12h`, `90s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let parts = [(secs / 86400, "d"), (secs / 3600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
        let Some(first) = parts.iter().position(|(amount, _)| *amount > 0) else {
            return write!(f, "{}ms", self.0.subsec_millis());
        };
        for (amount, unit) in parts.iter().skip(first).take(2).filter(|(amount, _)| *amount > 0) {
            write!(f, "{amount}{unit}")?;
        }
        Ok(())
    }
}

/// The tags as a message names them.
fn quoted(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(" and ")
}

/// The id as commands take it.
fn hex(id: &[u8; 32]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
