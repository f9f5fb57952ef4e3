//! `backstay doctor`: whether backups can be made here, and will be there when they are needed.

use crate::args::Global;
use crate::render::{Render, clean};
use ops::doctor::DoctorReport;
use ops::{Ctx, Exit, Failure};

/// Options of `doctor`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Looks whether the repository is there, what the key may do, at clocks, file systems, space, and at what the \
                  settings of a bucket will do to it. `unknown` is what these credentials may not see. Exit codes: 0 all is \
                  well, 3 with warnings, 4 with problems; 10, 12, 21 when the repository cannot be used at all."
)]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// `usage` when nothing says which repository. What is wrong with it is in the report.
pub fn run(_: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let report = ops::doctor::doctor(ctx, &global.locator()?, global.key());
    out.document(&report);
    told(out, &report);
    Ok(report.exit)
}

fn told(out: &Render, report: &DoctorReport) {
    for check in &report.checks {
        if check.state == "ok" && out.is_quiet() {
            continue;
        }
        out.line(format_args!("{:8} {}: {}", check.state, check.name, clean(&check.message)));
        if let Some(help) = &check.help {
            out.line(format_args!("         {}", clean(help)));
        }
    }
    let (problems, warnings) = (report.problems, report.warnings);
    out.say(format_args!("{}: {problems} problems, {warnings} warnings", clean(&report.repository)));
}
