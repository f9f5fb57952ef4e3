//! `cargo xtask tidy`: rules for files, modules, manifests and dependencies that no other tool knows.
//!
//! What it may not know: what the code means. Where data comes from: the files that git lists, so that what is
//! ignored is left alone and what is about to be committed is seen.

use crate::manifest::{self, Kind};
use crate::{Complaints, errors};
use std::path::Path;
use std::process::Command;

/// How many packages `Cargo.lock` may name. Raise it in the change that needs it, and say why there.
/// The file engine and the command line needed 241. Buckets brought 129: an HTTP client, TLS, XML and international host
/// names, a third of it for systems that we do not build for. The configuration brought 6: TOML with places in it. Talking to
/// PostgreSQL, whose authentication must not be ours, brought 8. Mounting without libfuse brought 15, three of them for systems
/// that we do not build for. This is a little more than the sum.
const PACKAGES_MAX: usize = 420;

/// How long a module may be, without its tests. Past that, split by concept.
const MODULE_LINES_MAX: usize = 900;

/// How long a line of Rust may be: strings and tables may pass what rustfmt aims at, a little.
const LINE_CHARS_MAX: usize = 140;

/// Each crate, right to left along the path that data takes, and what it may depend on directly. A crate may use any
/// crate further up in this table. Why so: docs/ARCHITECTURE.md.
#[rustfmt::skip]
const ALLOWED: [(&str, &[&str], &[&str]); 11] = [
    (
        "store",
        &[
            "aws-lc-rs", "blake3", "bytes", "futures", "http", "http-body", "opendal", "reqsign-aws-v4", "reqsign-core",
            "reqwest", "rustix", "thiserror", "tokio",
        ],
        &["tempfile"],
    ),
    (
        "repo",
        &[
            "age", "aws-lc-rs", "base64", "blake3", "crossbeam-channel", "fastcdc", "jiff", "serde", "serde_json",
            "thiserror", "zeroize", "zstd",
        ],
        &["proptest", "tempfile"],
    ),
    (
        "sources",
        &[
            "blake3", "crc32c", "crossbeam-channel", "fuser", "ignore", "postgres-protocol", "rusqlite", "rustix",
            "rustls", "serde", "serde_json", "thiserror", "zeroize",
        ],
        &["tempfile"],
    ),
    (
        "ops",
        &[
            "blake3", "croner", "ignore", "jiff", "lettre", "rusqlite", "rustix", "serde", "serde_json", "thiserror",
            "toml", "zeroize",
        ],
        &["tempfile"],
    ),
    (
        "backstay",
        &[
            "clap", "clap_complete", "clap_mangen", "indicatif", "jiff", "rustix", "serde", "serde_json",
            "signal-hook", "zeroize",
        ],
        &["insta", "tempfile"],
    ),
    ("sim", &["aws-lc-rs", "blake3", "serde_json", "zeroize"], &[]),
    ("xtask", &[], &[]),
    ("engine", &[], &["criterion"]),
    ("peers", &["jiff", "rustix", "serde_json"], &[]),
    ("huge", &[], &[]),
    ("postgres", &[], &[]),
];

/// Words that must not be committed, in pieces so that this file may be. A whole word where the flag says so.
const FORBIDDEN: [(&[&str], Where, &str); 14] = [
    (&["to", "do!("], Where::Code, "unfinished code"),
    (&["unimpl", "emented!("], Where::Code, "unfinished code"),
    (&["FIX", "ME"], Where::All, "mend it, or file it"),
    (&["X", "XX"], Where::Word, "mend it, or file it"),
    (&["db", "g!("], Where::Code, "left over from looking"),
    (&["/wo", "rk/"], Where::All, "a path of one machine"),
    (&["/ro", "ot/."], Where::All, "a path of one machine"),
    (&["/tmp/ca", "rgo"], Where::All, "a path of one machine"),
    (&["crates", ".io"], Where::All, "a registry's host: name the package, clients know where"),
    (&["pypi", ".org"], Where::All, "a registry's host: name the package, clients know where"),
    (&["python", "hosted.org"], Where::All, "a registry's host: name the package, clients know where"),
    (&["npm", "js.org"], Where::All, "a registry's host: name the package, clients know where"),
    (&["deb.deb", "ian.org"], Where::All, "a registry's host: name the package, clients know where"),
    (&["security.deb", "ian.org"], Where::All, "a registry's host: name the package, clients know where"),
];

/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] = ["utils", "util", "common", "helpers", "helper", "types", "manager", "service", "misc"];

#[derive(Clone, Copy, PartialEq)]
enum Where {
    /// In every text file.
    All,
    /// In every text file, as a word of its own.
    Word,
    /// In Rust.
    Code,
}

/// Looks at everything.
///
/// # Errors
/// When git or a file cannot be read.
pub fn run(root: &Path) -> Result<Complaints, String> {
    let mut complaints = Vec::new();
    let mut manifests = Vec::new();
    for name in listed(root)? {
        complaints.extend(check_name(&name));
        let Ok(bytes) = std::fs::read(root.join(&name)) else {
            continue; // Listed and deleted, or a link to nowhere.
        };
        let Ok(text) = String::from_utf8(bytes) else {
            continue; // Not text.
        };
        // Locks name registries, and what a fuzzer found says anything.
        if !name.ends_with("Cargo.lock") && !name.starts_with("fuzz/corpus/") {
            complaints.extend(check_text(&name, &text));
        }
        if name.ends_with(".rs") {
            complaints.extend(check_module(&name, &text));
        }
        if name.ends_with("Cargo.toml") {
            manifests.push((name, text));
        }
    }
    complaints.extend(check_manifests(&manifests));
    complaints.extend(check_lock(root)?);
    complaints.extend(errors::contradictions(&errors::collect(root)?));
    complaints.sort();
    Ok(complaints)
}

/// What git tracks or would add.
fn listed(root: &Path) -> Result<Vec<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().map_err(|e| format!("cannot run git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut names: Vec<String> =
        output.stdout.split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.retain(|name| !name.is_empty());
    names.dedup();
    Ok(names)
}

fn check_name(name: &str) -> Option<String> {
    let stem = Path::new(name).file_stem()?.to_string_lossy().to_lowercase();
    EMPTY_NAMES.contains(&stem.as_str()).then(|| format!("{name}: name it after what it holds"))
}

fn check_text(name: &str, text: &str) -> Complaints {
    let mut complaints = Vec::new();
    let code = name.ends_with(".rs");
    // Documents made by a program are spaced as that program does it.
    let spaced = (code || name.ends_with(".md") || name.ends_with(".toml")) && !name.starts_with("docs/generated/");
    for (number, line) in text.lines().enumerate() {
        let mut say = |what: &str| complaints.push(format!("{name}:{}: {what}", number + 1));
        for (pieces, place, why) in FORBIDDEN {
            let word = pieces.concat();
            if (place != Where::Code || code) && holds(line, &word, place) {
                say(&format!("{word}: {why}"));
            }
        }
        if spaced && line.contains('\t') {
            say("a tab");
        }
        if spaced && line.ends_with([' ', '\t', '\r']) {
            say("space at the end of the line");
        }
        if code && line.chars().count() > LINE_CHARS_MAX {
            say(&format!("longer than {LINE_CHARS_MAX} characters"));
        }
        if code && line.trim_start().starts_with("#[ignore]") {
            say("an ignored test needs a reason: #[ignore = \"why, and where it does run\"]");
        }
    }
    if spaced && !text.is_empty() && !text.ends_with('\n') {
        complaints.push(format!("{name}: no newline at the end"));
    }
    complaints
}

fn holds(line: &str, word: &str, place: Where) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        // A path is of this machine only where it begins: one that has such a name further in is not meant.
        let begins = !word.starts_with('/') || before.is_none_or(|c| !c.is_alphanumeric() && !"_-.}~".contains(c));
        let alone = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        begins && (place != Where::Word || (alone(before) && alone(after)))
    })
}

fn check_module(name: &str, text: &str) -> Complaints {
    let mut complaints = Vec::new();
    let test = name.ends_with("/tests.rs") || name.contains("/tests/") || name.starts_with("tests/");
    let length = own_lines(text);
    if !test && length > MODULE_LINES_MAX {
        complaints
            .push(format!("{name}: {length} lines without tests, at most {MODULE_LINES_MAX}: split it by concept"));
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !name.ends_with("/tests.rs") && !first.starts_with("//!") {
        complaints.push(format!("{name}: a module begins with //! and what it is for"));
    }
    complaints
}

/// Lines before the test module at the end of a file.
fn own_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

fn check_manifests(manifests: &[(String, String)]) -> Complaints {
    let mut complaints = Vec::new();
    let mut used = Vec::new();
    for (name, text) in manifests {
        let lines = match manifest::read(text) {
            Ok(lines) => lines,
            Err(what) => {
                complaints.push(format!("{name}: {what}"));
                continue;
            }
        };
        // A workspace of its own, which is built with other flags, inherits nothing.
        if name == "Cargo.toml" || lines.iter().any(|line| line.table == "workspace") {
            continue;
        }
        if !lines.iter().any(|line| line.table == "lints" && line.key == "workspace" && line.value == "true") {
            complaints.push(format!("{name}: [lints] workspace = true is missing"));
        }
        let found = manifest::dependencies(&lines);
        complaints.extend(check_dependencies(name, &found));
        used.extend(found.into_iter().map(|(_, dependency, _)| dependency));
    }
    let workspace = manifests.iter().find(|(name, _)| name == "Cargo.toml");
    let offered = workspace.and_then(|(_, text)| manifest::read(text).ok()).unwrap_or_default();
    for line in offered.iter().filter(|line| line.table == "workspace.dependencies") {
        if !used.contains(&line.key) {
            complaints.push(format!("Cargo.toml: no crate uses {}", line.key));
        }
    }
    complaints
}

fn check_dependencies(name: &str, found: &[(Kind, String, bool)]) -> Complaints {
    let krate = name.trim_end_matches("/Cargo.toml").rsplit('/').next().unwrap_or_default();
    let Some(place) = ALLOWED.iter().position(|(known, ..)| *known == krate) else {
        return vec![format!("{name}: a crate that the table in xtask/src/tidy.rs does not know")];
    };
    let (_, normal, dev) = ALLOWED[place];
    let mut complaints = Vec::new();
    for (kind, dependency, inherited) in found {
        let ours = ALLOWED.iter().position(|(known, ..)| known == dependency);
        let allowed = match (kind, ours) {
            (_, Some(other)) => other < place && dependency != "xtask" && krate != "xtask",
            (Kind::Normal, None) => normal.contains(&dependency.as_str()),
            (Kind::Dev, None) => normal.contains(&dependency.as_str()) || dev.contains(&dependency.as_str()),
            (Kind::Build, None) => false,
        };
        if !allowed {
            complaints
                .push(format!("{name}: {krate} may not depend on {dependency} (xtask/src/tidy.rs has the table)"));
        }
        if !inherited {
            complaints.push(format!("{name}: {dependency}: its version belongs into the workspace's list"));
        }
    }
    complaints
}

fn check_lock(root: &Path) -> Result<Complaints, String> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).map_err(|e| format!("cannot read Cargo.lock: {e}"))?;
    let count = manifest::packages(&lock);
    let over = count > PACKAGES_MAX;
    Ok(over
        .then(|| {
            format!("Cargo.lock: {count} packages, at most {PACKAGES_MAX}: do without, or raise the budget and say why")
        })
        .into_iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_words_are_found_where_they_are_meant() {
        let check = |name: &str, line: &str, expect: usize| {
            assert_eq!(check_text(name, &format!("{line}\n")).len(), expect, "{name}: {line}");
        };
        check("a.rs", &["to", "do!()"].concat(), 1);
        check("a.md", &["to", "do!()"].concat(), 0);
        check("a.sh", &["mktemp -d x.XX", "XXXX"].concat(), 0);
        check("a.sh", &["# XX", "X later"].concat(), 1);
        check("a.md", &["see /wo", "rk/a"].concat(), 1);
        check("a.md", &["see /srv/wo", "rk/a"].concat(), 0);
        check("a.md", "trailing ", 1);
        check("a.rs", "\tlet a = 1;", 1);
        check("a.py", "\ta = 1", 0);
        check("a.rs", &"x".repeat(141), 1);
        check("a.rs", &"é".repeat(140), 0);
    }

    #[test]
    fn modules_have_a_head_and_an_end() {
        let long = format!("//! Head.\n{}", "//\n".repeat(MODULE_LINES_MAX));
        assert_eq!(check_module("crates/a/src/a.rs", &long).len(), 1);
        assert_eq!(check_module("crates/a/src/a/tests.rs", &long).len(), 0);
        let tested = format!("//! Head.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(MODULE_LINES_MAX));
        assert_eq!(check_module("crates/a/src/a.rs", &tested).len(), 0);
        assert_eq!(check_module("crates/a/src/a.rs", "use b;\n").len(), 1);
    }

    #[test]
    fn dependencies_point_to_the_right() {
        let one = |name: &str| vec![(Kind::Normal, name.to_owned(), true)];
        let check = |krate: &str, dependency: &str, expect: usize| {
            let complaints = check_dependencies(&format!("crates/{krate}/Cargo.toml"), &one(dependency));
            assert_eq!(complaints.len(), expect, "{krate} -> {dependency}: {complaints:?}");
        };
        check("ops", "repo", 0);
        check("repo", "ops", 1);
        check("store", "store", 1);
        check("repo", "age", 0);
        check("ops", "age", 1);
        check("store", "clap", 1);
        check("backstay", "xtask", 1);
    }

    #[test]
    fn names_say_what_is_inside() {
        assert!(check_name("crates/a/src/utils.rs").is_some());
        assert!(check_name("crates/a/src/pack.rs").is_none());
    }
}
