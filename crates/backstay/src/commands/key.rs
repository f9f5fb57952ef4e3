//! `backstay key`

use crate::args::Global;
use crate::render::Render;
use ops::{Ctx, Exit, Failure};

/// Options of `key`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always, until it is written.
pub fn run(_args: Args, _global: &Global, _ctx: &Ctx, _out: &mut Render) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "not-written", "key is not written yet"))
}
