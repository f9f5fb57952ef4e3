//! What `doctor` finds, and how it ends.

use super::lab::{Lab, Said};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// The states of the checks of this name.
fn states(report: &Value, name: &str) -> Vec<String> {
    let checks = report["checks"].as_array().expect("an array").iter().filter(|check| check["name"] == name);
    checks.map(|check| check["state"].as_str().expect("a state").to_owned()).collect()
}

/// The report, when the program ends as what it found says. Where these tests lie (memory, a full disk) is not theirs to say.
#[track_caller]
fn doctor(lab: &Lab) -> Value {
    let said = lab.run(["doctor", "--json"]);
    let report = said.json();
    let count =
        |state: &str| report["checks"].as_array().expect("an array").iter().filter(|c| c["state"] == state).count();
    let (problems, warnings) = (count("problem"), count("warning"));
    assert_eq!(report["problems"], problems);
    assert_eq!(report["warnings"], warnings);
    for check in report["checks"].as_array().expect("an array") {
        let is_ok = check["state"] == "ok";
        assert!(is_ok || check["help"].as_str().is_some_and(|help| !help.is_empty()), "no help: {check}");
    }
    let opens = states(&report, "history").iter().any(|state| state == "ok");
    if opens {
        said.ends_with(if problems > 0 {
            4
        } else if warnings > 0 {
            3
        } else {
            0
        });
    }
    report
}

#[test]
fn a_sound_repository_is_said_to_be_one() {
    let lab = Lab::with_passphrase();
    let report = doctor(&lab);
    let names = [
        "repository",
        "promises",
        "leftover-files",
        "key-file",
        "key",
        "history",
        "locks",
        "leftovers",
        "cache",
        "state",
    ];
    for name in names {
        assert_eq!(states(&report, name), ["ok"], "{name}: {report}");
    }
    assert_eq!(states(&report, "file-system").len() + states(&report, "free-space").len(), 2);
    let said = lab.run(["doctor"]).shows("ok       key: it opens the repository as owner");
    assert!(said.out.lines().last().expect("a line").ends_with("warnings"), "{}", said.out);
    assert!(!lab.run(["doctor", "--quiet"]).out.contains("ok "));
}

#[test]
fn each_thing_that_may_hurt_is_a_warning_with_a_remedy() {
    let lab = Lab::with_passphrase();
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    fs::write(lab.path("repo/tmp/left"), [0; 9]).expect("writes");
    fs::remove_dir_all(lab.path("cache")).ok();
    fs::write(lab.path("cache"), b"a file").expect("writes");
    // A backup that dies leaves its announcement.
    let mut child =
        lab.command(["backup", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
    let begun = lab.objects("repo/intents").len();
    for _ in 0..1000 {
        if lab.objects("repo/intents").len() > begun {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    let report = doctor(&lab);
    for name in ["key-file", "leftover-files", "cache", "leftovers"] {
        assert_eq!(states(&report, name), ["warning"], "{name}: {report}");
    }
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::remove_file(lab.path("cache")).expect("removes");
    lab.ok(["prune"]);
    let report = doctor(&lab);
    for name in ["key-file", "leftover-files", "cache", "leftovers"] {
        assert_eq!(states(&report, name), ["ok"], "{name}: {report}");
    }
}

#[test]
fn why_a_repository_cannot_be_used_is_the_exit_code() {
    let lab = Lab::with_passphrase();
    let states_of = |said: &Said, name: &str| states(&said.json(), name);
    lab.write("other", b"not the passphrase\n");
    fs::set_permissions(lab.path("other"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let said = lab.with("other", ["doctor", "--json"]).ends_with(12);
    assert_eq!(states_of(&said, "key"), ["problem"]);
    let said = lab.with("nowhere", ["doctor", "--json"]).ends_with(12);
    assert_eq!(states_of(&said, "repository"), ["ok"]);
    let said = lab.run(["doctor", "--json", "-r", "nowhere"]).ends_with(10);
    assert_eq!(states_of(&said, "repository"), ["problem"]);
    lab.run(["doctor", "--as-of", "-1h"]).ends_with(2);
    for head in lab.objects("repo/heads") {
        fs::remove_file(head).expect("removes");
    }
    let said = lab.run(["doctor", "--json"]).ends_with(1);
    assert_eq!(states_of(&said, "history"), ["problem"]);
}

#[test]
fn locks_are_for_buckets_and_a_directory_says_so() {
    let lab = Lab::bare();
    lab.run(["init", "--lock-days", "30"]).ends_with(2).complains("only buckets with object lock").helps();
    assert!(!lab.path("repo").exists());
    lab.run(["init", "--lock-days", "0"]).ends_with(2);
    lab.run(["init", "--lock-mode", "governance"]).ends_with(2);
}
