//! The program as its users meet it: exit codes, streams, files.

use crate::lab::{Lab, PASSPHRASE, Said};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("is there").path();
        match path.is_dir() {
            true => all.extend(walk(&path)),
            false => all.push(path),
        }
    }
    all
}

fn everything_under(dir: &Path) -> Vec<u8> {
    walk(dir).iter().flat_map(|path| fs::read(path).expect("reads")).collect()
}

#[test]
fn no_repository_is_10_wrong_key_is_12_nonsense_is_2() {
    let lab = Lab::bare();
    lab.run(["snapshots"]).ends_with(10).complains("no repository").helps();
    fs::create_dir(lab.path("repo")).expect("mkdir");
    lab.run(["snapshots"]).ends_with(10).helps();
    lab.ok(["init"]);
    lab.write("wrong", b"wrong");
    for code in [["snapshots"], ["stats"]] {
        let mut command = lab.command(code);
        Said::from(command.env("BACKSTAY_KEY_FILE", lab.path("wrong")).output().expect("runs")).ends_with(12).helps();
    }
    lab.run(["nonsense"]).ends_with(2);
    lab.run(["snapshots", "--nonsense"]).ends_with(2);
    lab.run(["-r", "gs://bucket", "snapshots"]).ends_with(2).complains("gs").helps();
    let mut command = lab.command(["snapshots"]);
    Said::from(command.env_remove("BACKSTAY_REPOSITORY").output().expect("runs")).ends_with(2).helps();
    let mut command = lab.command(["snapshots"]);
    Said::from(command.env_remove("BACKSTAY_KEY_FILE").output().expect("runs")).ends_with(12).helps();
    let mut command = lab.command(["snapshots", "-r", "nowhere"]);
    Said::from(command.env_remove("BACKSTAY_KEY_FILE").output().expect("runs")).ends_with(10);
}

#[test]
fn init_refuses_what_is_there_and_says_that_the_key_matters() {
    let lab = Lab::bare();
    let said = lab.ok(["init"]);
    assert!(said.out.contains("NOTHING CAN BE RESTORED") && said.out.contains("key kit"), "{}", said.out);
    lab.run(["init"]).ends_with(1).complains("already").helps();
    lab.write("other/file", b"x");
    lab.run(["init", "-r", "other"]).ends_with(21);
    assert!(!everything_under(&lab.path("repo")).windows(7).any(|w| w == b"correct"));
}

#[test]
fn a_generated_key_is_a_file_only_its_owner_may_read_and_never_replaces_one() {
    let lab = Lab::bare();
    let said = lab.ok(["init", "--json", "--generate-key", "new.key"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).expect("one document");
    assert_eq!(document["key"], "key file");
    let mode = fs::metadata(lab.path("new.key")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    lab.ok(["snapshots", "-p", "new.key"]);
    lab.run(["snapshots"]).ends_with(1).complains("use a key file").helps();
    let before = fs::read(lab.path("new.key")).expect("reads");
    lab.run(["init", "-r", "second", "--generate-key", "new.key"]).ends_with(1).helps();
    assert_eq!(fs::read(lab.path("new.key")).expect("reads"), before);
    assert!(!lab.path("second").exists());
}

#[test]
fn keys_come_from_files_commands_descriptors_and_the_environment_but_never_from_arguments() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    let without = |args: &[&str]| {
        let mut command = lab.command(args);
        command.env_remove("BACKSTAY_KEY_FILE");
        command
    };
    lab.ok(["snapshots", "--password-file", "key"]);
    Said::from(without(&["snapshots", "--password-command", "cat key"]).output().expect("runs")).ends_with(0);
    Said::from(without(&["snapshots", "--key-command", "cat 'key'"]).output().expect("runs")).ends_with(0);
    Said::from(without(&["snapshots", "--key-command", "false"]).output().expect("runs")).ends_with(12).helps();
    Said::from(without(&["snapshots"]).env("BACKSTAY_KEY", PASSPHRASE).output().expect("runs")).ends_with(0);
    Said::from(without(&["snapshots"]).env("BACKSTAY_KEY_COMMAND", "cat key").output().expect("runs")).ends_with(0);
    let mut command = without(&["snapshots"]);
    let mut child =
        command.env("BACKSTAY_KEY_FD", "0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(PASSPHRASE.as_bytes()).expect("writes");
    Said::from(child.wait_with_output().expect("ends")).ends_with(0);
    for option in ["--key", "--password", "--passphrase"] {
        lab.run(["snapshots", option, PASSPHRASE]).ends_with(2);
    }
}

#[test]
fn a_key_file_that_others_may_read_gets_one_line_of_warning() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    assert_eq!(lab.ok(["snapshots"]).err, "");
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let said = lab.ok(["snapshots"]);
    assert!(said.err.starts_with("warning: ") && said.err.lines().count() == 1, "{}", said.err);
}

#[test]
fn a_backup_comes_back_byte_for_byte_and_its_summary_is_the_last_line() {
    let lab = Lab::with_passphrase();
    lab.write("src/new", b"new");
    let said = lab.ok([OsStr::new("backup"), OsStr::new("--json"), lab.path("src").as_os_str()]);
    let summary = said.last_line();
    assert_eq!(summary["snapshot_id"].as_str().map(str::len), Some(64));
    assert_eq!((summary["files_new"].as_u64(), summary["files_unmodified"].as_u64()), (Some(1), Some(2)), "{summary}");
    assert_eq!(summary["status"], "complete");
    let target = lab.path("out");
    let args = [OsStr::new("restore"), OsStr::new("latest"), OsStr::new("--target"), target.as_os_str()];
    let said = lab.ok(args.iter().copied().chain([OsStr::new("--json")]));
    assert_eq!(said.last_line()["status"], "complete");
    let back = |name: &str| fs::read(target.join(lab.path("src").strip_prefix("/").expect("absolute")).join(name));
    assert_eq!(back("a").expect("is back"), b"alpha");
    assert_eq!(back("sub/b").expect("is back"), [7; 300_000]);
    assert_eq!(back("new").expect("is back"), b"new");
}

#[test]
fn a_part_comes_back_without_the_path_before_it() {
    let lab = Lab::with_passphrase();
    let part = format!("latest:{}", lab.path("src/sub").display());
    lab.ok(["restore", &part, "--target", "part"]);
    assert_eq!(fs::read(lab.path("part/b")).expect("is back").len(), 300_000);
    lab.run(["restore", "latest:/not/there", "--target", "none"]).ends_with(1).complains("/not/there").helps();
}

#[test]
fn a_missing_path_is_named_and_makes_the_backup_incomplete_or_impossible() {
    let lab = Lab::with_passphrase();
    lab.run([OsStr::new("backup"), lab.path("src").as_os_str(), OsStr::new("/does/not/exist")])
        .ends_with(3)
        .complains("/does/not/exist");
    lab.run(["backup", "/does/not/exist"]).ends_with(20).complains("/does/not/exist");
    lab.run(["backup"]).ends_with(2);
}

#[test]
fn a_target_that_is_not_empty_is_6_and_one_that_is_a_file_is_21() {
    let lab = Lab::with_passphrase();
    lab.write("full/thing", b"x");
    lab.run(["restore", "latest", "--target", "full"]).ends_with(6).complains("not empty").helps();
    lab.run(["restore", "latest", "--target", "full", "--delta"]).ends_with(6).complains("not confirmed").helps();
    lab.run(["restore", "latest", "--target", "full", "--delta", "--confirm", "fool"]).ends_with(6).helps();
    lab.ok(["restore", "latest", "--target", "full", "--delta", "--dry-run"]);
    assert_eq!(fs::read_dir(lab.path("full")).expect("lists").count(), 1);
    lab.ok(["restore", "latest", "--target", "full", "--delta", "--confirm", "full"]);
    assert_eq!(fs::read(lab.path("full/thing")).expect("still there"), b"x");
    lab.write("file", b"x");
    lab.run(["restore", "latest", "--target", "file"]).ends_with(21).helps();
    lab.run(["restore", "latest"]).ends_with(2).helps();
    lab.run(["restore", "latest", "--in-place"]).ends_with(6).helps();
}

#[test]
fn an_unknown_snapshot_is_1_and_an_ambiguous_one_names_the_candidates() {
    let lab = Lab::with_passphrase();
    lab.run(["restore", "ffffffff", "--target", "none"]).ends_with(1).complains("ffffffff").helps();
    lab.run(["restore", "latest@2001-01-01", "--target", "none"]).ends_with(1).helps();
    lab.run(["restore", "latest@nonsense", "--target", "none"]).ends_with(2).helps();
    // Sixteen first digits: of seventeen snapshots two share theirs.
    let mut seen = Vec::new();
    let shared = (0..17).find_map(|n| {
        lab.write("src/n", format!("{n}").as_bytes());
        let said = lab.ok([OsStr::new("backup"), OsStr::new("--json"), lab.path("src").as_os_str()]);
        let id = said.last_line()["snapshot_id"].as_str().expect("a text").to_owned();
        let twin = seen.iter().find(|other: &&String| other[..1] == id[..1]).map(|other| (other.clone(), id.clone()));
        seen.push(id);
        twin
    });
    let (one, two) = shared.expect("of seventeen ids two begin alike");
    let said = lab.run(["restore", &one[..1], "--target", "none"]).ends_with(1).complains("ambiguous").helps();
    assert!(said.err.contains(&one[..8]) && said.err.contains(&two[..8]), "{}", said.err);
    lab.ok(["restore", &one[..12], "--target", "found"]);
}

#[test]
fn names_with_line_ends_and_raw_bytes_are_shown_escaped_and_come_back() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    fs::create_dir(lab.path("src")).expect("mkdir");
    let name = OsStr::from_bytes(b"new\nline\x1b[31m\xff");
    fs::write(lab.path("src").join(name), "x").expect("writes");
    lab.ok([OsStr::new("backup"), OsStr::new("-vv"), lab.path("src").as_os_str()]);
    // `Said` looks for control characters.
    let said = lab.ok(["ls", "latest"]);
    assert!(said.out.contains("new%0Aline"), "{}", said.out);
    lab.ok(["restore", &format!("latest:{}", lab.path("src").display()), "--target", "out"]);
    assert_eq!(fs::read(lab.path("out").join(name)).expect("is back"), b"x");
}

#[test]
fn standard_input_becomes_a_file_and_comes_back_through_dump() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    let mut command = lab.command(["backup", "--stdin", "--stdin-filename", "dump.sql", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let data = b"select 1;\n".repeat(50_000);
    child.stdin.take().expect("piped").write_all(&data).expect("writes");
    Said::from(child.wait_with_output().expect("ends")).ends_with(0).last_line();
    let output = lab.command(["dump", "latest", "/dump.sql"]).output().expect("runs");
    assert!(output.status.success() && output.stdout == data);
}

#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    let args =
        |script: &'static str| ["backup", "--stdin-filename", "x", "--stdin-from-command", "--", "sh", "-c", script];
    lab.run(args("echo half; exit 3")).ends_with(20).complains("3");
    assert_eq!(lab.ok(["snapshots", "--json"]).out.trim(), "[]");
    lab.ok(args("echo whole"));
    assert_eq!(lab.ok(["dump", "latest", "/x"]).out, "whole\n");
}

#[test]
fn a_dry_run_stores_nothing() {
    let lab = Lab::with_passphrase();
    let before = everything_under(&lab.path("repo/packs"));
    lab.write("src/c", b"gamma");
    let said =
        lab.ok([OsStr::new("backup"), OsStr::new("--dry-run"), OsStr::new("--json"), lab.path("src").as_os_str()]);
    assert_eq!(said.last_line()["dry_run"], true);
    assert_eq!(everything_under(&lab.path("repo/packs")), before);
    assert_eq!(lab.ok(["snapshots", "--json"]).out.matches("short_id").count(), 1);
}

#[test]
fn errors_are_lines_of_json_too_when_json_is_asked_for() {
    let lab = Lab::bare();
    let said = lab.run(["snapshots", "--json"]).ends_with(10).complains("no repository").helps();
    let line = said.err.lines().next_back().expect("a line");
    let error: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(error["message_type"], "exit_error");
    assert_eq!((error["code"].as_str(), error["exit_code"].as_u64()), (Some("no-repository"), Some(10)));
    assert_eq!(said.out, "");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let lab = Lab::bare();
    let mut command = lab.command(["completions", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    assert_eq!(String::from_utf8_lossy(&child.wait_with_output().expect("ends").stderr), "");
}

#[test]
fn help_version_manual_and_completions_are_there() {
    let lab = Lab::bare();
    assert!(lab.ok(["help", "exit-codes"]).out.contains("130"));
    assert!(lab.ok(["help", "environment"]).out.contains("BACKSTAY_KEY_FD"));
    assert!(lab.ok(["help", "restore"]).out.contains("--confirm"));
    lab.run(["help", "nonsense"]).ends_with(2).helps();
    lab.ok(["--help"]);
    let version: serde_json::Value = serde_json::from_str(&lab.ok(["version", "--json"]).out).expect("JSON");
    assert_eq!(version["format"], 1);
    let page = lab.ok(["man"]).out;
    assert!(page.contains("EXIT STATUS") && page.contains("ENVIRONMENT"), "{page}");
    lab.ok(["man", "--dir", "man"]);
    for page in ["backstay.1", "backstay-restore.1", "backstay-key.1"] {
        assert!(lab.path("man").join(page).exists(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(lab.ok(["completions", shell]).out.contains("backstay"), "{shell}");
    }
    for (alias, verb) in [("list", "snapshots"), ("check", "verify"), ("info", "stats")] {
        assert_eq!(lab.ok(["help", alias]).out, lab.ok(["help", verb]).out, "{alias}");
    }
}

#[test]
fn the_demonstration_keeps_its_promises_and_leaves_nothing() {
    let lab = Lab::bare();
    fs::create_dir(lab.path("tmp")).expect("mkdir");
    let mut command = lab.command(["demo", "--json"]);
    let said = Said::from(command.env("TMPDIR", lab.path("tmp")).output().expect("runs")).ends_with(0);
    assert!(said.last_line()["transactions"].as_u64() > Some(20), "{}", said.out);
    assert_eq!(fs::read_dir(lab.path("tmp")).expect("lists").count(), 0);
    assert!(!lab.path("repo").exists() && !lab.path("cache").exists() && !lab.path("state").exists());
}

#[test]
fn an_interrupt_ends_a_backup_with_130_and_without_a_snapshot() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = lab.command(["backup", "--stdin"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&[1; 100_000]).expect("writes");
        // Its announcement says that it is at work.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while fs::read_dir(lab.path("repo/intents")).map_or(0, Iterator::count) == 0 {
            assert!(std::time::Instant::now() < deadline, "the backup does not begin");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().expect("runs");
        assert!(killed.success());
        Said::from(child.wait_with_output().expect("ends")).ends_with(code);
        drop(stdin);
    }
    assert_eq!(lab.ok(["snapshots", "--json"]).out.trim(), "[]");
}

#[test]
fn lists_of_files_are_read_by_line_and_by_nul() {
    let lab = Lab::bare();
    lab.ok(["init"]);
    for name in ["a", "b\nc", "#d", "e"] {
        lab.write(&format!("src/{name}"), name.as_bytes());
    }
    let root = lab.path("src").display().to_string();
    lab.write("lines", format!("# a comment\n\n{root}/a\r\n{root}/#d\n").as_bytes());
    lab.write("nuls", format!("{root}/b\nc\0{root}/e\0").as_bytes());
    lab.ok(["backup", "--files-from", "lines", "--files-from0", "nuls"]);
    lab.ok(["restore", &format!("latest:{root}"), "--target", "out"]);
    assert_eq!(fs::read_dir(lab.path("out")).expect("lists").count(), 4);
    lab.run(["backup", "--files-from", "nowhere"]).ends_with(20);
}

#[test]
fn the_repository_and_the_cache_are_never_backed_up_into_themselves() {
    let lab = Lab::with_passphrase();
    lab.ok(["backup", "."]);
    let listed = lab.ok(["ls", "latest"]).out;
    assert!(listed.contains("src/a") && !listed.contains("packs") && !listed.contains("/cache/"), "{listed}");
}

#[test]
fn a_repository_that_was_put_back_to_an_older_state_is_noticed() {
    let lab = Lab::with_passphrase();
    let copy = |from: &str, to: &str| {
        let done = Command::new("cp").arg("-a").args([lab.path(from), lab.path(to)]).status().expect("runs");
        assert!(done.success());
    };
    copy("repo", "older");
    lab.write("src/later", b"later");
    lab.ok([OsStr::new("backup"), lab.path("src").as_os_str()]);
    fs::remove_dir_all(lab.path("repo")).expect("removes");
    copy("older", "repo");
    let said = lab.run(["restore", "latest", "--target", "out"]).ends_with(1).complains("lost history").helps();
    assert!(said.err.contains("state"), "{}", said.err);
    fs::remove_dir_all(lab.path("state")).expect("removes");
    lab.ok(["restore", "latest", "--target", "out"]);
}

#[test]
fn what_is_damaged_is_named_and_everything_else_comes_back() {
    let lab = Lab::with_passphrase();
    lab.write("src/c", &[9; 200_000]);
    for n in 0..30u8 {
        let data: Vec<u8> = (0..150_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n).collect();
        lab.write(&format!("src/n{n}"), &data);
    }
    lab.ok([OsStr::new("backup"), OsStr::new("--compression"), OsStr::new("off"), lab.path("src").as_os_str()]);
    let packs = walk(&lab.path("repo/packs"));
    let pack =
        packs.iter().max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("there are packs");
    fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).expect("chmod");
    let mut bytes = fs::read(pack).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).expect("writes");
    let part = format!("latest:{}", lab.path("src").display());
    let said = lab.run(["restore", &part, "--target", "out", "--json"]).ends_with(1);
    let summary = said.last_line();
    let failed = summary["errors"].as_u64().expect("a number");
    assert!(failed > 0 && failed < 30, "{summary}");
    assert_eq!(said.err.matches("\"message_type\":\"error\"").count() as u64, failed);
    for path in walk(&lab.path("out")) {
        let original = lab.path("src").join(path.strip_prefix(lab.path("out")).expect("is below"));
        assert_eq!(fs::read(&path).expect("reads"), fs::read(original).expect("reads"), "{}", path.display());
    }
    assert_eq!(walk(&lab.path("out")).len() as u64 + failed, walk(&lab.path("src")).len() as u64);
}
