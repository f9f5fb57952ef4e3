//! What retention promises: first as sentences with examples, then as properties against an independent model.

use proptest::prelude::*;

use super::*;

const MINUTE: i128 = 60 * 1_000_000_000;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;

// ---- examples ----

/// Points in the order of commits, named a, b, c, … by it.
struct Given {
    points: Vec<Point>,
    policy: Policy,
    now: Timestamp,
}

/// Decides, and compares with one line per point, in the order of commits: `a keep: reason; reason`.
#[track_caller]
fn check(given: Given, expect: &[&str]) {
    let verdicts = decide(&given.points, &given.policy, given.now).expect("the policy of an example is sound");
    let lines: Vec<String> = verdicts.iter().map(line).collect();
    assert_eq!(lines, expect);
}

#[track_caller]
fn check_refused(given: Given, message: &str) {
    let error = decide(&given.points, &given.policy, given.now).expect_err("the policy of this example is unsound");
    assert_eq!(error.to_string(), message);
    assert!(!error.help().is_empty());
}

fn line((id, verdict): &([u8; 32], Verdict)) -> String {
    let name = char::from(b'a' + id[31]);
    match verdict {
        Verdict::Keep(reasons) => {
            let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
            format!("{name} keep: {}", reasons.join("; "))
        }
        Verdict::Remove(reason) => format!("{name} remove: {reason}"),
    }
}

fn given<const N: usize>(points: [Point; N], policy: Policy) -> Given {
    let mut points = Vec::from(points);
    for (at, point) in points.iter_mut().enumerate() {
        let at = u8::try_from(at).expect("examples are short");
        point.id[31] = at;
        point.order = u64::from(at);
    }
    Given { points, policy, now: moment("2025-12-31 23") }
}

/// A complete point of source "db" taken at `"2025-03-10 14"` or `"2025-03-10 14:30"`, in UTC.
fn at(when: &str) -> Point {
    let time = moment(when);
    Point {
        id: [0; 32],
        group: "db".into(),
        order: 0,
        time,
        civil: civil(time),
        tags: Vec::new(),
        hold: None,
        complete: true,
        verified: false,
    }
}

impl Point {
    fn of(self, group: &str) -> Point {
        Point { group: group.into(), ..self }
    }
    fn tagged(self, tags: &[&str]) -> Point {
        Point { tags: tags.iter().map(|tag| String::from(*tag)).collect(), ..self }
    }
    fn held(self, why: &str) -> Point {
        Point { hold: Some(why.into()), ..self }
    }
    fn partial(self) -> Point {
        Point { complete: false, ..self }
    }
    fn verified(self) -> Point {
        Point { verified: true, ..self }
    }
}

fn none() -> Policy {
    Policy::default()
}

fn last(count: u32) -> Policy {
    Policy { last: Some(Count::Last(count)), ..none() }
}

fn daily(count: u32) -> Policy {
    Policy { daily: Some(Count::Last(count)), ..none() }
}

fn tags(lists: &[&[&str]]) -> Policy {
    let list = |tags: &&[&str]| tags.iter().map(|tag| String::from(*tag)).collect();
    Policy { tags: lists.iter().map(list).collect(), ..none() }
}

fn days(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count * 86400))
}

fn empty_allowed(policy: Policy) -> Policy {
    Policy { allow_empty: AllowEmpty::Yes, ..policy }
}

fn moment(when: &str) -> Timestamp {
    let fields: Vec<i128> =
        when.split(['-', ' ', ':']).map(|field| field.parse().expect("a date is made of numbers")).collect();
    let minute = fields.get(4).copied().unwrap_or(0);
    Timestamp(days_before(fields[0], fields[1], fields[2]) * DAY + fields[3] * HOUR + minute * MINUTE)
}

/// Days from 1970-01-01 to a date, counted the slow way.
fn days_before(year: i128, month: i128, day: i128) -> i128 {
    let years: i128 =
        if year >= 1970 { (1970..year).map(days_of_year).sum() } else { -(year..1970).map(days_of_year).sum::<i128>() };
    years + (1..month).map(|month| days_of_month(year, month)).sum::<i128>() + day - 1
}

fn days_of_year(year: i128) -> i128 {
    (1..=12).map(|month| days_of_month(year, month)).sum()
}

fn days_of_month(year: i128, month: i128) -> i128 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn civil(time: Timestamp) -> Civil {
    let day = time.0.div_euclid(DAY);
    let (year, month, dom) = date(day);
    // The ISO week is the week of its Thursday; 1970-01-01 was one.
    let thursday = day + 3 - (day + 3).rem_euclid(7);
    let (iso_year, ..) = date(thursday);
    let week = (thursday - days_before(iso_year, 1, 1)) / 7 + 1;
    let small = |field: i128| u8::try_from(field).expect("calendar fields are small");
    let large = |year: i128| i32::try_from(year).expect("examples stay in our era");
    Civil {
        year: large(year),
        month: small(month),
        day: small(dom),
        hour: small(time.0.rem_euclid(DAY) / HOUR),
        iso_year: large(iso_year),
        iso_week: small(week),
    }
}

fn date(mut day: i128) -> (i128, i128, i128) {
    let (mut year, mut month) = (1970, 1);
    while day < 0 {
        year -= 1;
        day += days_of_year(year);
    }
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

#[test]
fn the_first_of_each_period_stays_where_that_is_asked_for() {
    let months = [
        at("2025-10-03 02"),
        at("2025-10-20 02"),
        at("2025-11-01 02"),
        at("2025-11-15 02"),
        at("2025-12-05 02"),
        at("2025-12-06 02"),
    ];
    let policy = Policy { monthly: Some(Count::Last(2)), of_period: OfPeriod::First, ..none() };
    let expect = [
        "a remove: no rule keeps it",
        "b remove: no rule keeps it",
        "c keep: monthly, first of month 2 of 2",
        "d remove: no rule keeps it",
        "e keep: monthly, first of month 1 of 2",
        "f keep: newest complete of its source",
    ];
    check(given(months, policy), &expect);
    // What was the first stays the first when others come and go.
    let survivors = [at("2025-11-01 02"), at("2025-12-05 02"), at("2025-12-06 02"), at("2025-12-30 02")];
    let policy = Policy { monthly: Some(Count::Last(2)), of_period: OfPeriod::First, ..none() };
    let expect = [
        "a keep: monthly, first of month 2 of 2",
        "b keep: monthly, first of month 1 of 2",
        "c remove: no rule keeps it",
        "d keep: newest complete of its source",
    ];
    check(given(survivors, policy), &expect);
}

#[test]
fn the_calendar_of_these_tests_is_right() {
    let week = |when: &str| (civil(moment(when)).iso_year, civil(moment(when)).iso_week);
    assert_eq!(moment("2025-03-10 14:30").0, 1_741_617_000 * 1_000_000_000);
    assert_eq!(week("2024-12-29 00"), (2024, 52));
    assert_eq!(week("2024-12-30 00"), (2025, 1));
    assert_eq!(week("2021-01-03 23"), (2020, 53));
    assert_eq!(week("2021-01-04 00"), (2021, 1));
    let Civil { year, month, day, hour, .. } = civil(moment("2024-02-29 23:59"));
    assert_eq!((year, month, day, hour), (2024, 2, 29, 23));
    assert_eq!(civil(moment("1968-02-29 05")).day, 29);
}

#[test]
fn keep_last_keeps_the_newest_commits() {
    let points = [at("2025-03-01 10"), at("2025-03-01 10"), at("2025-03-01 10")];
    check(
        given(points, last(2)),
        &["a remove: no rule keeps it", "b keep: last, snapshot 2 of 2", "c keep: last, snapshot 1 of 2"],
    );
}

#[test]
fn the_order_of_commits_decides_and_not_the_clock() {
    let points = [at("2025-03-01 10:50"), at("2025-03-01 10:10")];
    check(given(points, last(1)), &["a remove: no rule keeps it", "b keep: last, snapshot 1 of 1"]);
}

#[test]
fn daily_keeps_the_newest_of_each_day_and_days_without_points_do_not_count() {
    let points = [at("2025-03-01 10"), at("2025-03-01 22"), at("2025-03-05 10"), at("2025-03-09 10")];
    check(
        given(points, daily(3)),
        &[
            "a remove: no rule keeps it",
            "b keep: daily, day 3 of 3",
            "c keep: daily, day 2 of 3",
            "d keep: daily, day 1 of 3",
        ],
    );
}

#[test]
fn every_tier_has_its_own_buckets_and_every_reason_is_shown() {
    let policy = Policy {
        hourly: Some(Count::Last(2)),
        daily: Some(Count::Last(2)),
        weekly: Some(Count::Last(2)),
        monthly: Some(Count::Last(2)),
        yearly: Some(Count::Last(2)),
        ..none()
    };
    let points = [
        at("2023-06-01 10"),
        at("2024-12-31 10"),
        at("2025-02-27 10"),
        at("2025-03-06 10"),
        at("2025-03-12 10"),
        at("2025-03-13 09:10"),
        at("2025-03-13 09:50"),
    ];
    check(
        given(points, policy),
        &[
            "a remove: no rule keeps it",
            "b keep: yearly, year 2 of 2",
            "c keep: monthly, month 2 of 2",
            "d keep: weekly, week 2 of 2",
            "e keep: hourly, hour 2 of 2; daily, day 2 of 2",
            "f remove: no rule keeps it",
            "g keep: hourly, hour 1 of 2; daily, day 1 of 2; weekly, week 1 of 2; monthly, month 1 of 2; \
             yearly, year 1 of 2",
        ],
    );
}

#[test]
fn weeks_are_iso_weeks_and_do_not_break_at_new_year() {
    let weekly = Policy { weekly: Some(Count::Last(5)), ..none() };
    let points = [at("2024-12-22 10"), at("2024-12-29 10"), at("2024-12-30 10"), at("2025-01-02 10")];
    check(
        given(points, weekly),
        &[
            "a keep: weekly, week 3 of 5",
            "b keep: weekly, week 2 of 5",
            "c remove: no rule keeps it",
            "d keep: weekly, week 1 of 5",
        ],
    );
}

#[test]
fn the_oldest_is_kept_while_a_count_is_not_used_up() {
    let points = [at("2025-03-01 08"), at("2025-03-01 09"), at("2025-03-01 10")];
    let monthly = Policy { monthly: Some(Count::Last(12)), ..none() };
    check(
        given(points.clone(), monthly),
        &["a keep: monthly, oldest, 2 of 12", "b remove: no rule keeps it", "c keep: monthly, month 1 of 12"],
    );
    let monthly = Policy { monthly: Some(Count::Last(1)), ..none() };
    check(
        given(points, monthly),
        &["a remove: no rule keeps it", "b remove: no rule keeps it", "c keep: monthly, month 1 of 1"],
    );
}

#[test]
fn unlimited_keeps_one_of_every_bucket() {
    let policy = Policy { daily: Some(Count::All), ..none() };
    let points = [at("2025-03-01 08"), at("2025-03-02 09"), at("2025-03-02 10")];
    check(
        given(points, policy),
        &["a keep: daily, day 2, no limit", "b remove: no rule keeps it", "c keep: daily, day 1, no limit"],
    );
}

#[test]
fn clocks_that_flip_around_midnight_use_up_two_days_and_no_more() {
    let points = [
        at("2025-03-07 12"),
        at("2025-03-08 23:40"),
        at("2025-03-09 00:20"),
        at("2025-03-08 23:45"),
        at("2025-03-09 00:25"),
    ];
    check(
        given(points, daily(3)),
        &[
            "a keep: daily, day 3 of 3",
            "b remove: no rule keeps it",
            "c remove: no rule keeps it",
            "d keep: daily, day 2 of 3",
            "e keep: daily, day 1 of 3",
        ],
    );
}

#[test]
fn within_is_relative_to_the_newest_point_and_not_to_now() {
    let policy = Policy { within: days(2), ..none() };
    let points = [at("2025-03-01 10"), at("2025-03-01 10:01"), at("2025-03-02 10"), at("2025-03-03 10")];
    check(
        given(points, policy),
        &[
            "a remove: no rule keeps it",
            "b keep: within 2d of the newest",
            "c keep: within 2d of the newest",
            "d keep: within 2d of the newest",
        ],
    );
}

#[test]
fn within_looks_past_a_point_whose_clock_ran_a_little_late() {
    let policy = Policy { within: days(2), ..none() };
    let points = [at("2025-03-01 10:30"), at("2025-03-01 09:50"), at("2025-03-03 10")];
    check(
        given(points, policy),
        &["a keep: within 2d of the newest", "b remove: no rule keeps it", "c keep: within 2d of the newest"],
    );
}

#[test]
fn within_daily_keeps_one_a_day_as_far_back_as_it_reaches() {
    let policy = Policy { within_daily: days(3), ..none() };
    let points =
        [at("2025-03-01 10"), at("2025-03-05 10"), at("2025-03-06 10"), at("2025-03-06 11"), at("2025-03-07 10")];
    check(
        given(points, policy),
        &[
            "a remove: no rule keeps it",
            "b keep: daily, within 3d of the newest",
            "c remove: no rule keeps it",
            "d keep: daily, within 3d of the newest",
            "e keep: daily, within 3d of the newest",
        ],
    );
}

#[test]
fn within_rules_keep_the_oldest_where_it_is_in_reach() {
    let policy = Policy { within_yearly: days(365), ..none() };
    let points = [at("2025-03-01 10"), at("2025-03-02 10"), at("2025-03-07 10")];
    check(
        given(points, policy),
        &[
            "a keep: yearly, oldest, within 365d of the newest",
            "b remove: no rule keeps it",
            "c keep: yearly, within 365d of the newest",
        ],
    );
}

#[test]
fn each_within_rule_has_its_own_buckets() {
    let policy = Policy {
        within_hourly: Some(Duration::from_secs(36 * 3600)),
        within_weekly: days(10),
        within_monthly: days(40),
        ..none()
    };
    let points =
        [at("2025-01-01 10"), at("2025-02-20 10"), at("2025-03-06 10"), at("2025-03-13 10:05"), at("2025-03-13 10:55")];
    check(
        given(points, policy),
        &[
            "a remove: no rule keeps it",
            "b keep: monthly, within 40d of the newest",
            "c keep: weekly, within 10d of the newest",
            "d remove: no rule keeps it",
            "e keep: hourly, within 1d12h of the newest; weekly, within 10d of the newest; \
             monthly, within 40d of the newest",
        ],
    );
}

#[test]
fn a_span_without_end_keeps_everything() {
    let policy = Policy { within: Some(Duration::MAX), ..none() };
    let mut ancient = at("1970-01-01 00");
    ancient.time = Timestamp(i128::MIN);
    let verdicts =
        decide(&given([ancient, at("2025-03-01 10")], policy.clone()).points, &policy, moment("2025-03-02 00"))
            .expect("the policy is sound");
    assert!(verdicts.iter().all(|(_, verdict)| matches!(verdict, Verdict::Keep(_))));
}

#[test]
fn any_list_of_tags_keeps_a_point_that_carries_all_of_it() {
    let points = [
        at("2025-03-01 10").tagged(&["release", "v1"]),
        at("2025-03-02 10").tagged(&["release"]),
        at("2025-03-03 10").tagged(&["keep", "other"]),
        at("2025-03-04 10"),
    ];
    check(
        given(points, tags(&[&["release", "v1"], &["keep"]])),
        &[
            "a keep: tags release, v1",
            "b remove: no rule keeps it",
            "c keep: tag keep",
            "d keep: newest complete of its source",
        ],
    );
}

#[test]
fn the_empty_tag_means_no_tag_at_all() {
    let points = [at("2025-03-01 10"), at("2025-03-02 10").tagged(&["auto"]), at("2025-03-03 10").tagged(&["auto"])];
    check(
        given(points, tags(&[&[""]])),
        &["a keep: has no tag", "b remove: no rule keeps it", "c keep: newest complete of its source"],
    );
}

#[test]
fn tags_alone_that_match_nothing_are_refused() {
    let points = || [at("2025-03-01 10").tagged(&["release"]), at("2025-03-02 10")];
    check_refused(
        given(points(), tags(&[&["releas"], &["a", "b"]])),
        "the retention policy keeps by tag alone, and no complete snapshot carries \"releas\" or \"a\" and \"b\"",
    );
    // Another rule makes the intent clear, and so does the owner who allows it.
    let beside = Policy { last: Some(Count::Last(1)), ..tags(&[&["releas"]]) };
    check(given(points(), beside), &["a remove: no rule keeps it", "b keep: last, snapshot 1 of 1"]);
    check(
        given(points(), empty_allowed(tags(&[&["releas"]]))),
        &["a remove: no rule keeps it", "b remove: no rule keeps it"],
    );
    check(given([], tags(&[&["releas"]])), &[]);
}

#[test]
fn a_policy_that_keeps_nothing_by_its_wording_is_refused() {
    let points = || [at("2025-03-01 10")];
    let no_rule = "the retention policy has no rule, so it would remove every snapshot";
    let zero = "every rule of the retention policy keeps zero, so it would remove every snapshot";
    check_refused(given(points(), none()), no_rule);
    check_refused(given(points(), empty_allowed(none())), no_rule);
    check_refused(given([], none()), no_rule);
    check_refused(given(points(), last(0)), zero);
    check_refused(given(points(), Policy { within: Some(Duration::ZERO), ..last(0) }), zero);
    check_refused(given(points(), tags(&[&[]])), "a rule of the retention policy keeps by tag, and names no tag");
    check(given(points(), empty_allowed(last(0))), &["a remove: no rule keeps it"]);
}

#[test]
fn a_snapshot_given_twice_is_refused() {
    let mut twice = given([at("2025-03-01 10"), at("2025-03-01 10").of("other")], last(1));
    twice.points[1].id = twice.points[0].id;
    let message = format!("a snapshot was given twice: {}", "00".repeat(32));
    check_refused(twice, &message);
}

#[test]
fn groups_are_judged_alone() {
    let points = [
        at("2025-03-01 10").of("web"),
        at("2025-03-02 10").of("db"),
        at("2025-03-03 10").of("db"),
        at("2020-01-01 10").of("media").tagged(&["keep"]),
    ];
    check(
        given(points, Policy { last: Some(Count::Last(1)), ..tags(&[&["keep"]]) }),
        &[
            "a keep: last, snapshot 1 of 1",
            "b remove: no rule keeps it",
            "c keep: last, snapshot 1 of 1",
            "d keep: last, snapshot 1 of 1; tag keep",
        ],
    );
}

#[test]
fn no_group_ends_empty_unless_the_owner_allows_it() {
    let points =
        || [at("2025-03-01 10").tagged(&["keep"]), at("2025-03-02 10").of("web"), at("2025-03-03 10").of("web")];
    check(
        given(points(), tags(&[&["keep"]])),
        &["a keep: tag keep", "b remove: no rule keeps it", "c keep: newest complete of its source"],
    );
    check(
        given(points(), empty_allowed(tags(&[&["keep"]]))),
        &["a keep: tag keep", "b remove: no rule keeps it", "c remove: no rule keeps it"],
    );
}

#[test]
fn the_newest_verified_stays_until_a_newer_one_is_verified() {
    let points =
        || [at("2025-03-01 10").verified(), at("2025-03-02 10").verified(), at("2025-03-03 10"), at("2025-03-04 10")];
    check(
        given(points(), last(1)),
        &[
            "a remove: no rule keeps it",
            "b keep: newest verified of its source",
            "c remove: no rule keeps it",
            "d keep: last, snapshot 1 of 1",
        ],
    );
    check(
        given(points(), empty_allowed(last(1))),
        &[
            "a remove: no rule keeps it",
            "b remove: no rule keeps it",
            "c remove: no rule keeps it",
            "d keep: last, snapshot 1 of 1",
        ],
    );
}

#[test]
fn held_points_stay_whatever_the_policy() {
    let points = [at("2025-03-01 10").held("litigation"), at("2025-03-02 10").partial().held(""), at("2025-03-03 10")];
    check(
        given(points, empty_allowed(last(0))),
        &["a keep: held: litigation", "b keep: held", "c remove: no rule keeps it"],
    );
}

#[test]
fn partial_points_do_not_count_and_go_once_a_complete_one_follows() {
    let points = [
        at("2025-03-01 10"),
        at("2025-03-02 10").partial().verified().tagged(&["keep"]),
        at("2025-03-03 10"),
        at("2025-03-04 10").partial(),
        at("2025-03-05 10").partial(),
    ];
    check(
        given(points, Policy { last: Some(Count::Last(2)), ..tags(&[&["keep"]]) }),
        &[
            "a keep: last, snapshot 2 of 2",
            "b remove: partial, and a later complete one exists",
            "c keep: last, snapshot 1 of 2",
            "d keep: partial, and no later complete one exists",
            "e keep: partial, and no later complete one exists",
        ],
    );
}

#[test]
fn a_doubtful_point_does_not_stand_in_for_partial_ones() {
    let points = [at("2025-03-02 10").partial(), at("2031-01-01 10")];
    let now = moment("2025-03-03 10");
    check(
        Given { now, ..given(points, last(1)) },
        &["a keep: partial, and no later complete one exists", "b keep: clock doubtful: 2130d in the future"],
    );
}

#[test]
fn a_point_dated_before_an_earlier_commit_is_kept_and_displaces_nothing() {
    let points =
        [at("2025-03-01 10"), at("2025-03-02 10"), at("2025-03-02 08:59"), at("2025-03-01 23:59"), at("2025-03-02 09")];
    check(
        given(points, daily(2)),
        &[
            "a keep: daily, day 2 of 2",
            "b remove: no rule keeps it",
            "c keep: clock doubtful: 1h1m before an earlier commit",
            "d keep: clock doubtful: 10h1m before an earlier commit",
            "e keep: daily, day 1 of 2",
        ],
    );
}

#[test]
fn a_clock_that_drifts_back_in_small_steps_is_doubted_all_the_same() {
    let points = [at("2025-03-02 10"), at("2025-03-02 09:20"), at("2025-03-02 08:40")];
    check(
        given(points, last(1)),
        &[
            "a remove: no rule keeps it",
            "b keep: last, snapshot 1 of 1",
            "c keep: clock doubtful: 1h20m before an earlier commit",
        ],
    );
}

#[test]
fn a_point_from_the_future_is_kept_and_makes_no_other_doubtful() {
    let points = [at("2025-03-02 10"), at("2025-03-03 11:01"), at("2025-03-03 10"), at("2025-03-03 11")];
    let now = moment("2025-03-03 10");
    check(
        Given { now, ..given(points, last(2)) },
        &[
            "a remove: no rule keeps it",
            "b keep: clock doubtful: 1h1m in the future",
            "c keep: last, snapshot 2 of 2",
            "d keep: last, snapshot 1 of 2",
        ],
    );
}

#[test]
fn forged_points_at_the_end_of_every_day_push_out_nothing() {
    let points = [
        at("2025-03-01 10"),
        at("2025-03-02 10"),
        at("2025-03-03 10"),
        at("2025-03-01 23:59"),
        at("2025-03-02 23:59"),
        at("2025-03-04 23:59"),
    ];
    let now = moment("2025-03-03 12");
    check(
        Given { now, ..given(points, daily(3)) },
        &[
            "a keep: daily, day 3 of 3",
            "b keep: daily, day 2 of 3",
            "c keep: daily, day 1 of 3",
            "d keep: clock doubtful: 1d10h before an earlier commit",
            "e keep: clock doubtful: 10h1m before an earlier commit",
            "f keep: clock doubtful: 1d11h in the future",
        ],
    );
}

#[test]
fn when_the_judge_has_no_clock_itself_nothing_is_removed() {
    let points = [at("2025-03-01 10"), at("2025-03-02 10")];
    let now = moment("1970-01-01 00");
    check(
        Given { now, ..given(points, empty_allowed(last(0))) },
        &["a keep: clock doubtful: 20148d10h in the future", "b keep: clock doubtful: 20149d10h in the future"],
    );
}

#[test]
fn when_the_point_that_made_others_doubtful_expires_they_are_judged_anew() {
    let points = [at("2025-03-09 10"), at("2025-03-02 10"), at("2025-03-10 10"), at("2025-03-11 10")];
    let first = given(points, last(2));
    let (policy, now, survivors) = (first.policy.clone(), first.now, first.points[1..].to_vec());
    check(
        first,
        &[
            "a remove: no rule keeps it",
            "b keep: clock doubtful: 7d before an earlier commit",
            "c keep: last, snapshot 2 of 2",
            "d keep: last, snapshot 1 of 2",
        ],
    );
    check(
        Given { points: survivors, policy, now },
        &["b remove: no rule keeps it", "c keep: last, snapshot 2 of 2", "d keep: last, snapshot 1 of 2"],
    );
}

#[test]
fn partial_points_testify_against_nobody() {
    let points = [at("2025-03-01 10"), at("2025-03-09 10").partial(), at("2025-03-02 10")];
    check(
        given(points, last(1)),
        &[
            "a remove: no rule keeps it",
            "b remove: partial, and a later complete one exists",
            "c keep: last, snapshot 1 of 1",
        ],
    );
}

// ---- properties ----

/// What the model says of a point: the same promises, said of each point alone and with nothing shared with the code.
fn kept_by_model(points: &[Point], at: usize, policy: &Policy, now: Timestamp) -> bool {
    let point = &points[at];
    let guarded = policy.allow_empty == AllowEmpty::No;
    let later = |one: &Point, other: &Point| (one.order, one.id) > (other.order, other.id);
    let group: Vec<&Point> = points.iter().filter(|other| other.group == point.group).collect();
    let ahead = |one: &Point| one.time.0 > now.0 + HOUR;
    // A doubtful witness is no exception: whatever made it doubtful lies later still.
    let doubtful = |one: &Point| {
        let witness = |other: &&&Point| other.complete && !ahead(other) && later(one, other);
        ahead(one) || group.iter().filter(witness).any(|other| other.time.0 > one.time.0 + HOUR)
    };
    let counting: Vec<&Point> = group.iter().copied().filter(|one| one.complete && !doubtful(one)).collect();
    if point.hold.is_some() || doubtful(point) {
        return true;
    }
    if !point.complete {
        return !counting.iter().any(|other| other.order > point.order);
    }
    if policy.tags.iter().any(|tags| tags.iter().all(|tag| point.tags.contains(tag))) {
        return true;
    }
    let newer: Vec<&Point> = counting.iter().copied().filter(|other| later(other, point)).collect();
    let newest_verified = point.verified && !newer.iter().any(|other| other.verified);
    if guarded && (newer.is_empty() || newest_verified) {
        return true;
    }
    let oldest = !counting.iter().any(|other| later(point, other));
    let newest = counting.iter().copied().max_by_key(|one| (one.order, one.id)).expect("the point itself is counted");
    let tiers: [fn(&Point) -> String; 6] = [
        |one| format!("{:?}", one.id),
        |one| format!("{}-{}-{} {}", one.civil.year, one.civil.month, one.civil.day, one.civil.hour),
        |one| format!("{}-{}-{}", one.civil.year, one.civil.month, one.civil.day),
        |one| format!("{} week {}", one.civil.iso_year, one.civil.iso_week),
        |one| format!("{}-{}", one.civil.year, one.civil.month),
        |one| format!("{}", one.civil.year),
    ];
    let counts = [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly];
    let spans = [
        policy.within,
        policy.within_hourly,
        policy.within_daily,
        policy.within_weekly,
        policy.within_monthly,
        policy.within_yearly,
    ];
    let by_count = tiers.iter().zip(counts).any(|(tier, count)| {
        let before: BTreeSet<String> = newer.iter().map(|other| tier(other)).collect();
        let limit = match count {
            None => 0,
            Some(Count::Last(limit)) => limit,
            Some(Count::All) => u32::MAX,
        };
        (before.len() as u64) < u64::from(limit) && (oldest || !before.contains(&tier(point)))
    });
    let by_span = tiers.iter().zip(spans).any(|(tier, span)| {
        let Some(span) = span else { return false };
        let reached = |one: &Point| {
            newest.time.0 - one.time.0 < i128::try_from(span.as_nanos()).expect("test spans are short")
                && span > Duration::ZERO
        };
        let taken = newer.iter().any(|other| reached(other) && tier(other) == tier(point));
        reached(point) && (oldest || !taken)
    });
    by_count || by_span
}

/// How far a point's clock is off.
#[derive(Clone, Copy, Debug)]
enum Clockwork {
    /// Within the tolerance, and between two points of it.
    Sound,
    /// Anything.
    Wild,
}

fn now() -> Timestamp {
    moment("2025-06-15 12")
}

/// Up to 14 points of two groups, steps of hours to weeks apart, the last some hours before `now()`.
fn histories(clockwork: Clockwork) -> impl Strategy<Value = Vec<Point>> {
    let step = prop_oneof![
        2 => 0..20 * MINUTE,
        2 => 0..3 * HOUR,
        3 => 10 * HOUR..30 * HOUR,
        1 => 5 * DAY..40 * DAY,
    ];
    let off = match clockwork {
        Clockwork::Sound => (-25 * MINUTE..25 * MINUTE).boxed(),
        Clockwork::Wild => prop_oneof![
            3 => -25 * MINUTE..25 * MINUTE,
            3 => -70 * MINUTE..70 * MINUTE,
            1 => -400 * DAY..400 * DAY,
        ]
        .boxed(),
    };
    let point = (
        step,
        off,
        prop::bool::weighted(0.25),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.25),
        prop::bool::weighted(0.1),
        prop::sample::subsequence(vec!["keep", "auto"], 0..=2),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(point, 0..14).prop_map(|drawn| {
        let mut time = now().0 - HOUR;
        let mut order = 100;
        let mut points = Vec::new();
        for (at, (step, off, other, complete, verified, held, tags, tie)) in drawn.into_iter().enumerate() {
            let moment = Timestamp(time + off);
            points.push(Point {
                // Ids fall like orders do, so that a tie leaves the later point the later one.
                id: [u8::try_from(100 - at).expect("few points"); 32],
                group: if other { "web" } else { "db" }.into(),
                order,
                time: moment,
                civil: civil(moment),
                tags: tags.into_iter().map(String::from).collect(),
                hold: held.then(|| "litigation".into()),
                complete,
                verified,
            });
            time -= step;
            order -= u64::from(!tie);
        }
        points
    })
}

fn counts() -> impl Strategy<Value = Option<Count>> {
    prop_oneof![4 => Just(None), 4 => (0..5u32).prop_map(|count| Some(Count::Last(count))), 1 => Just(Some(Count::All))]
}

/// Policies of counts alone.
fn count_policies() -> impl Strategy<Value = Policy> {
    let allow_empty = prop_oneof![3 => Just(AllowEmpty::No), 1 => Just(AllowEmpty::Yes)];
    let drawn = (counts(), counts(), counts(), counts(), counts(), counts(), allow_empty);
    let policy = drawn.prop_map(|(last, hourly, daily, weekly, monthly, yearly, allow_empty)| Policy {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        allow_empty,
        ..none()
    });
    policy.prop_filter("a policy has a rule", |policy| !policy.rules().is_empty())
}

/// Policies of everything.
fn policies() -> impl Strategy<Value = Policy> {
    let span = || prop_oneof![4 => Just(None), 1 => (0..60u64 * 24).prop_map(|h| Some(Duration::from_secs(h * 3600)))];
    let spans = (span(), span(), span(), span(), span(), span());
    let tags = prop::collection::vec(prop::sample::subsequence(vec!["keep", "auto"], 1..=2), 0..2);
    (count_policies(), spans, tags).prop_map(|(counts, spans, tags)| Policy {
        within: spans.0,
        within_hourly: spans.1,
        within_daily: spans.2,
        within_weekly: spans.3,
        within_monthly: spans.4,
        within_yearly: spans.5,
        tags: tags.into_iter().map(|tags| tags.into_iter().map(String::from).collect()).collect(),
        ..counts
    })
}

type Verdicts = BTreeMap<[u8; 32], Verdict>;

fn decided(points: &[Point], policy: &Policy) -> Verdicts {
    decide(points, policy, now()).expect("drawn policies have a rule").into_iter().collect()
}

fn is_kept(verdicts: &Verdicts, point: &Point) -> bool {
    matches!(verdicts.get(&point.id), Some(Verdict::Keep(_)))
}

fn is_doubtful(verdicts: &Verdicts, point: &Point) -> bool {
    let doubt = |reason: &Reason| matches!(reason, Reason::ClockAhead(_) | Reason::ClockBehind(_));
    matches!(verdicts.get(&point.id), Some(Verdict::Keep(reasons)) if reasons.iter().any(doubt))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_verdicts_are_those_of_the_model(points in histories(Clockwork::Wild), policy in policies()) {
        let verdicts = decide(&points, &policy, now()).expect("drawn policies have a rule");
        prop_assert_eq!(verdicts.len(), points.len());
        for (at, (id, verdict)) in verdicts.iter().enumerate() {
            prop_assert_eq!(id, &points[at].id);
            let kept = matches!(verdict, Verdict::Keep(reasons) if !reasons.is_empty());
            prop_assert_eq!(kept, kept_by_model(&points, at, &policy, now()), "point {}: {:?}", at, verdict);
        }
    }

    #[test]
    fn held_points_are_always_kept(points in histories(Clockwork::Wild), policy in policies()) {
        let verdicts = decided(&points, &policy);
        prop_assert!(points.iter().filter(|point| point.hold.is_some()).all(|point| is_kept(&verdicts, point)));
    }

    #[test]
    fn a_hold_changes_no_other_verdict(
        points in histories(Clockwork::Wild), policy in policies(), at in any::<prop::sample::Index>(),
    ) {
        if points.is_empty() {
            return Ok(());
        }
        let at = at.index(points.len());
        let mut held = points.clone();
        held[at].hold = Some("litigation".into());
        let (before, mut after) = (decided(&points, &policy), decided(&held, &policy));
        after.insert(points[at].id, before[&points[at].id].clone());
        prop_assert_eq!(before, after);
    }

    #[test]
    fn no_group_ends_empty_and_its_newest_complete_and_verified_points_stay(
        points in histories(Clockwork::Wild), policy in policies(),
    ) {
        let policy = Policy { allow_empty: AllowEmpty::No, ..policy };
        let verdicts = decided(&points, &policy);
        for group in ["db", "web"] {
            let mut members: Vec<&Point> = points.iter().filter(|point| point.group == group).collect();
            members.sort_by_key(|point| (point.order, point.id));
            prop_assert!(members.is_empty() || members.iter().any(|point| is_kept(&verdicts, point)));
            // Both of all, and of those that are not doubtful: a forged one must not take over the guard.
            for doubted in [true, false] {
                let counted = |point: &&&Point| point.complete && (doubted || !is_doubtful(&verdicts, point));
                let newest = members.iter().rev().find(counted);
                let proven = members.iter().rev().filter(counted).find(|point| point.verified);
                prop_assert!(newest.is_none_or(|point| is_kept(&verdicts, point)));
                prop_assert!(proven.is_none_or(|point| is_kept(&verdicts, point)));
            }
        }
    }

    #[test]
    fn deciding_again_on_the_survivors_removes_nothing_more(
        points in histories(Clockwork::Sound), policy in count_policies(),
    ) {
        let first = decided(&points, &policy);
        let survivors: Vec<Point> = points.into_iter().filter(|point| is_kept(&first, point)).collect();
        let second = decided(&survivors, &policy);
        prop_assert!(survivors.iter().all(|point| is_kept(&second, point)));
    }

    #[test]
    fn partial_points_change_no_verdict_on_complete_ones(
        points in histories(Clockwork::Wild), policy in policies(),
    ) {
        let complete: Vec<Point> = points.iter().filter(|point| point.complete).cloned().collect();
        let (with, without) = (decided(&points, &policy), decided(&complete, &policy));
        for point in &complete {
            prop_assert_eq!(&with[&point.id], &without[&point.id]);
        }
    }

    #[test]
    fn doubtful_points_are_kept_and_change_no_other_verdict(
        points in histories(Clockwork::Wild), policy in policies(),
    ) {
        let with = decided(&points, &policy);
        let believed: Vec<Point> = points.iter().filter(|point| !is_doubtful(&with, point)).cloned().collect();
        let without = decided(&believed, &policy);
        for point in &believed {
            prop_assert_eq!(&with[&point.id], &without[&point.id]);
        }
    }

    #[test]
    fn forged_commits_on_top_remove_nothing_real(
        points in histories(Clockwork::Sound),
        policy in policies(),
        forged in prop::collection::vec(prop_oneof![-1000 * DAY..-3 * HOUR, 3 * HOUR..1000 * DAY], 1..8),
    ) {
        let newest = points.iter().filter(|point| point.group == "db" && point.complete).map(|point| point.time).max();
        // With nothing real to lose, a first point is believed whatever it says.
        let Some(newest) = newest else { return Ok(()) };
        let mut attacked = points.clone();
        for (at, off) in forged.into_iter().enumerate() {
            // Behind all that is there, or ahead of now.
            let base = if off < 0 { newest } else { now() };
            let time = Timestamp(base.0 + off);
            let id = [200 + u8::try_from(at).expect("few points"); 32];
            let at = Point { id, time, civil: civil(time), ..self::at("2025-01-01 00").verified() };
            attacked.push(Point { order: 1000 + u64::from(id[0]), ..at });
        }
        let (before, after) = (decided(&points, &policy), decided(&attacked, &policy));
        for (id, verdict) in before {
            prop_assert_eq!(&after[&id], &verdict);
        }
    }

    #[test]
    fn one_more_point_costs_each_rule_one_place_at_most(
        points in histories(Clockwork::Wild), policy in count_policies(), off in -2 * HOUR..2 * HOUR, verified: bool,
    ) {
        let time = Timestamp(now().0 + off);
        let newest = Point {
            id: [255; 32],
            order: 1000,
            verified,
            civil: civil(time),
            time,
            ..at("2025-01-01 00")
        };
        let mut more = points.clone();
        more.push(newest);
        let (before, after) = (decided(&points, &policy), decided(&more, &policy));
        let lost = points.iter().filter(|point| {
            point.complete && is_kept(&before, point) && !is_kept(&after, point)
        });
        let guards = if policy.allow_empty == AllowEmpty::No { 1 + usize::from(verified) } else { 0 };
        prop_assert!(lost.count() <= policy.rules().len() + guards);
        // And what was to go before does not come back: a removal that was shown stays true.
        let back = points.iter().filter(|point| point.complete && !is_kept(&before, point) && is_kept(&after, point));
        prop_assert_eq!(back.count(), 0);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        (points, shuffled) in histories(Clockwork::Wild)
            .prop_flat_map(|points| (Just(points.clone()), Just(points).prop_shuffle())),
        policy in policies(),
    ) {
        prop_assert_eq!(decided(&points, &policy), decided(&shuffled, &policy));
    }
}
