//! `backstay restore PLATFORM/SOURCE --type logical`: a database, or tables of it, out of dumps.

use super::cluster::ClusterArgs;
use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean, duration, shown_path};
use ops::config::Source;
use ops::postgres::Cluster;
use ops::postgres::reload::{Prepared, Reloaded, Request, Roles, To, prepare};
use ops::{Ctx, Exit, Failure};
use repo::{Repository, Snapshot};
use serde_json::json;

/// The most connections of one restore.
const JOBS_MAX: u32 = 64;

/// What `restore` takes for dumps only.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Restoring dumps of PostgreSQL (PLATFORM/SOURCE --type logical)")]
pub struct DumpArgs {
    /// What is restored of a source that has both [default: physical where there is such a backup]
    #[arg(long = "type", value_enum, value_name = "HOW")]
    way: Option<Way>,
    /// Name of the new database [default: DATABASE_restored_TIME]. One that exists is put aside only with --confirm NAME
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    into: Option<String>,
    /// The dump of this name in the configuration
    #[arg(long, value_name = "NAME")]
    dump: Option<String>,
    /// How many tables at the same time [default: one per processor]
    #[arg(long, value_name = "N")]
    jobs: Option<u32>,
    /// First make the roles that the server lacks; those it has are not touched
    #[arg(long, conflicts_with = "to")]
    roles: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// A cluster, to a moment
    Physical,
    /// Dumps of databases
    Logical,
}

impl DumpArgs {
    /// Whether dumps are asked for.
    pub fn wants_dumps(&self) -> bool {
        self.way != Some(Way::Physical) && self.is_given()
    }

    /// Whether a cluster is asked for, and no dump of it.
    pub fn wants_files(&self) -> bool {
        self.way == Some(Way::Physical)
    }

    /// Whether anything was given that means something for dumps only.
    pub fn is_given(&self) -> bool {
        self.way == Some(Way::Logical) || self.wants_a_database()
    }

    /// Whether anything was given that says which dump becomes which database.
    pub fn wants_a_database(&self) -> bool {
        self.into.is_some() || self.dump.is_some() || self.jobs.is_some() || self.roles
    }
}

/// What `restore` found out already.
pub struct Found<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The snapshot of dumps.
    pub snapshot: Box<Snapshot>,
    /// Platform and source.
    pub source: &'a str,
    /// The database that is to be put aside, named once more.
    pub confirm: Option<String>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Restores a database, or tables of it.
///
/// # Errors
/// See [`prepare`] and [`Prepared::restore`].
pub fn run(
    (args, shared): (&DumpArgs, &ClusterArgs),
    found: Found<'_>,
    global: &Global,
    ctx: &Ctx,
    out: &Render,
) -> Result<Exit, Failure> {
    let to = match (&shared.to, &args.into, &found.confirm) {
        (Some(to), ..) if to.starts_with("postgresql://") || to.starts_with("postgres://") => To::Existing(to.clone()),
        (Some(to), ..) => To::Directory(to.into()),
        (None, Some(into), Some(confirm)) if into == confirm => To::Replace(into.clone()),
        (None, _, Some(_)) => {
            return Err(Failure::new(
                Exit::Confirmation,
                "not-confirmed",
                "--confirm names another database than --into",
            )
            .help("name the database that is to be put aside twice: --into NAME --confirm NAME"));
        }
        (None, into, None) => To::New(into.clone()),
    };
    let lanes = match ctx.world.lanes {
        store::Lanes::Inline => 1,
        store::Lanes::Threads(lanes) => u32::try_from(lanes).unwrap_or(JOBS_MAX),
    };
    let request = Request {
        snapshot: *found.snapshot,
        dump: args.dump.clone(),
        database: shared.database.clone(),
        tables: shared.table.clone(),
        to,
        roles: if args.roles { Roles::Made } else { Roles::AsTheyAre },
        jobs: args.jobs.unwrap_or(lanes).clamp(1, JOBS_MAX),
    };
    let config = global.configuration()?;
    let Source::Postgres(source) = config.source(found.source)?.2 else {
        return Err(Failure::usage(format!("{} is no PostgreSQL source of the configuration", found.source)));
    };
    let cluster = Cluster::of(found.source, source)?;
    let began = ctx.world.clock.monotonic();
    let prepared = prepare(ctx, found.repository, &cluster, &request)?;
    let place = told_place(&request.to, &prepared);
    told_plan(out, &request, &prepared, &place);
    if found.dry_run {
        return Ok(Exit::Ok);
    }
    let progress = Progress::start(out, global.show(), "restore");
    let counters = progress.counters();
    counters.set_total(prepared.files, prepared.bytes);
    let (size, database) = (prepared.bytes, prepared.part.database.clone());
    let (name, tables) = (prepared.name.clone(), told_tables(&prepared));
    let result = prepared.restore(ctx, &cluster, &|done| counters.set(done.files, done.bytes));
    progress.finish();
    let reloaded = result?;
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    let name = match (&request.to, &reloaded.replaced) {
        (To::Replace(name), Some(_)) => Some(name.clone()),
        _ => name,
    };
    out.event(
        "summary",
        &json!({
            "source": found.source,
            "snapshot_id": request.snapshot.id,
            "database": database,
            "new_database": name,
            "replaced": reloaded.replaced,
            "tables": tables,
            "roles": reloaded.roles,
            "bytes": size,
            "warnings": reloaded.notes,
            "total_duration": seconds,
        }),
    );
    let what = if tables.is_empty() { database } else { format!("{} of {database}", tables.join(", ")) };
    let place = name.map_or(place, |name| format!("the database {name}"));
    out.say(format_args!(
        "{}: {} put into {} in {}",
        clean(found.source),
        clean(&what),
        clean(&place),
        duration(seconds)
    ));
    told_rest(out, &reloaded);
    Ok(if reloaded.notes.is_empty() { Exit::Ok } else { Exit::Incomplete })
}

fn told_place(to: &To, prepared: &Prepared<'_>) -> String {
    match (to, &prepared.name) {
        (To::Directory(dir), _) => shown_path(dir),
        (To::Replace(place), Some(name)) => format!("the new database {name}, which then takes the name {place}"),
        (_, Some(name)) => format!("the new database {name}"),
        // There may be a password in it.
        (_, None) => "the database that --to names".to_owned(),
    }
}

/// Schema and name of each table.
fn told_tables(prepared: &Prepared<'_>) -> Vec<String> {
    names(prepared.chosen.as_ref().map_or(&[], |chosen| &chosen.tables))
}

/// Schema and name of what is told as schema, name and owner.
fn names(told: &[String]) -> Vec<String> {
    let name = |told: &String| told.rsplit_once(' ').map_or(told.as_str(), |(table, _)| table).replacen(' ', ".", 1);
    told.iter().map(name).collect()
}

fn told_plan(out: &Render, request: &Request, prepared: &Prepared<'_>, place: &str) {
    let left_out = prepared.chosen.iter().flat_map(|chosen| &chosen.left_out).cloned().collect::<Vec<_>>();
    let without_rows = names(prepared.chosen.as_ref().map_or(&[], |chosen| &chosen.without_rows));
    out.event(
        "plan",
        &json!({
            "snapshot_id": request.snapshot.id,
            "database": prepared.part.database,
            "dump": prepared.part.name,
            "new_database": prepared.name,
            "tables": told_tables(prepared),
            "entries": prepared.chosen.as_ref().map(|chosen| chosen.entries.len()),
            "left_out": left_out,
            "without_rows": without_rows,
            "files": prepared.files,
            "bytes": prepared.bytes,
        }),
    );
    for foreign in &left_out {
        out.warning(format_args!("left out, because the other table is not wanted: foreign key {}", clean(foreign)));
    }
    if !without_rows.is_empty() {
        out.warning(format_args!("needed by them, and without rows: {}", clean(&without_rows.join(", "))));
    }
    if out.is_quiet() || out.is_json() {
        return;
    }
    let public = &request.snapshot.public;
    out.complain(&clean(&format!(
        "{} of snapshot {}, {}: {} files, {}, into {place}",
        prepared.part.database,
        request.snapshot.id.short(),
        crate::render::local_time(&public.time),
        prepared.files,
        bytes(prepared.bytes),
    )));
}

fn told_rest(out: &Render, reloaded: &Reloaded) {
    if let Some(aside) = &reloaded.replaced {
        out.say(format_args!(
            "  the database that had the name is {} now: drop it when it is not needed",
            clean(aside)
        ));
    }
    if !reloaded.roles.is_empty() {
        out.say(format_args!("  roles that were made: {}", clean(&reloaded.roles.join(", "))));
    }
    reloaded.notes.iter().for_each(|note| out.warning(clean(note)));
}
