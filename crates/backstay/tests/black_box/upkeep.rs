//! Keeping a repository, as its users meet it: lists, retention, prune, verification, copies, keys.

use crate::lab::{Lab, Said, flip, noise};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn largest(paths: &[PathBuf]) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).expect("is there").len();
    paths.iter().max_by_key(|path| size(path)).expect("there is one").clone()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|text| text.as_str().expect("text")).collect()
}

#[test]
fn snapshots_are_one_array_with_what_programs_rely_on() {
    let (lab, id) = Lab::backed_up();
    lab.backup(&["--tag", "nightly,db", "--host", "other"]);
    let all = lab.snapshots();
    assert_eq!(all.len(), 2);
    let first = &all[0];
    assert_eq!(first["id"], id.as_str());
    assert_eq!(first["short_id"], &id[..8]);
    for field in ["time", "finished", "hostname", "username", "status"] {
        assert!(first[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {first}");
    }
    assert_eq!(texts(&first["paths"]), [lab.path("src").to_str().expect("text")]);
    assert_eq!(
        (&first["status"], &first["hold"], &first["verified"]),
        (&"complete".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(first["summary"]["files"], 2);
    assert_eq!(first["summary"]["bytes"], 300_005);
    assert!(all[0]["order"].as_u64() < all[1]["order"].as_u64());
    let count = |args: &[&str]| {
        let said = lab.ok(["snapshots", "--json"].iter().chain(args));
        said.json().as_array().expect("an array").len()
    };
    assert_eq!(count(&["--host", "other"]), 1);
    assert_eq!(count(&["--tag", "db,nightly"]), 1);
    assert_eq!(count(&["--tag", "db,weekly"]), 0);
    assert_eq!(count(&["--tag", "db", "--tag", ""]), 2);
    assert_eq!(count(&["--path", "src"]), 2);
    assert_eq!(count(&["--path", "elsewhere"]), 0);
    lab.backup(&[]);
    assert_eq!(count(&["--latest", "1"]), 2);
    let groups = lab.ok(["list", "--json", "--group-by", "host"]).json();
    assert_eq!(groups.as_array().map(Vec::len), Some(2));
    lab.ok(["snapshots"]).shows(&id[..8]).shows("3 snapshots");
    lab.run(["snapshots", "--group-by", "colour"]).ends_with(2).complains("colour").helps();
}

#[test]
fn ls_prints_absolute_paths_and_stays_in_the_directory_that_was_asked_for() {
    let (lab, id) = Lab::backed_up();
    let src = lab.path("src").to_str().expect("text").to_owned();
    let said = lab.ok(["ls", "latest"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(
        lines.contains(&format!("{src}/a").as_str()) && lines.contains(&format!("{src}/sub/b").as_str()),
        "{lines:?}"
    );
    let said = lab.ok(["ls", &id[..8], &src]);
    assert_eq!(said.out, format!("{src}\n{src}/a\n{src}/sub\n"));
    assert_eq!(lab.ok(["ls", "--recursive", "latest", &src]).out, format!("{src}\n{src}/a\n{src}/sub\n{src}/sub/b\n"));
    lab.ok(["ls", "-l", "latest", &format!("{src}/a")]).shows("-rw").shows(" 5 ");
    let node = &lab.ok(["ls", "--json", "latest", &format!("{src}/sub/b")]).lines()[0];
    assert_eq!(
        (&node["type"], &node["size"], &node["path"]),
        (&"file".into(), &300_000.into(), &format!("{src}/sub/b").into())
    );
    assert!(node["mtime"].is_string() && node["mode"].is_u64() && node["uid"].is_u64(), "{node}");
    lab.run(["ls", "latest", "/not/there"]).ends_with(1).complains("/not/there").helps();
    lab.run(["ls", "latest", "src"]).ends_with(2).complains("src").helps();
    lab.run(["ls", "ffffffff"]).ends_with(1).complains("ffffffff").helps();
}

#[test]
fn find_names_snapshots_and_paths() {
    let (lab, first) = Lab::backed_up();
    lab.write("src/sub/NEW.conf", b"x");
    let second = lab.backup(&[]);
    let src = lab.path("src").to_str().expect("text").to_owned();
    lab.ok(["find", "b"]).shows(&first[..8]).shows(&second[..8]).shows(&format!("{src}/sub/b"));
    let said = lab.ok(["find", "*.conf"]).shows(&second[..8]);
    assert!(!said.out.contains(&first[..8]));
    let found = lab.ok(["find", "--json", "--ignore-case", "new.*"]).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    assert_eq!((&found[0]["snapshot"], &found[0]["hits"]), (&second.as_str().into(), &1.into()));
    assert_eq!(found[0]["matches"][0]["path"], format!("{src}/sub/NEW.conf"));
    let found = lab.ok(["find", "--json", &format!("{src}/sub/b"), &format!("{src}/none")]).json();
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    let found = lab.ok(["find", "--json", "--snapshot", &first, "sub/*"]).json();
    assert_eq!(found[0]["hits"], 1);
    assert_eq!(lab.ok(["find", "--json", "nothing-like-this"]).json(), Value::Array(Vec::new()));
    assert_eq!(lab.ok(["find", "--json", "--type", "dir", "sub"]).json()[0]["hits"], 1);
}

#[test]
fn diff_tells_new_gone_changed_and_retyped_apart() {
    let (lab, first) = Lab::backed_up();
    lab.write("src/touched", b"same");
    let first_with_more = lab.backup(&[]);
    lab.write("src/new", b"12345");
    lab.write("src/sub/b", &noise(2, 300_000));
    fs::remove_file(lab.path("src/a")).expect("removes");
    std::os::unix::fs::symlink("new", lab.path("src/a")).expect("links");
    fs::set_permissions(lab.path("src/touched"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let second = lab.backup(&[]);
    let src = lab.path("src").to_str().expect("text").to_owned();
    let said = lab.ok(["diff", &first, &second]);
    let lines: BTreeSet<&str> = said.out.lines().collect();
    for line in
        [format!("+    {src}/new"), format!("M    {src}/sub/b"), format!("T    {src}/a"), format!("+    {src}/touched")]
    {
        assert!(lines.contains(line.as_str()), "no {line:?} in {}", said.out);
    }
    let changes = lab.ok(["diff", "--json", "--metadata", &first_with_more, &second]).lines();
    let of = |path: &str| changes.iter().find(|c| c["path"] == format!("{src}/{path}")).map(|c| c["modifier"].clone());
    assert_eq!(of("touched"), Some("U".into()));
    let summary = changes.last().expect("a summary");
    assert_eq!(
        (&summary["message_type"], &summary["changed"], &summary["retyped"]),
        (&"summary".into(), &1.into(), &1.into())
    );
    assert_eq!((&summary["added"]["files"], &summary["added"]["bytes"]), (&1.into(), &5.into()));
    let said = lab.ok(["diff", &second, &first, &format!("{src}/sub")]);
    assert!(said.out.contains("M    ") && !said.out.contains("-    "), "{}", said.out);
    let said = lab.ok(["diff", "--json", &second, &second]).last_line();
    assert_eq!((&said["changed"], &said["metadata_only"], &said["added"]["files"]), (&0.into(), &0.into(), &0.into()));
}

#[test]
fn a_policy_keeps_with_reasons_and_a_dry_run_removes_nothing() {
    let (lab, _) = Lab::backed_up();
    fs::remove_dir_all(lab.path("repo")).expect("removes");
    fs::remove_file(lab.path("key")).expect("removes");
    lab.ok(["init", "--generate-key", "key"]);
    let days = ["2024-01-01", "2024-01-02", "2024-02-03", "2024-02-04", "2024-02-05"];
    let ids: Vec<String> = days.iter().map(|day| lab.backup(&["--time", &format!("{day}T12:00:00Z")])).collect();
    let kept = |groups: &Value| -> Vec<String> {
        let keep = groups[0]["keep"].as_array().expect("an array");
        keep.iter().map(|k| k["snapshot"]["id"].as_str().expect("an id").to_owned()).collect()
    };
    let groups = lab.ok(["forget", "--json", "--dry-run", "--keep-daily", "2", "--keep-monthly", "2"]).json();
    assert_eq!(groups.as_array().map(Vec::len), Some(1));
    assert_eq!(kept(&groups), [&ids[1], &ids[3], &ids[4]].map(Clone::clone));
    let reasons = texts(&groups[0]["keep"][2]["reasons"]).join("; ");
    assert!(reasons.contains("daily, day 1 of 2") && reasons.contains("monthly, month 1 of 2"), "{reasons}");
    assert_eq!(groups[0]["remove"][0]["reason"], "no rule keeps it");
    assert!(groups[0]["group"]["host"].is_string() && groups[0]["group"]["paths"].is_array());
    lab.ok(["forget", "-n", "--keep-last", "1"]).shows("would remove 4 snapshots");
    lab.ok(["forget", "-n", "--keep-last", "1", "--prune"]).shows("would free");
    assert_eq!(lab.ids(), ids);
    lab.ok(["forget", "--keep-within", "1y"]).shows("removed 0 snapshots");
    lab.ok(["forget", "--keep-last", "unlimited"]).shows("removed 0 snapshots");
    lab.ok(["tag", "--add", "keep", &ids[0]]);
    let said = lab.ok(["forget", "--json", "--keep-last", "1", "--keep-tag", "keep", "--prune"]).json();
    assert_eq!(lab.ids(), [&ids[0], &ids[4]].map(Clone::clone));
    let prune = &said[1]["prune"];
    assert!(prune["packs_total"].is_u64() && prune["dry_run"] == false, "{said}");
    lab.run(["forget"]).ends_with(2).complains("rule").helps();
    lab.run(["forget", "--prune"]).ends_with(2).complains("rule").helps();
    lab.run(["forget", "--keep-last", "0"]).ends_with(2).complains("zero").helps();
    lab.run(["forget", "--keep-tag", "kepe"]).ends_with(2).complains("kepe").helps();
    lab.run(["forget", "--keep-last", "x"]).ends_with(2);
    lab.run(["forget", "--keep-last", "1", &ids[0]]).ends_with(2);
    lab.ok(["verify", "--read-data"]);
}

#[test]
fn groups_are_judged_alone_unless_asked_otherwise() {
    let (lab, first) = Lab::backed_up();
    let other = lab.backup(&["--host", "other"]);
    let said = lab.ok(["forget", "--json", "-n", "--keep-last", "1"]).json();
    assert_eq!(said.as_array().map(Vec::len), Some(2));
    let said = lab.ok(["forget", "--json", "-n", "--keep-last", "1", "--group-by", ""]).json();
    assert_eq!(said.as_array().map(Vec::len), Some(1));
    assert_eq!(said[0]["remove"][0]["snapshot"]["id"], first.as_str());
    lab.ok(["forget", "--keep-last", "1", "--allow-empty", "--host", "other", "--group-by", "host"]);
    assert_eq!(lab.ids(), [first, other]);
}

#[test]
fn named_snapshots_go_unless_held_or_the_last_of_their_source() {
    let (lab, first) = Lab::backed_up();
    lab.run(["forget", &first]).ends_with(6).complains("last complete").helps();
    let second = lab.backup(&[]);
    lab.ok(["tag", "--hold", "court order 7", &first]);
    assert_eq!(lab.snapshots()[0]["hold"], "court order 7");
    lab.run(["forget", &first]).ends_with(6).complains("court order 7").helps();
    lab.run(["forget", "--allow-empty", &first]).ends_with(6).complains("court order 7").helps();
    let said = lab.ok(["forget", "--json", "--keep-last", "1"]).json();
    let reasons: Vec<&str> =
        said[0]["keep"].as_array().expect("array").iter().flat_map(|k| texts(&k["reasons"])).collect();
    assert!(reasons.contains(&"held: court order 7"), "{reasons:?}");
    assert_eq!(lab.ids().len(), 2);
    lab.ok(["tag", "--release", &first]);
    lab.ok(["forget", "-n", &first]);
    assert_eq!(lab.ids().len(), 2);
    lab.ok(["forget", &first[..8]]);
    assert_eq!(lab.ids(), std::slice::from_ref(&second));
    lab.ok(["verify", "--read-data"]);
    let third = lab.backup(&[]);
    lab.run(["forget", &second]).ends_with(6).complains("newest verified").helps();
    lab.ok(["forget", "--allow-empty", &second]);
    assert_eq!(lab.ids(), std::slice::from_ref(&third));
    lab.run(["forget", "ffffffff"]).ends_with(1).complains("ffffffff").helps();
    lab.ok(["forget", "--allow-empty", &third]);
    assert_eq!(lab.snapshots(), Vec::<Value>::new());
}

#[test]
fn tags_change_without_changing_ids() {
    let (lab, id) = Lab::backed_up();
    let tags = |lab: &Lab| texts(&lab.snapshots()[0]["tags"]).join(" ");
    lab.ok(["tag", "--add", "a,b", "latest"]).shows("a,b");
    assert_eq!(tags(&lab), "a b");
    lab.ok(["tag", "--add", "c", "--remove", "a", &id[..10]]);
    assert_eq!(tags(&lab), "b c");
    lab.ok(["tag", "--set", "x", "--tag", "b"]);
    assert_eq!(tags(&lab), "x");
    let said = lab.ok(["tag", "--json", "--set", "x", "latest"]).json();
    assert_eq!((&said["unchanged"], said["changed"].as_array().map(Vec::len)), (&1.into(), Some(0)));
    lab.ok(["tag", "--set", "", "latest"]);
    assert_eq!(tags(&lab), "");
    assert_eq!(lab.ids(), [id]);
    lab.run(["tag", "--add", "x"]).ends_with(2).complains("which").helps();
    lab.run(["tag", "latest"]).ends_with(2).complains("nothing to change").helps();
    lab.run(["tag", "--hold", "x", "--release", "latest"]).ends_with(2);
}

#[test]
fn prune_gives_space_back_and_a_dry_run_does_not() {
    let lab = Lab::new();
    lab.write("src/big", &noise(1, 5_000_000));
    let first = lab.backup(&[]);
    lab.write("src/big", &noise(2, 1_000_000));
    lab.backup(&[]);
    let size = |lab: &Lab| -> u64 {
        lab.objects("repo/packs").iter().map(|path| fs::metadata(path).expect("is there").len()).sum()
    };
    let before = size(&lab);
    lab.ok(["forget", &first]);
    let said = lab.ok(["prune", "--dry-run", "--json"]).last_line();
    assert!(said["bytes_freed"].as_u64() > Some(4_000_000) && said["dry_run"] == true, "{said}");
    assert_eq!(size(&lab), before);
    lab.ok(["prune", "-v"]).shows("freed").shows("data keys erased");
    assert!(size(&lab) < before - 4_000_000);
    lab.ok(["verify", "--read-data"]);
    let target = lab.path("out");
    lab.ok([OsStr::new("restore"), OsStr::new("latest"), OsStr::new("--target"), target.as_os_str()]);
    lab.run(["prune", "--max-unused", "much"]).ends_with(2).complains("much").helps();
    lab.run(["prune", "--grace", "soon"]).ends_with(2).complains("soon").helps();
    lab.ok(["prune", "--max-unused", "unlimited", "--grace", "1h"]);
}

#[test]
fn verify_names_the_object_and_the_paths_that_suffer() {
    let (lab, id) = Lab::backed_up();
    lab.ok(["verify"]).shows("verification successful: 1 snapshots");
    assert_eq!(lab.snapshots()[0]["verified"], Value::Null);
    lab.ok(["check", "--digests"]).shows("verification successful");
    assert_eq!(lab.snapshots()[0]["verified"]["depth"], "digests");
    let said = lab.ok(["verify", "--read-data", "--json"]).last_line();
    assert_eq!((&said["ok"], &said["snapshots_marked"]), (&true.into(), &1.into()));
    assert!(said["chunks"].as_u64() > Some(1));
    assert_eq!(lab.snapshots()[0]["verified"]["depth"], "decoded");
    lab.ok(["verify", "--read-data=1/1", "latest"]).shows("verification successful");
    lab.ok(["verify", "--read-data", "latest"]).shows("verification successful");
    lab.ok(["verify", "--read-data-subset", "50%"]).shows("verification successful");
    lab.run(["verify", "--read-data=0%"]).ends_with(2).complains("0%").helps();
    lab.run(["verify", "ffffffff"]).ends_with(1).complains("ffffffff").helps();
    let pack = largest(&lab.objects("repo/packs"));
    let name = pack.file_name().expect("a name").to_str().expect("text").to_owned();
    flip(&pack, 150_000);
    lab.ok(["verify"]);
    let said =
        lab.run(["verify", "--read-data"]).ends_with(4).shows(&name).shows("verification FAILED").shows("help: ");
    assert!(said.out.contains(&id[..8]) && said.out.contains("src/sub/b"), "{}", said.out);
    let said = lab.run(["verify", "--digests", "--json"]).ends_with(4).last_line();
    assert!(
        said["problems"].as_array().is_some_and(|all| all.iter().any(|p| p["object"].to_string().contains(&name))),
        "{said}"
    );
    let mut command = lab.command(["verify", "--no-key"]);
    Said::of(command.env_remove("BACKSTAY_KEY_FILE")).ends_with(4).shows(&name);
    fs::remove_file(&pack).expect("removes");
    lab.run(["verify"]).ends_with(4).shows(&name);
}

#[test]
fn verification_without_a_key_reads_every_object() {
    let (lab, _) = Lab::backed_up();
    let keyless = |lab: &Lab| Said::of(lab.command(["verify", "--no-key"]).env_remove("BACKSTAY_KEY_FILE"));
    keyless(&lab).ends_with(0).shows("verification successful");
    lab.run(["verify", "--no-key", "--digests"]).ends_with(2);
    flip(&lab.objects("repo/heads")[0], 60);
    keyless(&lab).ends_with(4).shows("heads/");
    lab.run(["-r", "nowhere", "verify", "--no-key"]).ends_with(10).complains("no repository").helps();
}

#[test]
fn what_was_worked_around_while_opening_is_a_problem_too_and_repair_mends_it() {
    let (lab, _) = Lab::backed_up();
    flip(&lab.path("repo/backstay.json"), 40);
    let said = lab.ok(["snapshots"]);
    assert!(said.err.contains("warning: "), "{}", said.err);
    lab.run(["verify"]).ends_with(4).shows("problem: ").shows("backstay.json").shows("--repair");
    lab.ok(["verify", "--repair"]).shows("mended: backstay.json");
    let said = lab.ok(["verify"]);
    assert!(!said.err.contains("warning: "), "{}", said.err);
}

#[test]
fn what_is_wrong_on_this_machine_is_no_damage() {
    let (lab, _) = Lab::backed_up();
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let said = lab.ok(["verify", "--read-data"]);
    assert!(said.err.contains("chmod 600"), "{}", said.err);
    for memory in lab.objects("state") {
        fs::write(memory, "nonsense").expect("writes");
    }
    let said = lab.ok(["verify"]);
    assert!(said.err.contains("warning: cannot tell"), "{}", said.err);
}

#[test]
fn a_copy_can_be_restored_from_and_mends_the_original() {
    let (lab, _) = Lab::backed_up();
    let said = lab.ok(["copy", "--to", "second", "--dry-run", "--json"]).last_line();
    assert!(said["dry_run"] == true && said["objects_copied"].as_u64() > Some(3), "{said}");
    assert!(!lab.path("second").exists());
    let said = lab.ok(["copy", "--to", "second", "--verify", "--json"]).last_line();
    assert!(said["verified"]["ok"] == true && said["already_equal"] == false, "{said}");
    let said = lab.ok(["copy", "--to", "second", "--json"]).last_line();
    assert_eq!((&said["already_equal"], &said["objects_copied"]), (&true.into(), &0.into()));
    lab.on_copy("second", ["restore", "latest", "--target", "out"]).ends_with(0);
    let back =
        |name: &str| fs::read(PathBuf::from(format!("{}{}", lab.path("out").display(), lab.path(name).display())));
    assert_eq!(back("src/sub/b").expect("restored"), noise(1, 300_000));
    lab.on_copy("second", ["verify", "--read-data"]).ends_with(0);
    // Another repository is refused, and nothing happens to it.
    lab.ok(["-r", "third", "init", "--generate-key", "third.key"]);
    lab.run(["copy", "--to", "third"]).ends_with(1).complains("another repository").helps();
    lab.run(["-r", "nowhere", "copy", "--to", "fourth"]).ends_with(10).complains("no repository").helps();
    assert!(!lab.path("fourth").exists());
    let pack = largest(&lab.objects("repo/packs"));
    flip(&pack, 150_000);
    lab.run(["verify", "--read-data"]).ends_with(4);
    lab.ok(["verify", "--read-data", "--repair-from", "second"]).shows("mended: packs/");
    flip(&largest(&lab.objects("second/packs")), 150_000);
    lab.run(["copy", "--to", "second", "--verify"]).ends_with(4).shows("verification FAILED");
}

#[test]
fn a_copy_that_lags_behind_is_no_rollback() {
    let (lab, _) = Lab::backed_up();
    lab.ok(["copy", "--to", "second"]);
    lab.backup(&[]);
    lab.ok(["-r", "second", "snapshots"]).shows("1 snapshot");
    lab.ok(["copy", "--to", "second"]);
    lab.ok(["-r", "second", "snapshots"]).shows("2 snapshots");
}

#[test]
fn each_role_does_its_work_and_no_other() {
    let (lab, first) = Lab::backed_up();
    for role in ["writer", "keeper", "reader", "root"] {
        let file = format!("{role}.key");
        lab.ok(["key", "add", "--role", role, "--label", &format!("the {role}"), "--out", &file]);
        let mode = fs::metadata(lab.path(&file)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        lab.run(["key", "add", "--role", role, "--label", "again", "--out", &file])
            .ends_with(1)
            .complains(&file)
            .helps();
    }
    let list = lab.ok(["key", "list", "--json"]).json();
    let labels: BTreeSet<&str> =
        list["certificates"].as_array().expect("array").iter().filter_map(|c| c["label"].as_str()).collect();
    assert!(["the writer", "the keeper", "the reader"].iter().all(|label| labels.contains(label)), "{labels:?}");
    assert!(!labels.contains("again"), "{labels:?}");
    // A writer backs up, sees its own snapshots only, and reads nothing.
    lab.with("writer.key", ["backup", "src"]).ends_with(0);
    let own = lab.with("writer.key", ["snapshots", "--json"]).ends_with(0).json();
    assert_eq!(own.as_array().map(Vec::len), Some(1));
    assert_ne!(own[0]["id"], first.as_str());
    lab.with("writer.key", ["restore", "latest", "--target", "none"]).ends_with(13).complains("reader").helps();
    lab.with("writer.key", ["ls", "latest"]).ends_with(13).complains("reader").helps();
    lab.with("writer.key", ["forget", "--keep-last", "1", "--allow-empty", "latest"]).ends_with(2);
    lab.with("writer.key", ["forget", "--allow-empty", "latest"]).ends_with(13).complains("keeper").helps();
    lab.with("writer.key", ["prune"]).ends_with(13).complains("keeper").helps();
    lab.with("writer.key", ["tag", "--add", "x", "latest"]).ends_with(13).complains("keeper").helps();
    lab.with("writer.key", ["key", "add", "--role", "reader", "--label", "x", "--out", "x.key"]).ends_with(13);
    assert!(!lab.path("x.key").exists());
    // A keeper sees all, prunes, copies, verifies digests, and reads nothing.
    let all = lab.with("keeper.key", ["snapshots", "--json"]).ends_with(0).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    lab.with("keeper.key", ["tag", "--add", "kept", &first]).ends_with(0);
    lab.with("keeper.key", ["prune"]).ends_with(0);
    lab.with("keeper.key", ["verify", "--digests"]).ends_with(0).shows("verification successful: 2 snapshots");
    lab.with("keeper.key", ["verify", "--read-data"]).ends_with(13).complains("reader").helps();
    lab.with("keeper.key", ["copy", "--to", "copy"]).ends_with(0);
    lab.with("keeper.key", ["restore", "latest", "--target", "none"]).ends_with(13).complains("reader").helps();
    lab.with("keeper.key", ["backup", "src"]).ends_with(13).complains("writer").helps();
    lab.with("keeper.key", ["key", "kit", "--out", "none.txt"]).ends_with(13);
    // A reader restores and changes nothing.
    lab.with("reader.key", ["restore", "latest", "--target", "out"]).ends_with(0);
    lab.with("reader.key", ["verify", "--read-data"]).ends_with(0);
    lab.with("reader.key", ["backup", "src"]).ends_with(13).complains("writer").helps();
    lab.with("reader.key", ["prune"]).ends_with(13).complains("keeper").helps();
    lab.with("reader.key", ["forget", "--allow-empty", "latest"]).ends_with(13).complains("keeper").helps();
    assert!(!lab.path("none").exists() && !lab.path("none.txt").exists());
    let can = |key: &str| {
        let test = lab.with(key, ["key", "test", "--json"]).ends_with(0).json();
        ["can_write", "can_read", "can_prune", "can_enrol"].map(|what| test[what] == true)
    };
    assert_eq!(can("key"), [true, true, true, true]);
    assert_eq!(can("writer.key"), [true, false, false, false]);
    assert_eq!(can("keeper.key"), [false, false, true, false]);
    assert_eq!(can("reader.key"), [false, true, false, false]);
    // A second writer in the first one's domain sees what that one made.
    lab.ok([
        "key",
        "add",
        "--role",
        "writer",
        "--label",
        "second",
        "--domain",
        "same-as",
        "the writer",
        "--out",
        "w2.key",
    ]);
    let seen = lab.with("w2.key", ["snapshots", "--json"]).ends_with(0).json();
    assert_eq!(seen.as_array().map(Vec::len), Some(1));
    lab.run(["key", "add", "--role", "writer", "--label", "x", "--domain", "same-as", "nobody", "--out", "x.key"])
        .ends_with(1)
        .complains("nobody")
        .helps();
}

#[test]
fn passphrases_are_added_changed_and_removed_but_never_the_last() {
    let (lab, _) = Lab::backed_up();
    for (file, text) in [("one", "first words\n"), ("two", "second words\n"), ("three", "third words"), ("empty", "\n")]
    {
        lab.write(file, text.as_bytes());
        fs::set_permissions(lab.path(file), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    let added = lab.ok(["key", "add", "--json", "--new-key-file", "one"]).json();
    let one = added["added"].as_str().expect("a name").to_owned();
    lab.with("one", ["snapshots"]).ends_with(0);
    lab.run(["key", "remove", &one]).ends_with(1).complains("last").helps();
    lab.run(["key", "add", "--new-key-file", "empty"]).ends_with(1).complains("empty").helps();
    lab.run(["key", "add"]).ends_with(2).complains("new passphrase").helps();
    // With the only passphrase: no name is needed.
    lab.with("one", ["key", "passwd", "--new-key-file", "two"]).ends_with(0);
    lab.with("one", ["snapshots"]).ends_with(12);
    lab.with("two", ["key", "add", "--new-key-command", "cat three"]).ends_with(0);
    let names = lab.ok(["key", "list", "--json"]).json();
    let names: Vec<String> = texts(&names["passphrases"]).iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names.len(), 2);
    lab.with("two", ["key", "passwd", "--new-key-file", "one"]).ends_with(2).complains(&names[0]).helps();
    lab.ok(["key", "remove", "--dry-run", &names[0]]);
    lab.ok(["key", "remove", &names[0]]);
    let opened = ["two", "three"].map(|key| lab.with(key, ["snapshots"]).code);
    assert!(opened == [0, 12] || opened == [12, 0], "{opened:?}");
    lab.run(["key", "remove", "nothing"]).ends_with(1).complains("nothing").helps();
}

#[test]
fn the_recovery_kit_restores_by_itself() {
    let (lab, _) = Lab::backed_up();
    lab.run(["key", "kit"]).ends_with(2).complains("secret").helps();
    lab.ok(["key", "kit", "--out", "kit.txt"]);
    lab.run(["key", "kit", "--out", "kit.txt"]).ends_with(1).complains("kit.txt").helps();
    assert_eq!(fs::metadata(lab.path("kit.txt")).expect("is there").permissions().mode() & 0o7777, 0o600);
    let kit = fs::read_to_string(lab.path("kit.txt")).expect("reads");
    assert!(kit.contains("AGE-SECRET-KEY-1") && kit.contains(lab.path("repo").to_str().expect("text")), "{kit}");
    lab.ok(["key", "kit", "--out", "-"]).shows("AGE-SECRET-KEY-1");
    lab.with("kit.txt", ["snapshots"]).ends_with(0);
    lab.with("kit.txt", ["restore", "latest", "--target", "out"]).ends_with(0);
    lab.with("kit.txt", ["backup", "src"]).ends_with(13);
}

#[test]
fn stats_count_the_repository_and_single_snapshots() {
    let (lab, id) = Lab::backed_up();
    lab.write("src/twin", &noise(1, 300_000));
    lab.backup(&[]);
    let said = lab.ok(["stats", "--json", "latest", &id[..8]]).json();
    assert_eq!(said["snapshots"], 2);
    assert_eq!(said["restore_size"], 300_005 + 600_005);
    assert!(said["total_bytes"].as_u64() > Some(300_000) && said["total_bytes"].as_u64() < Some(400_000), "{said}");
    let details = said["snapshot_stats"].as_array().expect("array");
    assert_eq!((&details[0]["restore_size"], &details[0]["files"]), (&600_005.into(), &3.into()));
    assert_eq!((&details[0]["raw_data"], &details[1]["raw_data"]), (&300_005.into(), &300_005.into()));
    lab.ok(["info"]).shows("restore size").shows("packs");
}

#[test]
fn an_ambiguous_id_names_the_candidates() {
    let lab = Lab::new();
    lab.write("src/a", b"x");
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..17 {
        seen.push(lab.backup(&["--force"]));
    }
    let twins = |c: char| seen.iter().filter(|id| id.starts_with(c)).count() > 1;
    let digit = "0123456789abcdef".chars().find(|c| twins(*c)).expect("17 ids, 16 first digits").to_string();
    for verb in
        [&["ls"][..], &["forget"], &["tag", "--add", "x"], &["stats"], &["verify"], &["find", "a", "--snapshot"]]
    {
        let args = verb.iter().copied().chain([digit.as_str()]);
        lab.run(args).ends_with(1).complains("ambiguous").helps();
    }
    assert_eq!(lab.ids().len(), 17);
}
