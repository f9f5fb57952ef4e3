//! `backstay instant`: a PostgreSQL server on a backup, for as long as somebody looks.

use super::cluster::line;
use crate::args::Global;
use crate::render::{Render, clean, duration, local_time};
use ops::config::Source;
use ops::postgres::Cluster;
use ops::postgres::instant::{Ready, Telling, instant};
use ops::postgres::pitr::Moment;
use ops::postgres::recover::{Over, Request};
use ops::{Ctx, Exit, Failure, select};
use serde_json::json;
use sources::postgres::cluster::{Archiving, Arrival, Edge};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of `instant`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Pages come out of the repository when the server reads them. What is changed lies beside them, and goes when it \
                  ends: this is for looking, comparing and taking out. The server archives nothing, listens for nobody else, \
                  and runs no subscriptions and no jobs of pg_cron.\n\
                  backstay instant shop/db --at \"2026-11-20 14:30\""
)]
pub struct Args {
    /// The source; with :ID the end of this backup
    #[arg(value_name = "PLATFORM/SOURCE")]
    source: String,
    /// The moment: a time, latest, immediate (the end of a backup), lsn:0/3000060, xid:1234, name:POINT [default: latest]
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    at: Option<String>,
    /// Without what is exactly at the moment
    #[arg(long, requires = "at")]
    exclusive: bool,
    /// The backup to begin with; otherwise the newest before the moment
    #[arg(long, value_name = "SNAPSHOT")]
    base: Option<String>,
    /// Which line of history after a failover: newest, backup (its own), or a number
    #[arg(long, value_name = "TIMELINE", default_value = "newest")]
    timeline: String,
    /// Stop where the moment is, and stay readable only
    #[arg(long)]
    read_only: bool,
    /// A directory to make for it: changed pages, the socket. Otherwise one in the cache
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Listen at 127.0.0.1 too, at this port, with passwords
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::postgres::instant::instant`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let began = ctx.world.clock.monotonic();
    let (source, id) = args.source.split_once(':').map_or((&*args.source, None), |(source, id)| (source, Some(id)));
    let config = global.configuration()?;
    let Source::Postgres(configured) = config.source(source)?.2 else {
        return Err(Failure::usage(format!("{source} is no PostgreSQL source of the configuration")));
    };
    let cluster = Cluster::of(source, configured)?;
    let global = global.about(Some(source));
    let repository = global.open(ctx, out)?;
    let snapshots = repository.snapshots()?;
    let named = match id.or(args.base.as_deref()) {
        Some(name) => {
            let filter = select::Filter::default().of_source(Some(source));
            Some(select::pick(&ctx.world, &snapshots, name, &filter)?.clone())
        }
        None => None,
    };
    let moment = match (&args.at, id) {
        (Some(text), _) => Moment::parse(text, ctx.world.clock.now())?,
        // A backup that is named by its id is wanted as it was.
        (None, Some(_)) => Moment::Immediate,
        (None, None) => Moment::Latest,
    };
    let target = match args.dir {
        Some(dir) => dir,
        None => {
            let place = ctx.cache_dir.join("scratch");
            std::fs::create_dir_all(&place).map_err(|e| {
                Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot make {}: {e}", place.display()))
            })?;
            place.join(format!("instant-{}", std::process::id()))
        }
    };
    let request = Request {
        source: source.to_owned(),
        moment,
        line: line(&args.timeline)?,
        base: named,
        edge: if args.exclusive { Edge::Exclusive } else { Edge::Inclusive },
        target,
        tablespaces: BTreeMap::new(),
        arrival: if args.read_only { Arrival::Pause } else { Arrival::Promote },
        archiving: Archiving::Off,
        over: Over::Nothing,
        fetch: global.as_command()?,
    };
    let told = |ready: &Ready| {
        let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
        let Ready { host, port, user, database, backup, recovers } = ready;
        out.event(
            "ready",
            &json!({
                "source": source, "backup_time": backup, "host": host, "port": port, "user": user, "database": database,
                "recovering": recovers, "seconds": seconds,
            }),
        );
        out.say(format_args!(
            "{} runs on its backup of {}, after {}; ctrl-C ends it, and what was changed goes",
            clean(source),
            local_time(backup),
            duration(seconds)
        ));
        out.line(format_args!("psql -h {} -p {port} -U {} {}", word(host), word(user), word(database)));
        if *recovers {
            out.say("it replays its log: it can be read, and shows more and more until it is there");
        }
        out.flush();
    };
    let writable = || {
        let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
        out.event("writable", &json!({ "source": source, "seconds": seconds }));
        out.say(format_args!("it is there, after {}, and can be written to", duration(seconds)));
        out.flush();
    };
    let trouble = out.clone();
    let on = Box::new(move |path: &[u8], what: &str| trouble.trouble(path, what));
    let telling = Telling { ready: &told, writable: &writable };
    instant((ctx, &repository), (&cluster, &request), args.port, (&telling, on))?;
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    out.event("summary", &json!({ "source": source, "total_duration": seconds }));
    Ok(Exit::Ok)
}

/// A word as a person would type it in a shell.
fn word(text: &str) -> String {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(&b));
    if is_plain { clean(text) } else { format!("'{}'", clean(text).replace('\'', "'\\''")) }
}
