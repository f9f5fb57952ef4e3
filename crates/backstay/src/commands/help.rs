//! `backstay help`: help on commands, and on what belongs to none of them.

use crate::args::{Cli, Global};
use crate::render::{Render, SCHEMA_VERSION};
use clap::CommandFactory;
use ops::{Ctx, Exit, Failure};
use serde_json::json;

/// The environment, for `help environment` and the manual page.
pub const ENVIRONMENT: [(&str, &str); 16] = [
    ("BACKSTAY_REPOSITORY", "the repository: a path, an address, or a name from the configuration"),
    ("BACKSTAY_REPOSITORY_FILE", "file that holds the repository's address"),
    ("BACKSTAY_CONFIG", "the configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user's own"),
    ("BACKSTAY_KEY_FD", "number of an open file descriptor to read the key from"),
    ("BACKSTAY_KEY", "the key itself: a passphrase, a key bundle, an identity"),
    ("BACKSTAY_KEY_FILE", "file that holds the key"),
    ("BACKSTAY_KEY_COMMAND", "program that prints the key; words may be quoted, no shell is used"),
    (
        "CREDENTIALS_DIRECTORY",
        "set by systemd: where cred: references are, and where the credential backstay-key is the key",
    ),
    ("BACKSTAY_CACHE_DIR", "what can be made again (XDG_CACHE_HOME/backstay; root: /var/cache/backstay)"),
    ("BACKSTAY_STATE_DIR", "what is remembered (XDG_STATE_HOME/backstay; root: /var/lib/backstay)"),
    ("BACKSTAY_PROGRESS_FPS", "how often progress is shown, per second (terminal: 5, --json: 1)"),
    ("XDG_CONFIG_HOME", "the user's configuration is in its backstay/backstay.toml (~/.config)"),
    ("XDG_CACHE_HOME", "see BACKSTAY_CACHE_DIR"),
    ("XDG_STATE_HOME", "see BACKSTAY_STATE_DIR"),
    ("NO_COLOR", "set: no colours"),
    ("TZ", "time zone that times are shown and read in"),
];

/// Options of `help`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A command, exit-codes, or environment
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// `usage` for a topic that there is none of.
pub fn run(args: Args, _global: &Global, _ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let topic: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    match topic.as_slice() {
        ["exit-codes"] => {
            let codes = Exit::ALL.iter().map(|(exit, means)| json!({"code": exit.code(), "means": means}));
            out.document(&json!({"schema_version": SCHEMA_VERSION, "exit_codes": codes.collect::<Vec<_>>()}));
            let rows: Vec<_> =
                Exit::ALL.iter().map(|(e, means)| vec![e.code().to_string(), (*means).to_string()]).collect();
            out.table(&["CODE", "MEANING"], &[0], &rows);
            out.line("Any other code is a failure too.");
        }
        ["environment"] => {
            let rows: Vec<_> = ENVIRONMENT.iter().map(|(name, means)| vec![(*name).into(), (*means).into()]).collect();
            out.table(&["VARIABLE", "MEANING"], &[], &rows);
            out.line(
                "Options win over variables; of the keys, the one listed first wins. A secret is never an argument.",
            );
        }
        names => {
            let mut command = Cli::command();
            command.build();
            let mut at = &mut command;
            for name in names {
                at = at.find_subcommand_mut(name).ok_or_else(|| {
                    Failure::usage(format!("there is no help on {:?}", names.join(" ")))
                        .help("backstay help lists the commands; exit-codes and environment are topics too")
                })?;
            }
            super::print(out, at.render_long_help().to_string().as_bytes())?;
        }
    }
    Ok(Exit::Ok)
}
