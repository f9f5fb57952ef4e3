//! `backstay version`

use crate::args::Global;
use crate::render::{Render, SCHEMA_VERSION};
use ops::{Ctx, Exit, Failure};
use serde_json::json;

/// Options of `version`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Never.
pub fn run(_args: Args, _global: &Global, _ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    out.document(&json!({
        "schema_version": SCHEMA_VERSION,
        "program": "backstay",
        "version": version,
        "format": repo::FORMAT,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
    }));
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    out.line(format_args!("backstay {version}, repository format {}, {os} {arch}", repo::FORMAT));
    Ok(Exit::Ok)
}
