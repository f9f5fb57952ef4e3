//! `backstay config`: what the configuration says, whether it is good, and which keys there are.

use crate::args::Global;
use crate::render::{Render, SCHEMA_VERSION, clean, shown_path};
use clap::Subcommand;
use ops::config::{self, Checked, Problem};
use ops::{Ctx, Exit, Failure};
use serde_json::{Value, json};

/// Options of `config`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The configuration is --config FILE or BACKSTAY_CONFIG, or else /etc/backstay/backstay.toml with \
                  /etc/backstay/conf.d/*.toml, or else $XDG_CONFIG_HOME/backstay/backstay.toml."
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Say everything that is wrong with it; exit code 2 when anything is
    Check,
    /// Show what holds: all files together, defaults filled in, secrets as references
    Show,
    /// Print the JSON Schema of a configuration file, for editors
    Schema {
        /// Print the documentation of the keys instead
        #[arg(long)]
        markdown: bool,
    },
}

/// Runs the verb.
///
/// # Errors
/// `config`, `config-unreadable` and `no-config`, all exit 2.
pub fn run(args: Args, global: &Global, _ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    match args.what {
        What::Check => {
            let checked = config::check(&global.config_files())?;
            if checked.files.is_empty() {
                return Err(none());
            }
            Ok(told(out, &checked))
        }
        What::Show => {
            let config = global.configuration()?;
            if config.files().is_empty() {
                return Err(none());
            }
            let files: Vec<String> = config.files().iter().map(|file| shown_path(file)).collect();
            out.document(&json!({ "schema_version": SCHEMA_VERSION, "files": files, "config": config.shown() }));
            if !out.is_json() {
                let from: String = files.iter().map(|file| format!("# {file}\n")).collect();
                super::print(out, format!("{from}{}", config.to_toml()?).as_bytes())?;
            }
            Ok(Exit::Ok)
        }
        What::Schema { markdown: true } => super::print(out, config::documentation().as_bytes()).map(|()| Exit::Ok),
        What::Schema { markdown: false } => {
            super::print(out, format!("{:#}\n", config::json_schema()).as_bytes()).map(|()| Exit::Ok)
        }
    }
}

fn none() -> Failure {
    Failure::new(Exit::Usage, "no-config", "there is no configuration")
        .help("write /etc/backstay/backstay.toml (docs/configuration.md), or name a file with --config")
}

fn told(out: &Render, checked: &Checked) -> Exit {
    let list = |problems: &[Problem]| problems.iter().map(fields).collect::<Vec<Value>>();
    let files: Vec<String> = checked.files.iter().map(|file| shown_path(file)).collect();
    out.document(&json!({
        "schema_version": SCHEMA_VERSION,
        "files": files,
        "ok": checked.errors.is_empty(),
        "errors": list(&checked.errors),
        "warnings": list(&checked.warnings),
    }));
    if !out.is_json() {
        checked.errors.iter().for_each(|error| out.trouble(b"", &line(error)));
        checked.warnings.iter().for_each(|warning| out.warning(line(warning)));
    }
    let warnings = counted(checked.warnings.len(), "warning");
    if checked.errors.is_empty() {
        out.say(format_args!("{}: good, {warnings}", clean(&files.join(", "))));
        return Exit::Ok;
    }
    out.line(format_args!("{}: {}, {warnings}", clean(&files.join(", ")), counted(checked.errors.len(), "error")));
    Exit::Usage
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A problem in one line.
fn line(problem: &Problem) -> String {
    match &problem.help {
        Some(help) => format!("{problem}; {help}"),
        None => problem.to_string(),
    }
}

fn fields(problem: &Problem) -> Value {
    json!({
        "file": shown_path(&problem.place.file),
        "line": problem.place.line,
        "column": problem.place.column,
        "message": problem.what,
        "help": problem.help,
    })
}
