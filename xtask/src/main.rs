//! Checks and generators of the workspace: `cargo xtask tidy`, `cargo xtask gen [--check]`, `cargo xtask sim`.
//!
//! What it is for: rules that neither the compiler nor clippy knows, and documents that are made from the program.
//! What it may not know: the crates it checks; it reads their files and runs the binary.
//! Where data comes from and goes: files that git knows; complaints to standard error, documents to `docs/generated`.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod errors;
mod generate;
mod manifest;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask tidy
       cargo xtask gen [--check] [--bin PATH]
       cargo xtask sim [OPTIONS]

tidy   rules for files, modules, manifests and dependencies
gen    writes docs/generated from the program; with --check, fails where the committed files differ.
       --bin names a built backstay; without it, one is built
sim    the simulation (docs/reliability.md); `cargo xtask sim --help` says what it can do";

/// What a task found wrong, one line each.
type Complaints = Vec<String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["gen", options @ ..] => match generate::Request::parse(options) {
            Ok(request) => generate::run(&root(), &request),
            Err(what) => return usage(&what),
        },
        ["sim", options @ ..] => return simulate(options),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => return usage("which task?"),
    };
    match done {
        Err(what) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
        Ok(complaints) if complaints.is_empty() => {
            println!("xtask {}: nothing to complain about", words[0]);
            ExitCode::SUCCESS
        }
        Ok(complaints) => {
            complaints.iter().for_each(|line| eprintln!("{line}"));
            eprintln!("xtask {}: {} to mend", words[0], complaints.len());
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs the simulation; with planted defects only where they are asked for.
fn simulate(options: &[&str]) -> ExitCode {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["run", "-q", "--locked", "-p", "sim"]);
    if options.contains(&"--sabotage") || options.contains(&"--plant") {
        cargo.args(["--features", "sabotage"]);
    }
    match cargo.arg("--").args(options).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(e) => {
            eprintln!("xtask: cannot run cargo: {e}");
            ExitCode::FAILURE
        }
    }
}

fn usage(what: &str) -> ExitCode {
    eprintln!("xtask: {what}\n{USAGE}");
    ExitCode::from(2)
}

/// The workspace this program was built from.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("the crate stands below the workspace").to_path_buf()
}
