//! The program: arguments in, rendering and exit codes out.
//!
//! What it is for: the only crate that knows terminals, command lines and JSON.
//! What it may not know: how anything is done: that is `ops`' business.
//! Where data comes from and goes: a verb of `commands` turns arguments into a request for `ops` and renders its report.
#![warn(missing_docs)]

mod args;
mod commands;
mod exit;
mod progress;
mod prompt;
mod render;

use args::{Cli, Verb};
use clap::Parser;
use ops::{Ctx, Exit, Failure};
use render::{Form, Render};
use std::process::ExitCode;

/// Name and version, as snapshots show them.
pub(crate) const PROGRAM: &str = concat!("backstay ", env!("CARGO_PKG_VERSION"));

/// The verbs that change nothing in the repository they are given.
const READERS: [&str; 12] =
    ["snapshots", "ls", "find", "diff", "dump", "mount", "instant", "restore", "pitr", "verify", "copy", "stats"];

fn main() -> ExitCode {
    exit::guard_secrets();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no errors; that they cannot be printed is nothing more can be said about.
        Err(e) => {
            drop(e.print());
            let exit = match e.use_stderr() {
                // To a server, every small code says that its log ends.
                true if fetches_log() => Exit::TryAgain,
                true => Exit::Usage,
                false => Exit::Ok,
            };
            return ExitCode::from(exit.code());
        }
    };
    let global = cli.global.clone();
    let form = if global.json { Form::Json } else { Form::Text };
    let mut out = Render::new(form, global.quiet, global.verbose);
    let ctx = Ctx::here(global.cache_dir(), args::state_dir(), PROGRAM, cli.verb.name());
    let signals = match exit::Signals::watch(&ctx.world.stop) {
        Ok(signals) => signals,
        Err(e) => {
            out.failure(&Failure::new(Exit::Failed, "signals", format!("cannot watch for signals: {e}")));
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let result = match global.as_of.is_some() && !READERS.contains(&cli.verb.name()) {
        true => Err(Failure::usage(format!("--as-of is not for {}: the past can only be read", cli.verb.name()))
            .help(format!("it is for {}", READERS.join(", ")))),
        false => run(cli.verb, &global, &ctx, &mut out),
    };
    let result = result.and_then(|exit| out.finish().map(|()| exit));
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        // Whoever read the output went away: not worth a word.
        Err(_) if out.is_broken() => ExitCode::from(exit::BROKEN_PIPE),
        Err(failure) => {
            // What was said before the failure comes first.
            drop(out.finish());
            let failure = signals.blame(failure);
            out.failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Whether this was meant as `wal get`, whatever else is wrong with its arguments.
fn fetches_log() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    words.iter().position(|word| word == "wal").is_some_and(|at| words[at..].iter().any(|word| word == "get"))
}

fn run(verb: Verb, global: &args::Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    use commands as c;
    match verb {
        Verb::Init(args) => c::init::run(args, global, ctx, out),
        Verb::Backup(args) => c::backup::run(args, global, ctx, out),
        Verb::Snapshots(args) => c::snapshots::run(args, global, ctx, out),
        Verb::Ls(args) => c::ls::run(args, global, ctx, out),
        Verb::Find(args) => c::find::run(args, global, ctx, out),
        Verb::Diff(args) => c::diff::run(args, global, ctx, out),
        Verb::Restore(args) => c::restore::run(args, global, ctx, out),
        Verb::Dump(args) => c::dump::run(args, global, ctx, out),
        Verb::Instant(args) => c::instant::run(args, global, ctx, out),
        Verb::Mount(args) => c::mount::run(args, global, ctx, out),
        Verb::Forget(args) => c::forget::run(args, global, ctx, out),
        Verb::Prune(args) => c::prune::run(args, global, ctx, out),
        Verb::Verify(args) => c::verify::run(args, global, ctx, out),
        Verb::Copy(args) => c::copy::run(args, global, ctx, out),
        Verb::Tag(args) => c::tag::run(args, global, ctx, out),
        Verb::Wal(args) => c::wal::run(args, global, ctx, out),
        Verb::Pitr(args) => c::pitr::run(args, global, ctx, out),
        Verb::Config(args) => c::config::run(args, global, ctx, out),
        Verb::Key(args) => c::key::run(args, global, ctx, out),
        Verb::Stats(args) => c::stats::run(args, global, ctx, out),
        Verb::Doctor(args) => c::doctor::run(args, global, ctx, out),
        Verb::Demo(args) => c::demo::run(args, global, ctx, out),
        Verb::Completions(args) => c::completions::run(args, global, ctx, out),
        Verb::Man(args) => c::man::run(args, global, ctx, out),
        Verb::Version(args) => c::version::run(args, global, ctx, out),
        Verb::Help(args) => c::help::run(args, global, ctx, out),
    }
}
