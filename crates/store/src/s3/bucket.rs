//! A close look at a bucket: what its settings will do to a repository in it.
//!
//! What it is for: to say before the bad day that a rule deletes packs, that nothing brings back what is deleted, that the
//! clock is wrong. What it may not know: what the repository wants, what the bytes mean.
//! Where data comes from and goes: answers of the service to questions about the bucket; findings.

use super::raw::{Answer, Ask, element, elements};
use super::{S3Store, failure};
use crate::error::{Kind, StoreError};
use crate::finding::Finding;
use crate::key::{Key, Shelf};
use crate::store::{Backend, Span};
use crate::world::Timestamp;
use http::Method;
use std::time::Duration;

/// More than this, and times in the repository mislead people; services refuse requests beyond 15 minutes.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// Storage classes that have to be thawed before anything can be read.
const FROZEN: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// What one rule of the bucket's lifecycle does to objects of a repository.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    id: String,
    /// It deletes current versions: after how long, as it says.
    deletes: Option<String>,
    /// It moves objects to where they cannot be read from at once.
    freezes: Option<String>,
    /// It removes versions that were deleted or replaced.
    clears: bool,
}

impl S3Store {
    /// See [`Backend::examine`].
    pub(super) fn findings(&self) -> Vec<Finding> {
        let before = self.patience.now();
        let versioning = self.question("versioning");
        let after = self.patience.now();
        let mut found = Vec::new();
        let headers = versioning.as_ref().ok().map(|answer| &answer.headers);
        let date = headers.and_then(|headers| headers.get("date")?.to_str().ok());
        let date = date.and_then(|date| opendal::raw::Timestamp::parse_rfc2822(date).ok());
        found.extend(date.map(|date| clock(Timestamp(date.into_inner().as_nanosecond()), before, after)));
        if self.place.is_exposed() {
            let text = format!("requests to {} cross the network in clear", self.place);
            found.push(Finding::warning("encrypted-transport", text, "write s3://… for TLS"));
        }
        let versioning = self.checked("versioning", versioning);
        let keeps = versioning.as_ref().ok().map(|answer| element(&answer.text, "Status") == Some("Enabled"));
        found.push(match (versioning, keeps) {
            (Err(e), _) => unseen("versioning", &e, "s3:GetBucketVersioning"),
            (_, Some(true)) => Finding::ok("versioning", "the bucket keeps versions of what is deleted or replaced"),
            _ => Finding::warning(
                "versioning",
                "the bucket keeps no versions: what is deleted with stolen credentials is gone",
                "turn versioning on, with a lifecycle rule that expires noncurrent versions",
            ),
        });
        found.extend(self.lifecycle(keeps));
        found.push(self.conditions());
        found
    }

    fn question(&self, query: &'static str) -> Result<Answer, StoreError> {
        let ask = Ask { method: Method::GET, of: None, query, body: String::new() };
        self.send(&ask).map_err(|e| failure(&format!("ask for the {query} of the bucket"), &e))
    }

    fn checked(&self, query: &str, answer: Result<Answer, StoreError>) -> Result<Answer, StoreError> {
        answer?.good().map_err(|e| failure(&format!("ask for the {query} of the bucket"), &e))
    }

    fn lifecycle(&self, keeps: Option<bool>) -> Vec<Finding> {
        const NAME: &str = "lifecycle";
        let answer = match self.question("lifecycle") {
            Ok(answer) if answer.code() == "NoSuchLifecycleConfiguration" => Ok(String::new()),
            answer => self.checked("lifecycle", answer).map(|answer| answer.text),
        };
        let rules = match answer {
            Ok(text) => rules(&text, self.place.prefix()),
            Err(e) => return vec![unseen(NAME, &e, "s3:GetLifecycleConfiguration")],
        };
        let mut found = Vec::new();
        for rule in &rules {
            if let Some(after) = &rule.deletes {
                let text = format!("the bucket's rule {:?} deletes objects of the repository {after}", rule.id);
                found.push(Finding::problem(NAME, text, "limit it to another prefix, or to noncurrent versions"));
            }
            if let Some(class) = &rule.freezes {
                let text =
                    format!("the bucket's rule {:?} moves objects to {class}: they cannot be read at once", rule.id);
                found.push(Finding::problem(NAME, text, "take that transition out of the rule"));
            }
        }
        if keeps == Some(true) && !rules.iter().any(|rule| rule.clears) {
            let text = "the bucket keeps versions and no rule removes them: deleted data takes space for ever";
            let help = "add a lifecycle rule that expires noncurrent versions, after 30 days say";
            found.push(Finding::warning(NAME, text, help));
        }
        if found.is_empty() {
            found.push(Finding::ok(NAME, "no rule of the bucket deletes or freezes what a snapshot needs"));
        }
        found
    }

    /// Tries whether the service keeps to conditions, by writing once more what is there and nobody would miss.
    fn conditions(&self) -> Finding {
        const NAME: &str = "conditional-writes";
        let key = Key::new(Shelf::Root, "RECOVERY.txt").expect("a good name");
        let tried = self
            .get(&key, Span::Whole)
            .and_then(|body| self.probe(&key, &body.into(), None, "try a conditional write"));
        match (tried, self.keeps_conditions.get()) {
            (Err(e), _) if e.kind == Kind::Denied => unseen(NAME, &e, "s3:PutObject"),
            (Err(e), _) if e.is_absent() => {
                Finding::unknown(NAME, "there is nothing to try it on", "make the repository first")
            }
            (Err(e), _) => Finding::problem(NAME, e.to_string(), "see whether the service answers, and try again"),
            (Ok(()), Some(true)) => Finding::ok(NAME, "the service creates no object that exists"),
            (Ok(()), _) => {
                Finding::ok(NAME, "the service ignores conditions: each object is looked for before it is made")
            }
        }
    }
}

fn unseen(name: &'static str, e: &StoreError, right: &str) -> Finding {
    match e.kind {
        Kind::Denied => {
            Finding::unknown(name, "these credentials may not see it", format!("it takes the right {right}"))
        }
        _ => Finding::unknown(name, e.to_string(), "ask the service's documentation"),
    }
}

/// What the difference between two clocks means; ours was read before and after the service gave its time.
fn clock(theirs: Timestamp, before: Timestamp, after: Timestamp) -> Finding {
    // Theirs is cut to seconds, and may be anything within the one that follows.
    let ahead = before.since(theirs.after(Duration::from_secs(1)));
    let behind = theirs.since(after);
    let told = |how: Duration, which: &str| {
        let text = format!("the clock of this machine is {} s {which} the service's", how.as_secs());
        Finding::warning("clock", text, "set it by NTP: times of snapshots and of locks go by it")
    };
    match (ahead > SKEW_MAX, behind > SKEW_MAX) {
        (true, _) => told(ahead, "ahead of"),
        (_, true) => told(behind, "behind"),
        _ => Finding::ok("clock", "the clocks of this machine and of the service agree"),
    }
}

/// The rules that are on and reach objects behind `prefix`.
fn rules(xml: &str, prefix: &str) -> Vec<Rule> {
    let ours = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let reaches = |rule: &str| {
        let wanted = element(rule, "Prefix").unwrap_or_default();
        let on = element(rule, "Status") == Some("Enabled");
        // Our objects have no tags.
        on && element(rule, "Tag").is_none() && (ours.starts_with(wanted) || wanted.starts_with(&ours))
    };
    let rules = elements(xml, "Rule").filter(|rule| reaches(rule)).map(|rule| Rule {
        id: element(rule, "ID").unwrap_or_default().to_owned(),
        deletes: element(rule, "Expiration").and_then(|when| match (element(when, "Days"), element(when, "Date")) {
            (Some(days), _) => Some(format!("after {days} days")),
            (_, Some(date)) => Some(format!("on {date}")),
            // It removes the markers of what is gone.
            _ => None,
        }),
        freezes: elements(rule, "Transition")
            .filter_map(|to| element(to, "StorageClass"))
            .find(|class| FROZEN.contains(class))
            .map(str::to_owned),
        clears: element(rule, "NoncurrentVersionExpiration").is_some(),
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::State;

    #[test]
    fn rules_are_judged_by_where_they_reach_and_what_they_do() {
        let rule =
            |inside: &str| format!("<LifecycleConfiguration><Rule><ID>r</ID>{inside}</Rule></LifecycleConfiguration>");
        let on = "<Status>Enabled</Status>";
        let deletes = |xml: &str| rules(xml, "some/prefix").into_iter().any(|rule| rule.deletes.is_some());
        let days = "<Expiration><Days>3</Days></Expiration>";
        assert!(deletes(&rule(&format!("{on}<Filter><Prefix></Prefix></Filter>{days}"))));
        assert!(deletes(&rule(&format!("{on}<Prefix>some/</Prefix>{days}"))));
        assert!(deletes(&rule(&format!("{on}<Filter><Prefix>some/prefix/packs/</Prefix></Filter>{days}"))));
        assert!(deletes(&rule(&format!("{on}<Filter/><Expiration><Date>2027-01-01</Date></Expiration>"))));
        assert!(!deletes(&rule(&format!("{on}<Filter><Prefix>some/prefixes/</Prefix></Filter>{days}"))));
        assert!(!deletes(&rule(&format!("<Status>Disabled</Status>{days}"))));
        assert!(!deletes(&rule(&format!("{on}<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>{days}"))));
        let marker = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        let clears = "<NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration>";
        let good = &rules(&rule(&format!("{on}{marker}{clears}")), "")[0];
        assert!(good.clears && good.deletes.is_none() && good.freezes.is_none(), "{good:?}");
        let class =
            |name: &str| format!("{on}<Transition><Days>1</Days><StorageClass>{name}</StorageClass></Transition>");
        assert_eq!(rules(&rule(&class("DEEP_ARCHIVE")), "")[0].freezes.as_deref(), Some("DEEP_ARCHIVE"));
        assert_eq!(rules(&rule(&class("GLACIER_IR")), "")[0].freezes, None);
    }

    #[test]
    fn a_clock_is_wrong_when_it_is_a_minute_off_whatever_the_answer_took() {
        let at = |secs| Timestamp::new(secs, 0);
        let state = |theirs, before, after| clock(at(theirs), at(before), at(after)).state;
        assert_eq!(state(1000, 1000, 1001), State::Ok);
        assert_eq!(state(1000, 1000, 1500), State::Ok);
        assert_eq!(state(1000, 1100, 1101), State::Warning);
        assert_eq!(state(1100, 1000, 1001), State::Warning);
        assert!(clock(at(1000), at(1100), at(1101)).text.contains("99 s ahead of"));
    }
}
