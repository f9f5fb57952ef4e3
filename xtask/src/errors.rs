//! The stable error codes, read from where failures are made: `Exit::Kind, "code"`, and the remedy beside it.
//!
//! What it may not know: when each occurs. Where data comes from and goes: the sources of the crates that speak to
//! people; a table for `docs/generated/errors.md`, and complaints about codes that contradict each other.

use crate::Complaints;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where failures for people are made.
const PLACES: [&str; 2] = ["crates/ops/src", "crates/backstay/src"];

/// A code, and what is said of it in all places that use it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The kinds of exit: one, or there is something to mend.
    pub exits: BTreeSet<String>,
    /// What the reader is told to do.
    pub remedies: BTreeSet<String>,
    /// The files that use it.
    pub files: BTreeSet<String>,
}

/// Every code in use.
///
/// # Errors
/// When a source file cannot be read.
pub fn collect(root: &Path) -> Result<BTreeMap<String, Told>, String> {
    let mut codes = BTreeMap::new();
    for place in PLACES {
        let mut open = vec![root.join(place)];
        while let Some(dir) = open.pop() {
            let entries = std::fs::read_dir(&dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))?;
            for entry in entries {
                let path = entry.map_err(|e| format!("cannot read {}: {e}", dir.display()))?.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path);
                    let text = text.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
                    let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                    scan(&name, &text, &mut codes);
                }
            }
        }
    }
    Ok(codes)
}

/// Codes that say different things in different places, or are spelled oddly.
pub fn contradictions(codes: &BTreeMap<String, Told>) -> Complaints {
    let mut complaints = Vec::new();
    for (code, told) in codes {
        let files = told.files.iter().cloned().collect::<Vec<_>>().join(", ");
        if told.exits.len() > 1 {
            let exits = told.exits.iter().cloned().collect::<Vec<_>>().join(" and ");
            complaints.push(format!("{files}: error code {code} ends as {exits}: one code, one exit"));
        }
        if !code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            complaints.push(format!("{files}: error code {code}: lower case and hyphens only"));
        }
    }
    complaints
}

fn scan(name: &str, text: &str, codes: &mut BTreeMap<String, Told>) {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    for (at, sign) in text.match_indices("Exit::") {
        let after = &text[at + sign.len()..];
        let exit: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
        // A sentence is no code: the table of what exits mean.
        let said = next_argument(&after[exit.len()..]).or_else(|| next_assignment(&after[exit.len()..]));
        let Some((code, rest)) = said.filter(|(code, _)| !code.contains(' ')) else {
            continue;
        };
        let call = text[..at].trim_end().ends_with("Failure::new(");
        // Up to the next failure or the end of the function: what follows belongs to something else.
        let rest = rest.split("Exit::").next().unwrap_or_default();
        let rest = rest.split("\n}\n").next().unwrap_or_default();
        let remedy = if call { chained_help(rest) } else { next_argument(rest).map(|(help, _)| help) };
        let told: &mut Told = codes.entry(code).or_default();
        told.exits.insert(exit);
        told.files.insert(name.to_owned());
        told.remedies.extend(remedy.filter(|help| !help.is_empty()));
    }
}

/// The string literal after a comma, and what follows it.
fn next_argument(text: &str) -> Option<(String, &str)> {
    literal(text.strip_prefix(',')?.trim_start())
}

/// The code set by the statement after one that set the exit, and what follows it.
fn next_assignment(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.strip_prefix(';')?.trim_start().split_once(" = ")?;
    name.ends_with(".code").then(|| literal(value)).flatten()
}

/// The literal given to `.help(…)` before the statement ends.
fn chained_help(text: &str) -> Option<String> {
    let (statement, help) = text.split_once(".help(")?;
    if statement.contains(";\n") {
        return None;
    }
    let help = help.trim_start();
    literal(help.strip_prefix("format!(").unwrap_or(help).trim_start()).map(|(help, _)| help)
}

fn literal(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut escaped = false;
    let mut continued = false;
    for (at, c) in body.char_indices() {
        match c {
            c if continued && c.is_whitespace() => continue,
            '\n' if escaped => continued = true,
            'n' if escaped => value.push(' '),
            '\\' if !escaped => {
                (escaped, continued) = (true, false);
                continue;
            }
            '"' if !escaped => return Some((value, &body[at + 1..])),
            c => {
                continued = false;
                value.push(c);
            }
        }
        escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Vec<(String, String, String)> {
        let mut codes = BTreeMap::new();
        scan("a.rs", text, &mut codes);
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join("|");
        codes.iter().map(|(code, told)| (code.clone(), join(&told.exits), join(&told.remedies))).collect()
    }

    #[test]
    fn both_ways_to_make_a_failure_are_read() {
        let check = |text: &str, code: &str, exit: &str, remedy: &str| {
            assert_eq!(scanned(text), [(code.to_owned(), exit.to_owned(), remedy.to_owned())], "{text}");
        };
        check("(Exit::Failed, \"io\", \"\")", "io", "Failed", "");
        check("(\n  Exit::Failed,\n  \"io\",\n  \"say \\\"a\\\" \\\n   again\",\n)", "io", "Failed", "say \"a\" again");
        check("Failure::new(Exit::Usage, \"x\", \"what\").help(\"do\")", "x", "Usage", "do");
        check("Failure::new(\n Exit::Usage, \"x\", w)\n .help(format!(\"do {a}\"))", "x", "Usage", "do {a}");
        check("Failure::new(Exit::Usage, \"x\", w);\n other.help(\"no\")", "x", "Usage", "");
        check("f.exit = Exit::Usage;\n f.code = \"x\";\n f.what = w;", "x", "Usage", "");
    }

    #[test]
    fn one_code_has_one_exit() {
        let mut codes = BTreeMap::new();
        scan("a.rs", "(Exit::Failed, \"io\", \"\") (Exit::Usage, \"io\", \"\")", &mut codes);
        assert_eq!(contradictions(&codes).len(), 1);
    }
}
