//! `cargo xtask gen`: writes `docs/generated` from the program, so that documents cannot drift from it.
//!
//! What it may not know: what commands and codes mean. Where data comes from and goes: the help, manual pages, completions
//! and configuration keys that the binary prints, and the error codes in the sources; files that are committed.

use crate::{Complaints, errors};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where everything goes.
const OUT: &str = "docs/generated";

/// The line at the top of each document.
const NOTE: &str = "<!-- Made by `cargo xtask gen` from the program. Do not edit. -->";

/// Whether to write or to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Write,
    Check,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    mode: Mode,
    binary: Option<PathBuf>,
}

impl Request {
    /// Reads `[--check] [--bin PATH]`.
    ///
    /// # Errors
    /// An option that there is none of.
    pub fn parse(options: &[&str]) -> Result<Request, String> {
        let mut request = Request { mode: Mode::Write, binary: None };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--check" => request.mode = Mode::Check,
                "--bin" => {
                    let path = options.next().ok_or("--bin needs a path")?;
                    request.binary = Some(std::path::absolute(path).map_err(|e| format!("{path}: {e}"))?);
                }
                other => return Err(format!("gen does not know {other}")),
            }
        }
        Ok(request)
    }
}

/// Generated text by its name below [`OUT`].
type Files = BTreeMap<String, Vec<u8>>;

/// Writes or compares everything.
///
/// # Errors
/// When the program cannot be built or run, or a file cannot be read or written.
pub fn run(root: &Path, request: &Request) -> Result<Complaints, String> {
    let binary = match &request.binary {
        Some(path) => path.clone(),
        None => build(root)?,
    };
    let program = Program { binary };
    let mut files = Files::new();
    files.insert("cli.md".into(), command_line(&program)?.into_bytes());
    files.insert("exit-codes.md".into(), exit_codes(&program)?.into_bytes());
    files.insert("errors.md".into(), error_codes(root)?.into_bytes());
    files.insert("config.schema.json".into(), program.print(&["config", "schema"])?.into_bytes());
    let keys = program.print(&["config", "schema", "--markdown"])?;
    files.insert("config.md".into(), format!("{NOTE}\n{keys}").into_bytes());
    for (shell, file) in [("bash", "backstay.bash"), ("zsh", "_backstay"), ("fish", "backstay.fish")] {
        files.insert(format!("completions/{file}"), program.print(&["completions", shell])?.into_bytes());
    }
    files.extend(manual(&program)?);
    let out = root.join(OUT);
    let present = present(&out)?;
    match request.mode {
        Mode::Check => Ok(differences(&files, &present)),
        Mode::Write => write(&out, &files, &present).map(|()| Vec::new()),
    }
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo).current_dir(root).args(["build", "-q", "-p", "backstay"]).status();
    if !done.map_err(|e| format!("cannot run cargo: {e}"))?.success() {
        return Err("backstay does not build".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/backstay"))
}

struct Program {
    binary: PathBuf,
}

impl Program {
    /// What it prints; the width and the surroundings are always the same.
    fn print(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().env("COLUMNS", "100").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
        let output = command.output().map_err(|e| format!("cannot run {}: {e}", self.binary.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("backstay {}: {}: {}", args.join(" "), output.status, said.trim()));
        }
        String::from_utf8(output.stdout).map_err(|_| format!("backstay {}: not text", args.join(" ")))
    }

    fn help(&self, command: &[String]) -> Result<String, String> {
        let mut args = vec!["help"];
        args.extend(command.iter().map(String::as_str));
        self.print(&args)
    }
}

fn command_line(program: &Program) -> Result<String, String> {
    let mut page = format!("{NOTE}\n# Command line\n\nEvery command with its options, as `backstay help` prints it.\n");
    let mut open = vec![Vec::<String>::new()];
    while let Some(command) = open.pop() {
        let help = program.help(&command)?;
        let mut name = vec!["backstay".to_owned()];
        name.extend(command.iter().cloned());
        let level = "#".repeat(command.len() + 2);
        let text = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        // Formatting into a string cannot fail.
        write!(page, "\n{level} {}\n\n```text\n{}\n```\n", name.join(" "), text.trim_end()).expect("fits");
        let below = subcommands(&help).into_iter().map(|sub| [command.clone(), vec![sub]].concat());
        open.extend(below.collect::<Vec<_>>().into_iter().rev());
    }
    Ok(page)
}

/// The names below `Commands:` in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| line.is_empty() || line.starts_with(' '));
    // Two spaces and a name; what is further right continues a description.
    let names = list.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
}

fn exit_codes(program: &Program) -> Result<String, String> {
    let mut page =
        format!("{NOTE}\n# Exit codes\n\nAny other code is a failure too.\n\n| code | meaning |\n|---|---|\n");
    let table = program.print(&["help", "exit-codes"])?;
    let mut rows = 0;
    for line in table.lines() {
        let (code, means) = line.trim().split_once(char::is_whitespace).unwrap_or_default();
        if code.parse::<u8>().is_ok() {
            writeln!(page, "| {code} | {} |", cell(means.trim())).expect("fits");
            rows += 1;
        }
    }
    if rows == 0 { Err("backstay help exit-codes lists no codes".into()) } else { Ok(page) }
}

fn error_codes(root: &Path) -> Result<String, String> {
    let mut page = format!(
        "{NOTE}\n# Error codes\n\nThe names are stable: `--json` gives them as `code`. The exit codes are explained in\n\
         [exit-codes.md](exit-codes.md). Words in braces stand for what the message names.\n\n\
         | code | exit | what to do |\n|---|---|---|\n"
    );
    let numbers = exit_numbers(root)?;
    for (code, told) in errors::collect(root)? {
        let exits: Vec<String> = told.exits.iter().map(|exit| numbers.get(exit).unwrap_or(exit).clone()).collect();
        let remedies = told.remedies.into_iter().collect::<Vec<_>>().join("; or: ");
        writeln!(page, "| `{code}` | {} | {} |", exits.join(", "), cell(&remedies)).expect("fits");
    }
    Ok(page)
}

/// The number of each kind of exit, from its definition.
fn exit_numbers(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let name = "crates/ops/src/failure.rs";
    let text = std::fs::read_to_string(root.join(name)).map_err(|e| format!("cannot read {name}: {e}"))?;
    let text = text.split_once("pub enum Exit {").ok_or_else(|| format!("{name}: no Exit"))?.1;
    let body = text.split('}').next().unwrap_or_default();
    let pairs = body.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "));
    Ok(pairs.map(|(kind, number)| (kind.to_owned(), number.to_owned())).collect())
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn manual(program: &Program) -> Result<Files, String> {
    let dir = std::env::temp_dir().join(format!("backstay-man-{}", std::process::id()));
    let path = dir.to_str().ok_or("the directory for temporary files is not UTF-8")?;
    let pages = program.print(&["man", "--dir", path]).and_then(|_| present(&dir));
    std::fs::remove_dir_all(&dir).map_err(|e| format!("cannot remove {path}: {e}"))?;
    Ok(pages?.into_iter().map(|(name, text)| (format!("man/{name}"), text)).collect())
}

/// Every file below a directory; none when there is no directory.
fn present(dir: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(at) = open.pop() {
        let failed = |e: std::io::Error| format!("cannot read {}: {e}", at.display());
        let entries = match std::fs::read_dir(&at) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).map_err(failed)?);
            }
        }
    }
    Ok(files)
}

fn differences(files: &Files, present: &Files) -> Complaints {
    let mut complaints = Vec::new();
    for (name, text) in files {
        match present.get(name) {
            None => complaints.push(format!("{OUT}/{name}: missing: run cargo xtask gen")),
            Some(old) if old != text => {
                let line = old.split(|b| *b == b'\n').zip(text.split(|b| *b == b'\n')).position(|(a, b)| a != b);
                let line = line.map_or_else(|| "the end".to_owned(), |line| format!("line {}", line + 1));
                complaints.push(format!("{OUT}/{name}: differs from the program at {line}: run cargo xtask gen"));
            }
            Some(_) => {}
        }
    }
    let stale = present.keys().filter(|name| !files.contains_key(*name));
    complaints.extend(stale.map(|name| format!("{OUT}/{name}: no longer made: run cargo xtask gen")));
    complaints
}

fn write(out: &Path, files: &Files, present: &Files) -> Result<(), String> {
    for (name, text) in files.iter().filter(|(name, text)| present.get(*name) != Some(*text)) {
        let path = out.join(name);
        let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        std::fs::create_dir_all(path.parent().expect("a file stands in a directory")).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
        println!("wrote {OUT}/{name}");
    }
    for name in present.keys().filter(|name| !files.contains_key(*name)) {
        std::fs::remove_file(out.join(name)).map_err(|e| format!("cannot remove {OUT}/{name}: {e}"))?;
        println!("removed {OUT}/{name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_help() {
        let help =
            "About\n\nUsage: a\n\nCommands:\n  init    Make\n          more\n  key  Keys\n\nOptions:\n  -h  Help\n";
        assert_eq!(subcommands(help), ["init", "key"]);
        assert_eq!(subcommands("Usage: a\n"), Vec::<String>::new());
    }

    #[test]
    fn a_check_names_every_kind_of_difference() {
        let files = |pairs: &[(&str, &str)]| -> Files {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
        };
        let made = files(&[("a", "1\n2\n"), ("b", "1"), ("c", "1")]);
        let there = files(&[("a", "1\n3\n"), ("b", "1"), ("d", "1")]);
        let complaints = differences(&made, &there);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[0].contains("a: differs from the program at line 2"));
    }
}
