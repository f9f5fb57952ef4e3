//! Choosing snapshots: `latest`, short ids, `@TIME`, and filters by host, tag and path.
//!
//! What it is for: one way to name snapshots, for every verb.
//! What it may not know: where the snapshots come from.
//! Where data comes from and goes: a list of snapshots in the order of commits, and words of a person; a choice.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::group::GroupBy;
use repo::{Compression, Public, Repository, Snapshot, Status, percent_path};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use store::{Timestamp, World};

/// Which snapshots count. Empty lists let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these hosts.
    pub hosts: Vec<String>,
    /// With all the tags of one of these lists; an empty list means: without any tag.
    pub tags: Vec<Vec<String>>,
    /// Of all of these paths, as percent paths; see [`Filter::path`].
    pub paths: Vec<String>,
    /// Of this source, `PLATFORM/SOURCE`, or of any source of this platform.
    pub source: Option<String>,
}

impl Filter {
    /// The filter that options `--host`, `--tag a,b` and `--path` ask for.
    pub fn new(hosts: &[String], tags: &[String], paths: &[impl AsRef<OsStr>]) -> Filter {
        let tags = tags
            .iter()
            .map(|list| list.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect());
        let paths = paths.iter().map(Filter::path).collect();
        Filter { hosts: hosts.to_vec(), tags: tags.collect(), paths, source: None }
    }

    /// The same, for snapshots of a source or a platform only, where one is named.
    #[must_use]
    pub fn of_source(self, source: Option<&str>) -> Filter {
        Filter { source: source.map(str::to_owned).or(self.source), ..self }
    }

    /// A path as snapshots name it: absolute, percent-encoded.
    pub fn path(path: &impl AsRef<OsStr>) -> String {
        let path = Path::new(path.as_ref());
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let bytes = path.as_os_str().as_bytes();
        percent_path(bytes.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(bytes))
    }

    /// Whether `snapshot` counts.
    pub fn lets(&self, snapshot: &Snapshot) -> bool {
        self.lets_of(&snapshot.public, &snapshot.tags)
    }

    /// Whether a snapshot of which this is known counts.
    pub(crate) fn lets_of(&self, public: &Public, tags: &[String]) -> bool {
        let host = self.hosts.is_empty() || self.hosts.contains(&public.host);
        let tagged = |wanted: &Vec<String>| match wanted.is_empty() {
            true => tags.is_empty(),
            false => wanted.iter().all(|tag| tags.contains(tag)),
        };
        let tag = self.tags.is_empty() || self.tags.iter().any(tagged);
        host && tag && self.lets_source(public) && self.paths.iter().all(|path| public.paths.contains(path))
    }

    fn lets_source(&self, public: &Public) -> bool {
        let Some(wanted) = &self.source else { return true };
        let rest = public.source.as_ref().and_then(|source| source.strip_prefix(wanted.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn told(&self) -> String {
        let of = self.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        let is_empty = *self == Filter { source: self.source.clone(), ..Filter::default() };
        if is_empty { of } else { format!("{of} that matches --host, --tag and --path") }
    }
}

/// The source that a snapshot's name begins with, and the rest: `shop/db` is the latest of that source, `shop/db:NAME`
/// and `shop/db@TIME` are what NAME and @TIME are among its snapshots.
pub fn split_source(text: &str) -> (Option<&str>, &str) {
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (source, rest) = text.split_at(end);
    match (source.contains('/'), rest) {
        (false, _) => (None, text),
        (true, "" | ":") => (Some(source), "latest"),
        (true, rest) => (Some(source), rest.strip_prefix(':').unwrap_or(rest)),
    }
}

/// The one snapshot that `text` names: `latest`, `latest-complete` (which passes over partial ones), `latest@TIME`, the
/// first digits of an id, or one of these among the snapshots of a source (see [`split_source`]). Filters apply to the
/// latest only. `snapshots` must be in the order of commits; relative times are relative to the clock of `world`.
///
/// # Errors
/// `no-snapshot`, `ambiguous-snapshot`, both exit 1; `usage` for a time that makes no sense.
pub fn pick<'s>(
    world: &World,
    snapshots: &'s [Snapshot],
    text: &str,
    filter: &Filter,
) -> Result<&'s Snapshot, Failure> {
    let (source, text) = split_source(text);
    let filter = &filter.clone().of_source(source);
    let (name, until) = match text.split_once('@') {
        Some((name, time)) => (name, Some(parse_time(time, world.clock.now())?)),
        None => (text, None),
    };
    if is_latest(name) || (name.is_empty() && until.is_some()) {
        let enough = |s: &&Snapshot| name != LATEST_COMPLETE || s.public.status == Status::Complete;
        let in_time =
            |s: &&Snapshot| until.is_none_or(|until| repo::time::parse(&s.public.time).is_some_and(|t| t <= until));
        let mut candidates = snapshots.iter().filter(|s| filter.lets(s)).filter(enough).filter(in_time);
        let newest = match until {
            None => candidates.next_back(),
            Some(_) => candidates.max_by_key(|s| (repo::time::parse(&s.public.time), s.order)),
        };
        return newest.ok_or_else(|| {
            let when = until.map(|until| format!(" at or before {}", repo::time::text(until))).unwrap_or_default();
            Failure::new(
                Exit::Failed,
                "no-snapshot",
                format!(
                    "there is no {}snapshot{}{when}",
                    if name == LATEST_COMPLETE { "complete " } else { "" },
                    filter.told()
                ),
            )
            .help("list what there is: backstay snapshots")
        });
    }
    if until.is_some() {
        return Err(Failure::usage(format!("{text:?}: a time goes with `latest` only")).help("write latest@TIME"));
    }
    let is_hex = !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
    let name = name.to_ascii_lowercase();
    let of_source = |s: &&Snapshot| source.is_none() || filter.lets_source(&s.public);
    let found = snapshots.iter().filter(|s| is_hex && s.id.to_string().starts_with(&name));
    let found: Vec<&Snapshot> = found.filter(of_source).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(Exit::Failed, "no-snapshot", format!("no snapshot {text:?}"))
            .help("list what there is: backstay snapshots")),
        many => {
            let some = many.iter().take(10).map(|s| s.id.short().to_string()).collect::<Vec<_>>().join(", ");
            Err(Failure::new(
                Exit::Failed,
                "ambiguous-snapshot",
                format!("snapshot id {text:?} is ambiguous: it could be {some}"),
            )
            .help("give more digits of the id"))
        }
    }
}

const LATEST_COMPLETE: &str = "latest-complete";

fn is_latest(name: &str) -> bool {
    name == "latest" || name == LATEST_COMPLETE
}

/// The one snapshot to bring back: as [`pick`], but while heads are damaged or lost nobody can know which one is the
/// latest, and a restore must not quietly give an older one. Where the latest one is partial, a remark says which one is
/// not.
///
/// # Errors
/// As [`pick`]; `history-damaged` for `latest`.
pub fn pick_to_restore<'s>(
    ctx: &Ctx,
    repository: &Repository,
    snapshots: &'s [Snapshot],
    text: &str,
    filter: &Filter,
) -> Result<&'s Snapshot, Failure> {
    let problems = repository.history_problems()?;
    let (_, named) = split_source(text);
    if let Some(problem) = problems.first().filter(|_| named.starts_with("latest") || named.starts_with('@')) {
        let what = format!("cannot tell which snapshot is the latest: {problem}");
        return Err(Failure::new(Exit::Failed, "history-damaged", what)
            .help("name one by its id (backstay snapshots), and mend: backstay verify --repair-from COPY"));
    }
    let picked = pick(&ctx.world, snapshots, text, filter)?;
    let named = named.split('@').next().unwrap_or_default();
    if picked.public.status == Status::Partial && (named == "latest" || named.is_empty()) {
        let source = GroupBy::default();
        let of_source = |s: &&Snapshot| source.of(s) == source.of(picked) && s.order < picked.order;
        let complete = snapshots.iter().filter(of_source).rfind(|s| s.public.status == Status::Complete);
        let instead = match complete {
            Some(s) => format!("the newest complete one of this source is {} of {}", s.id.short(), s.public.time),
            None => "there is no complete one of this source".into(),
        };
        let errors = picked.public.stats.errors;
        ctx.remark(format!("snapshot {} is partial: {errors} things were not read; {instead}", picked.id.short()));
    }
    Ok(picked)
}

/// The moment that a person means: RFC 3339, `2025-12-09`, `2025-12-09 14:30[:05]` in this machine's time zone, `-2h`,
/// `now`. A day alone means its beginning.
///
/// # Errors
/// `usage` when it is none of these, or no moment of that name exists.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let text = text.trim();
    let bad = |why: &str| {
        Failure::usage(format!("cannot understand the time {text:?}{why}"))
            .help("write 2025-12-09T14:30:00Z, \"2025-12-09 14:30\", 2025-12-09 or -2h")
    };
    if text == "now" {
        return Ok(now);
    }
    if let Some(at) = repo::time::parse(text) {
        return Ok(at);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_span(ago).ok_or_else(|| bad(""))?;
        return Ok(Timestamp(now.0 - i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX / 2)));
    }
    let zone = jiff::tz::TimeZone::system();
    let civil = text.parse::<jiff::civil::DateTime>().ok();
    let civil = civil.or_else(|| text.parse::<jiff::civil::Date>().ok().map(|day| day.at(0, 0, 0, 0)));
    let civil = civil.ok_or_else(|| bad(""))?;
    let at = zone.to_ambiguous_zoned(civil).compatible().map_err(|_| bad(" in this time zone"))?;
    Ok(Timestamp(at.timestamp().as_nanosecond()))
}

/// A length of time: `90s`, `15m`, `2h`, `7d`, `4w`, or several in a row: `1d12h`.
pub fn parse_span(text: &str) -> Option<std::time::Duration> {
    let (mut total, mut number) = (0u64, None::<u64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let is_whole = number.is_none() && !text.is_empty();
    is_whole.then(|| std::time::Duration::from_secs(total))
}

/// A size in bytes: `4096`, `512K`, `10M`, `1.5GiB`, `2TB`: always in powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

/// How hard to compress: `off`, `fast`, `auto`, `max`, or `zstd:LEVEL`.
///
/// # Errors
/// What can be said, where it is none of these.
pub fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "off" => Ok(Compression::Off),
        "fast" => Ok(Compression::Level(1)),
        "auto" => Ok(Compression::Level(3)),
        "max" => Ok(Compression::Level(19)),
        _ => {
            let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok());
            let level = level.filter(|level| (-7..=19).contains(level));
            level.map(Compression::Level).ok_or_else(|| "it is off, fast, auto, max, or zstd:-7 to zstd:19".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_name_may_begin_with_its_source() {
        for (text, expect) in [
            ("latest", (None, "latest")),
            ("latest@2025-12-09T14:30:00Z", (None, "latest@2025-12-09T14:30:00Z")),
            ("ab12", (None, "ab12")),
            ("@-2h", (None, "@-2h")),
            ("shop/db", (Some("shop/db"), "latest")),
            ("shop/db:", (Some("shop/db"), "latest")),
            ("shop/db:latest@-2h", (Some("shop/db"), "latest@-2h")),
            ("shop/db:ab12", (Some("shop/db"), "ab12")),
            ("shop/db@2025-12-09T14:30:00Z", (Some("shop/db"), "@2025-12-09T14:30:00Z")),
        ] {
            assert_eq!(split_source(text), expect, "{text}");
        }
    }

    #[test]
    fn times_spans_and_sizes_are_what_people_write() {
        let now = repo::time::parse("2025-12-09T14:30:00Z").expect("parses");
        let told = |text: &str| parse_time(text, now).map(repo::time::text).map_err(|f| f.exit);
        assert_eq!(told("-2h"), Ok("2025-12-09T12:30:00Z".into()));
        assert_eq!(told("2025-12-01T00:00:00+01:00"), Ok("2025-11-30T23:00:00Z".into()));
        assert!(told("2025-12-01").is_ok() && told("2025-12-01 10:20").is_ok() && told("2025-12-01 10:20:30").is_ok());
        for bad in ["", "yesterdayish", "-", "-2y", "2025-13-01"] {
            assert_eq!(told(bad), Err(Exit::Usage), "{bad}");
        }
        assert_eq!(parse_span("1d12h").map(|d| d.as_secs()), Some(129_600));
        assert_eq!(parse_span("12"), None);
        for (text, expect) in [
            ("4096", Some(4096)),
            ("10M", Some(10 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("x", None),
            ("-1", None),
            ("99999999T", None),
        ] {
            assert_eq!(parse_size(text), expect, "{text}");
        }
    }
}
