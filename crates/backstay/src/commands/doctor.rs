//! `backstay doctor`: whether backups can be made here, and will be there when they are needed.

use crate::args::Global;
use crate::render::{Render, clean};
use ops::config::Source;
use ops::doctor::{Check, DoctorReport};
use ops::postgres::Cluster;
use ops::postgres::doctor::{SourceReport, examine};
use ops::{Ctx, Exit, Failure};

/// Options of `doctor`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Looks whether the repository is there, what the key may do, at clocks, file systems, space, and at what the \
                  settings of a bucket will do to it. `unknown` is what these credentials may not see. Exit codes: 0 all is \
                  well, 3 with warnings, 4 with problems; 10, 12, 21 when the repository cannot be used at all.\n\
                  Of a PostgreSQL source: the connection, rights, programs, settings, archiving, slots, space and clocks of its \
                  server; 20 when it cannot be reached. --fix says which settings it would change; with --confirm \
                  PLATFORM/SOURCE it changes them by ALTER SYSTEM."
)]
pub struct Args {
    /// A PostgreSQL source of the configuration, instead of the repository
    #[arg(value_name = "PLATFORM/SOURCE")]
    source: Option<String>,
    /// Say which settings of the server would have to be changed
    #[arg(long, requires = "source")]
    fix: bool,
    /// The source once more: then they are changed
    #[arg(long, value_name = "PLATFORM/SOURCE", requires = "fix")]
    confirm: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// `usage` when nothing says which repository, or for a source that is not PostgreSQL. What is wrong is in the report.
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    if let Some(source) = &args.source {
        return run_source(&args, source, global, ctx, out);
    }
    let report = ops::doctor::doctor(ctx, &global.locator()?, global.key());
    out.document(&report);
    let DoctorReport { repository, checks, problems, warnings, exit } = &report;
    told(out, repository, checks, (*problems, *warnings));
    Ok(*exit)
}

fn run_source(args: &Args, name: &str, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    if args.confirm.as_ref().is_some_and(|confirm| confirm != name) {
        return Err(Failure::new(Exit::Confirmation, "not-confirmed", "--confirm names another source")
            .help(format!("name it twice: doctor {name} --fix --confirm {name}")));
    }
    let config = global.configuration()?;
    let Source::Postgres(source) = config.source(name)?.2 else {
        return Err(Failure::usage(format!("{name} is no PostgreSQL source: there is no server to look at")));
    };
    let cluster = Cluster::of(name, source)?;
    let mut examined = examine(ctx, &cluster, source, &global.as_command()?);
    let changed = args.fix && args.confirm.is_some();
    if changed {
        examined.change()?;
    }
    out.document(&examined.report);
    let SourceReport { checks, problems, warnings, changes, exit, .. } = &examined.report;
    told(out, name, checks, (*problems, *warnings));
    for change in changes.iter().filter(|_| args.fix) {
        let restart = if change.needs_restart { " (holds after a restart)" } else { "" };
        let verb = if changed { "changed" } else { "would change" };
        out.line(format_args!("{verb}: {}{restart}", clean(&change.statement())));
    }
    if args.fix && !changed && !changes.is_empty() {
        out.say(format_args!("nothing was changed; to do it: --fix --confirm {}", clean(name)));
    }
    Ok(*exit)
}

fn told(out: &Render, name: &str, checks: &[Check], (problems, warnings): (usize, usize)) {
    for check in checks {
        if check.state == "ok" && out.is_quiet() {
            continue;
        }
        out.line(format_args!("{:8} {}: {}", check.state, check.name, clean(&check.message)));
        if let Some(help) = &check.help {
            out.line(format_args!("         {}", clean(help)));
        }
    }
    out.say(format_args!("{}: {problems} problems, {warnings} warnings", clean(name)));
}
