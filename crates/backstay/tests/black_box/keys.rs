//! Whom a repository trusts, and what it says when that is in doubt.

use crate::lab::{Lab, flip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn a_revoked_key_opens_nothing_and_what_it_wrote_stays() {
    let (lab, _) = Lab::backed_up();
    lab.ok(["key", "add", "--role", "writer", "--label", "web1", "--out", "web1.key"]);
    lab.ok(["key", "add", "--role", "writer", "--label", "web2", "--out", "web2.key"]);
    lab.with("web1.key", ["backup", "src"]).ends_with(0);
    lab.ok(["key", "revoke", "web1", "--dry-run"]).shows("would revoke the writer key");
    lab.with("web1.key", ["backup", "src"]).ends_with(0);
    lab.with("web2.key", ["key", "revoke", "web1"]).ends_with(13).helps();
    lab.ok(["key", "revoke", "web1"]).shows("its 2 snapshots stay");
    lab.with("web1.key", ["backup", "src"]).ends_with(12).complains("revoked").helps();
    lab.with("web2.key", ["backup", "src"]).ends_with(0);
    assert_eq!(lab.ids().len(), 4);
    let listed = lab.ok(["key", "list", "--json"]).json();
    let revoked = |label: &str| {
        let mut rows = listed["certificates"].as_array().expect("rows").iter();
        rows.find(|row| row["label"] == label).expect("is listed")["revoked"].is_string()
    };
    assert!(revoked("web1") && !revoked("web2"));
    lab.ok(["prune"]);
    lab.ok(["verify", "--read-data"]);
    for id in lab.ids() {
        lab.ok(["restore", &id, "--target", &id]);
    }
    lab.run(["key", "revoke", "web1"]).ends_with(1).complains("revoked already").helps();
}

#[test]
fn a_passphrases_own_key_is_not_revoked_but_removed() {
    let lab = Lab::new();
    let listed = lab.ok(["key", "list", "--json"]).json();
    let own = listed["certificates"][0]["signer"].as_str().expect("an id").to_owned();
    lab.run(["key", "revoke", &own]).ends_with(12).complains("cannot be revoked").helps();
}

#[test]
fn a_key_file_may_have_a_passphrase_of_its_own() {
    let (lab, _) = Lab::backed_up();
    lab.write("secret", b"of the key file\n");
    lab.write("other", b"another one\n");
    for file in ["secret", "other"] {
        fs::set_permissions(lab.path(file), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    let plain = fs::read(lab.path("key")).expect("reads");
    lab.ok(["key", "protect", "key", "--new-key-file", "secret"]);
    let protected = fs::read_to_string(lab.path("key")).expect("reads");
    assert!(protected.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{protected}");
    assert_eq!(mode(&lab.path("key")), 0o600);
    lab.run(["snapshots"]).ends_with(12).complains("passphrase of its own").helps();
    lab.run(["snapshots", "--key-passphrase-file", "other"])
        .ends_with(12)
        .complains("passphrase is another one")
        .helps();
    lab.ok(["snapshots", "--key-passphrase-file", "secret"]).shows("1 snapshot");
    let mut by_variable = lab.command(["snapshots"]);
    by_variable.env("BACKSTAY_KEY_PASSPHRASE_COMMAND", "cat secret");
    crate::lab::Said::of(&mut by_variable).ends_with(0);
    lab.ok(["key", "protect", "key", "--key-passphrase-file", "secret", "--new-key-file", "other"]);
    lab.ok(["snapshots", "--key-passphrase-file", "other"]);
    lab.ok(["key", "protect", "key", "--key-passphrase-file", "other", "--off"]);
    assert_eq!(fs::read(lab.path("key")).expect("reads"), plain);
    lab.ok(["snapshots"]);
    lab.run(["key", "protect", "secret", "--new-key-file", "other"]).ends_with(12).complains("no key").helps();
    assert!(!lab.path("key.new").exists() && !lab.path("secret.new").exists());
}

#[test]
fn what_was_removed_stays_on_record_with_who_and_why() {
    let (lab, first) = Lab::backed_up();
    let second = lab.backup(&["--reason", "before the upgrade"]);
    lab.ok(["forget", &first]);
    let third = lab.backup(&[]);
    lab.ok(["forget", "--keep-last", "1", "--prune"]);
    let removed = lab.ok(["snapshots", "--removed", "--json"]).json();
    let rows = removed.as_array().expect("an array");
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, [&first, &second]);
    assert_eq!(rows[0]["removed_because"], "named");
    assert!(rows[1]["removed_because"].as_str().is_some_and(|why| !why.is_empty() && why != "named"), "{removed}");
    assert_eq!(rows[1]["reason"], "before the upgrade");
    assert_eq!(rows[1]["paths"], rows[0]["paths"]);
    assert!(rows[0]["removed_by"].as_str().is_some_and(|who| who.contains('@')), "{removed}");
    assert_eq!(rows[0]["summary"]["files"], 2);
    lab.ok(["snapshots", "--removed"]).shows("2 removed snapshots").shows(&first[..8]);
    assert_eq!(lab.ids(), [third]);
    lab.ok(["verify"]);
    // A record that is damaged is named, and is no reason to hide the other.
    flip(&lab.objects("repo/events")[0], 200);
    lab.run(["verify"]).ends_with(4);
    assert_eq!(lab.ok(["snapshots", "--removed", "--json"]).json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_reason_is_kept_with_the_snapshot() {
    let (lab, _) = Lab::backed_up();
    lab.backup(&["--reason", "  before the upgrade "]);
    let snapshots = lab.snapshots();
    assert!(snapshots[0]["reason"].is_null(), "{}", snapshots[0]);
    assert_eq!(snapshots[1]["reason"], "before the upgrade");
    lab.ok(["snapshots"]).shows("REASON").shows("before the upgrade");
}

#[test]
fn the_latest_says_when_it_is_partial_and_which_one_is_not() {
    let (lab, complete) = Lab::backed_up();
    lab.write("src/a", b"newer");
    lab.run(["backup", "src", "absent"]).ends_with(3);
    lab.write("src/a", b"newest");
    lab.run(["backup", "src", "absent"]).ends_with(3);
    let partial = lab.ids().pop().expect("three");
    lab.ok(["restore", "latest", "--target", "one"])
        .warns(&partial[..8])
        .warns("there is no complete one of this source");
    let under = |to: &str| lab.path(to).join(lab.path("src/a").strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read(under("one")).expect("is there"), b"newest");
    let said = lab.ok(["restore", "latest-complete", "--target", "two"]);
    assert!(!said.err.contains("warning"), "{}", said.err);
    assert_eq!(fs::read(under("two")).expect("is there"), b"alpha");
    lab.backup(&[]);
    let whole = lab.ok(["restore", "latest", "--target", "three"]);
    assert!(!whole.err.contains("partial"), "{}", whole.err);
    lab.ok(["forget", &complete, "--allow-empty"]);
    lab.ok(["ls", "latest-complete"]);
}

#[test]
fn a_damaged_history_is_told_and_the_latest_is_not_guessed() {
    let (lab, first) = Lab::backed_up();
    lab.write("src/a", b"newer");
    lab.backup(&[]);
    let heads = lab.objects("repo/heads");
    let newest = heads.iter().max_by_key(|head| fs::metadata(head).expect("is there").modified().expect("has a time"));
    flip(newest.expect("there are heads"), 150);
    lab.ok(["snapshots"]).warns("snapshots may be missing");
    let said = lab.run(["restore", "latest", "--target", "one"]).ends_with(1).complains("which snapshot is the latest");
    said.helps();
    assert!(!lab.path("one").exists());
    lab.ok(["restore", &first, "--target", "two"]);
}

#[test]
fn a_restore_says_beforehand_how_long_it_will_take() {
    let (lab, _) = Lab::backed_up();
    let preview = lab.ok(["restore", "latest", "--target", "out", "--dry-run", "--json"]).last_line();
    assert!(preview["estimated_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{preview}");
    assert_eq!(preview["estimate_measured"], false);
    let said = lab.ok(["restore", "latest", "--target", "out"]);
    assert!(said.err.contains("about 1s, a cautious guess") || said.err.contains("cautious guess"), "{}", said.err);
    // Enough for the next one to go by.
    lab.write("src/large", &crate::lab::noise(3, 40 << 20));
    lab.backup(&[]);
    let lines = lab.ok(["restore", "latest", "--target", "larger", "--json"]).lines();
    let plan = lines.iter().find(|line| line["message_type"] == "plan").expect("it was told first");
    assert_eq!((&plan["files"], &plan["estimate_measured"]), (&3.into(), &false.into()));
    let lines = lab.ok(["restore", "latest", "--target", "again", "--json"]).lines();
    let plan = lines.iter().find(|line| line["message_type"] == "plan").expect("it was told first");
    assert_eq!(plan["estimate_measured"], true);
}

#[test]
fn a_backup_is_read_back_before_it_counts_unless_that_is_not_wanted() {
    let (lab, _) = Lab::backed_up();
    lab.write("src/c", b"new");
    let summary = lab.ok(["backup", "--json", "src"]).last_line();
    assert_eq!(summary["verified"], true);
    let summary = lab.ok(["backup", "--no-verify", "--json", "src"]).last_line();
    assert_eq!(summary["verified"], false);
    let summary = lab.ok(["backup", "--dry-run", "--json", "src"]).last_line();
    assert_eq!(summary["verified"], false);
    lab.ok(["verify", "--read-data"]);
}
