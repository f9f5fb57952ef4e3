//! `backstay init`: makes a repository, or those of the configuration.

use crate::args::Global;
use crate::prompt;
use crate::render::{Render, clean};
use ops::config::Config;
use ops::init::{FirstKey, Report, Request};
use ops::{Ctx, Exit, Failure, KeyFrom};
use repo::{Layout, PackSize};
use serde_json::json;
use std::path::PathBuf;
use store::{LockMode, LockPolicy, NetworkPolicy};

/// Options of `init`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The key is a passphrase, from --key-file, --key-command, BACKSTAY_KEY… or typed twice; or a new key file \
                  (--generate-key). Without the key nothing can be restored: print the recovery kit with `backstay key kit`.\n\
                  Where no repository is named, all those of the configuration are made that are not there yet."
)]
pub struct Args {
    /// Make up a key and write it to this new file, instead of using a passphrase
    #[arg(long, value_name = "FILE")]
    generate_key: Option<PathBuf>,
    /// Size of the objects that data is collected in, 1 KiB to 64 MiB [default: 16M in a directory, 60M in a bucket]
    #[arg(long, value_name = "SIZE")]
    pack_size: Option<String>,
    /// Lock what a snapshot needs for this many days from when it is written, 1 to 3650, in a bucket that has object lock;
    /// prune extends the locks of what is still needed
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(LockPolicy::DAYS_MAX)))]
    lock_days: Option<u32>,
    /// Who may take locks off before their end: nobody (compliance), or whom the service allows to (governance)
    #[arg(long, value_name = "MODE", value_parser = ["compliance", "governance"], default_value = "compliance", requires = "lock_days")]
    lock_mode: String,
    /// Accept a network file system, which may keep its promises less well than a disk
    #[arg(long)]
    allow_network_filesystem: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::init::init`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    if args.generate_key.is_some() && (global.key_file.is_some() || global.key_command.is_some()) {
        return Err(Failure::usage("--generate-key makes a key, and --key-file or --key-command gives one")
            .help("use one of them"));
    }
    let config = match global.named()? {
        Some(_) => None,
        None => Some(global.configuration()?).filter(|config| !config.settings().repository.is_empty()),
    };
    let Some(config) = config else {
        let report = make(&args, global, ctx)?;
        told(out, &report, None);
        return Ok(Exit::Ok);
    };
    make_all(&args, &config, global, ctx, out)
}

/// Makes every configured repository that is not there yet and no copy, and says of each what was done. One that fails
/// does not keep the others from being made.
///
/// # Errors
/// The first failure, once all were tried.
fn make_all(args: &Args, config: &Config, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let repositories = &config.settings().repository;
    let names: Vec<String> = repositories.keys().map(ToString::to_string).collect();
    if args.generate_key.is_some() && names.len() > 1 {
        return Err(Failure::usage("--generate-key makes the key of one repository, and several are configured")
            .help(format!("name one with -r: {}", names.join(", "))));
    }
    let (mut made, mut present, mut copies, mut failed) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (name, repository) in names.iter().zip(repositories.values()) {
        if let Some(original) = &repository.copy_from {
            out.event("copy", &json!({ "name": name, "copy_from": original.to_string() }));
            out.say(format_args!("repository {name} is to be a copy: backstay copy -r {original} --to {name}"));
            copies.push(name);
            continue;
        }
        let one = global.at(name);
        match make(args, &one, ctx) {
            Ok(report) => {
                told(out, &report, Some(name));
                made.push(name);
            }
            Err(failure) if failure.code == "repository-exists" => {
                let at = one.locator()?.to_string();
                out.event("exists", &json!({ "name": name, "repository": at }));
                out.say(format_args!("repository {name} is there already, at {}", clean(&at)));
                present.push(name);
            }
            Err(failure) => {
                let failure = Failure { what: format!("repository {name}: {}", failure.what), ..failure };
                let failure = match failure.code {
                    "key-unreadable" | "secret-unreadable" => failure.help(format!(
                        "put a passphrase where the configuration says, or have a key made: backstay init -r {name} \
                         --generate-key FILE"
                    )),
                    _ => failure,
                };
                match failed {
                    None => failed = Some(failure),
                    Some(_) => out.trouble(b"", &failure.what),
                }
            }
        }
    }
    out.event("summary", &json!({ "made": made, "present": present, "copies": copies }));
    failed.map_or(Ok(Exit::Ok), Err)
}

fn make(args: &Args, global: &Global, ctx: &Ctx) -> Result<Report, Failure> {
    let packs = args.pack_size.as_deref().map_or(Ok(PackSize::Fitting), pack_size)?;
    let at = global.locator()?;
    let key = match &args.generate_key {
        Some(file) => FirstKey::NewFile(file.clone()),
        None => FirstKey::Passphrase(match global.key()? {
            KeyFrom::Prompt(_) => KeyFrom::Prompt(prompt::new_secret),
            other => other,
        }),
    };
    let on_network = if args.allow_network_filesystem { NetworkPolicy::Accept } else { NetworkPolicy::Refuse };
    let mode = LockMode::parse(&args.lock_mode).unwrap_or(LockMode::Compliance);
    let lock = args.lock_days.map(|days| LockPolicy { mode, days });
    ops::init::init(ctx, &Request { at, key, layout: Layout { packs, lock }, on_network })
}

/// Says what was made. `name` is that of a configured repository.
fn told(out: &Render, report: &Report, name: Option<&str>) {
    out.repository_warnings(&report.warnings);
    let mut fields = json!({
        "message_type": "initialized",
        "schema_version": crate::render::SCHEMA_VERSION,
        "id": report.id,
        "repository": report.repository,
        "created": report.created,
        "format": report.format,
        "key": report.key,
        "key_file": report.key_file,
        "lock_days": report.lock_days,
        "lock_mode": report.lock_mode,
    });
    if let Some(name) = name {
        fields["name"] = name.into();
    }
    out.document(&fields);
    let (id, at) = (&report.id[..8], clean(&report.repository));
    match name {
        Some(name) => out.say(format_args!("made repository {name}: {id} at {at}")),
        None => out.say(format_args!("made repository {id} at {at}")),
    }
    match &report.key_file {
        Some(file) => out.say(format_args!("key: {} (mode 0600), the only one there is", clean(file))),
        None => out.say("key: the passphrase that was given"),
    }
    if let (Some(days), Some(mode)) = (report.lock_days, report.lock_mode) {
        out.say(format_args!(
            "locks: {days} days from when something is written ({mode}); prune within {} days, again and again",
            days / 2
        ));
    }
    out.say("");
    out.say("WITHOUT THIS KEY NOTHING CAN BE RESTORED, by anybody, ever. It is not kept anywhere else.");
    out.say("Print the recovery kit now, and keep it away from this machine:");
    let key_option = report.key_file.as_ref().map(|file| format!(" --key-file {file}")).unwrap_or_default();
    let repository = name.unwrap_or(&report.repository);
    out.say(clean(&format!("    backstay key kit -r {repository}{key_option}")));
}

fn pack_size(text: &str) -> Result<PackSize, Failure> {
    let bytes = ops::select::parse_size(text).filter(|bytes| (1 << 10..=64 << 20).contains(bytes));
    let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
    bytes
        .map(PackSize::Bytes)
        .ok_or_else(|| Failure::usage(format!("--pack-size {text:?} is no size from 1 KiB to 64 MiB")))
}
