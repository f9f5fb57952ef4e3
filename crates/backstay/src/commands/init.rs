//! `backstay init`: makes a repository.

use crate::args::Global;
use crate::prompt;
use crate::render::Render;
use ops::init::{FirstKey, Request};
use ops::{Ctx, Exit, Failure, KeyFrom};
use repo::{Layout, PackSize};
use serde_json::json;
use std::path::PathBuf;
use store::{LockMode, LockPolicy, NetworkPolicy};

/// Options of `init`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The key is a passphrase, from --key-file, --key-command, BACKSTAY_KEY… or typed twice; or a new key file \
                  (--generate-key). Without the key nothing can be restored: print the recovery kit with `backstay key kit`."
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
    let packs = args.pack_size.as_deref().map_or(Ok(PackSize::Fitting), pack_size)?;
    let at = global.locator()?;
    let key = match args.generate_key {
        Some(_) if global.key_file.is_some() || global.key_command.is_some() => {
            return Err(Failure::usage("--generate-key makes a key, and --key-file or --key-command gives one")
                .help("use one of them"));
        }
        Some(file) => FirstKey::NewFile(file),
        None => FirstKey::Passphrase(match global.key()? {
            KeyFrom::Prompt(_) => KeyFrom::Prompt(prompt::new_secret),
            other => other,
        }),
    };
    let on_network = if args.allow_network_filesystem { NetworkPolicy::Accept } else { NetworkPolicy::Refuse };
    let mode = LockMode::parse(&args.lock_mode).unwrap_or(LockMode::Compliance);
    let lock = args.lock_days.map(|days| LockPolicy { mode, days });
    let request = Request { at, key, layout: Layout { packs, lock }, on_network };
    let report = ops::init::init(ctx, &request)?;
    out.repository_warnings(&report.warnings);
    out.document(&json!({
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
    }));
    out.say(format_args!("made repository {} at {}", &report.id[..8], crate::render::clean(&report.repository)));
    match &report.key_file {
        Some(file) => out.say(format_args!("key: {} (mode 0600), the only one there is", crate::render::clean(file))),
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
    out.say(crate::render::clean(&format!("    backstay key kit -r {}{key_option}", report.repository)));
    Ok(Exit::Ok)
}

fn pack_size(text: &str) -> Result<PackSize, Failure> {
    let bytes = ops::select::parse_size(text).filter(|bytes| (1 << 10..=64 << 20).contains(bytes));
    let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
    bytes
        .map(PackSize::Bytes)
        .ok_or_else(|| Failure::usage(format!("--pack-size {text:?} is no size from 1 KiB to 64 MiB")))
}
