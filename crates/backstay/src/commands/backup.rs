//! `backstay backup`: files, standard input, or what a program prints.

use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean, duration, shown};
use ops::backup::{Act, Files, Form, Reading, Report, Request, SourceRun, Step, Way, What};
use ops::config::{Config, PlatformName};
use ops::{Ctx, Exit, Failure, Locator, select};
use repo::{Assurance, Compression, Repository};
use serde_json::json;
use sources::files::{Caches, FilesReport, Filesystems, Pattern, SelectSpec, Severity};
use sources::sqlite::Sqlite;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

/// The most bytes a list of files may have.
const LIST_BYTES_MAX: u64 = 1 << 30;

/// Options of `backup`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Files that cannot be read are named, everything else is backed up, and the exit code is 3.\n\
                  SQLite databases are copied through SQLite, consistent while others use them (see --sqlite).\n\
                  A file .backstayignore in a directory says what to leave out below it, as .gitignore does.\n\
                  A word is a platform of the configuration, or one of its sources, where there is a platform of that name; \
                  a directory of that name is ./NAME.")]
pub struct Args {
    /// Files and directories, or platforms and sources of the configuration; after --stdin-from-command and --, the
    /// command
    #[arg(value_name = "PATH|PLATFORM[/SOURCE]")]
    paths: Vec<OsString>,
    /// Of PostgreSQL sources: their files and log, or dumps of their databases [default: all that the configuration says of
    /// them]
    #[arg(long = "type", value_enum, value_name = "HOW")]
    form: Option<FormArg>,
    /// Tag the snapshot; may be given several times, or with commas
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Why this backup is made, in words: kept with the snapshot
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Host name for the snapshot instead of this machine's
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Time of the snapshot instead of now: RFC 3339, or as in 2025-12-09 14:30
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Leave out what matches, as in .gitignore; an absolute path means that path; !PATTERN takes in again
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// File with one pattern per line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what is in directories marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out larger files
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<String>,
    /// Stay on the file systems of the given paths
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Read paths from this file, one per line; - is standard input; lines that begin with # do not count
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// Read paths from this file, each ended by a NUL byte
    #[arg(long, value_name = "FILE")]
    files_from0: Vec<PathBuf>,
    /// Back up standard input
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from0", "stdin_from_command"])]
    stdin: bool,
    /// Name of the file that standard input, or the command's output, becomes
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: String,
    /// Back up what the command after -- prints; when it fails there is no snapshot
    #[arg(long, conflicts_with_all = ["files_from", "files_from0"])]
    stdin_from_command: bool,
    /// SQLite databases: through SQLite, or as any other file [default: auto]
    #[arg(long, value_enum, value_name = "HOW")]
    sqlite: Option<SqliteArg>,
    /// Read every file again, whether it looks changed or not
    #[arg(long)]
    force: bool,
    /// Do not read back from the repository what this run stores before the snapshot is made
    #[arg(long)]
    no_verify: bool,
    /// Read and count, and store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// off, fast, auto, max, or zstd:LEVEL with a level from -7 to 19 [default: auto; of sources, what the configuration
    /// says]
    #[arg(long, value_name = "HOW", value_parser = select::parse_compression)]
    compression: Option<Compression>,
    /// How many files to read at the same time [default: one per processor]
    #[arg(long, value_name = "N")]
    read_concurrency: Option<usize>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SqliteArg {
    Auto,
    Off,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormArg {
    /// The files of a cluster, and its log
    Physical,
    /// Dumps of databases, by pg_dump
    Logical,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::backup::backup`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    if let Some((config, words)) = sources_named(&args, global)? {
        return run_sources(&args, &config, &words, global, ctx, out);
    }
    if args.form.is_some() {
        return Err(Failure::usage("--type is for sources of the configuration").help("name one: PLATFORM/SOURCE"));
    }
    let request = request(&args, ctx, what(&args)?, Compression::Level(3))?;
    let repository = open(global, ctx, out, request.act)?;
    run_one(&request, &repository, global, ctx, out)
}

/// What the options ask for. `compression` holds where they say nothing about it.
fn request(args: &Args, ctx: &Ctx, what: What, compression: Compression) -> Result<Request, Failure> {
    Ok(Request {
        host: args.host.clone().unwrap_or_else(|| ctx.host.clone()),
        tags: args.tag.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect(),
        reason: args.reason.as_ref().map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty()),
        time: args.time.as_ref().map(|time| select::parse_time(time, ctx.world.clock.now())).transpose()?,
        assurance: if args.no_verify { Assurance::Acknowledged } else { Assurance::ReadBack },
        compression: args.compression.unwrap_or(compression),
        act: if args.dry_run { Act::Preview } else { Act::Do },
        what,
    })
}

fn open(global: &Global, ctx: &Ctx, out: &Render, act: Act) -> Result<Repository, Failure> {
    global.open_by(ctx, out, |at, key| ops::backup::open(ctx, at, key, act))
}

fn run_one(
    request: &Request,
    repository: &Repository,
    global: &Global,
    ctx: &Ctx,
    out: &Render,
) -> Result<Exit, Failure> {
    let progress = Progress::start(out, global.show(), "backup");
    let counters = progress.counters();
    let result = ops::backup::backup(ctx, repository, request, &|step| match step {
        Step::Begins { way, because } => told_way(out, way, because),
        Step::Expect { entries, bytes } => counters.set_total(entries, bytes),
        Step::Done { entries, bytes, path } => {
            counters.files.fetch_add(entries, Relaxed);
            counters.bytes.fetch_add(bytes, Relaxed);
            if let Some(path) = path {
                counters.name(&shown(path));
            }
        }
    });
    progress.finish();
    let report = result?;
    Ok(told(out, request, &report))
}

/// Which way a cluster is taken; that it is from the server is worth a word where nobody asked for it.
fn told_way(out: &Render, way: Way, because: Option<&str>) {
    let method = match way {
        Way::Directory => "local",
        Way::Server => "remote",
    };
    out.event("begin", &json!({ "method": method, "because": because }));
    if let (Way::Server, false) = (way, out.is_quiet() || out.is_json()) {
        let because = because.map(|why| format!(": {}", clean(why))).unwrap_or_default();
        out.complain(&format!("taking the files from the server{because}"));
    }
}

/// The words that name platforms and sources of the configuration, with the configuration; `None` where all are paths.
///
/// # Errors
/// `usage` where both are named, or options that only make sense for paths; those of the configuration.
fn sources_named(args: &Args, global: &Global) -> Result<Option<(Config, Vec<String>)>, Failure> {
    let is_name = |word: &&str| word.split('/').next().is_some_and(|first| PlatformName::parse(first).is_some());
    let words: Vec<&str> = args.paths.iter().filter_map(|path| path.to_str()).filter(is_name).collect();
    if words.is_empty() || args.stdin_from_command {
        return Ok(None);
    }
    let config = global.configuration()?;
    let is_platform = |word: &&str| config.platform(word.split('/').next().unwrap_or(word)).is_ok();
    let words: Vec<String> =
        words.into_iter().filter(is_platform).map(|word| word.trim_end_matches('/').into()).collect();
    let Some(word) = words.first() else { return Ok(None) };
    if words.len() < args.paths.len() || !args.files_from.is_empty() || !args.files_from0.is_empty() {
        return Err(Failure::usage(format!("{word} is a platform of the configuration, and other things are paths"))
            .help(format!("back them up one after the other; a directory of that name is ./{word}")));
    }
    let of_paths = [
        (!args.exclude.is_empty(), "--exclude"),
        (!args.exclude_file.is_empty(), "--exclude-file"),
        (args.exclude_caches, "--exclude-caches"),
        (args.exclude_larger_than.is_some(), "--exclude-larger-than"),
        (args.one_file_system, "--one-file-system"),
        (args.sqlite.is_some(), "--sqlite"),
    ];
    if let Some((_, option)) = of_paths.iter().find(|(given, _)| *given) {
        return Err(Failure::usage(format!("{option} is for paths: of {word}, the configuration says that"))
            .help(format!("put it into the configuration; a directory of that name is ./{word}")));
    }
    Ok(Some((config, words)))
}

/// Runs sources of the configuration one after the other. One that fails does not keep the others from running.
///
/// # Errors
/// The first failure, once all have run.
fn run_sources(
    args: &Args,
    config: &Config,
    words: &[String],
    global: &Global,
    ctx: &Ctx,
    out: &Render,
) -> Result<Exit, Failure> {
    let mut sources = Vec::new();
    for word in words {
        sources.extend(config.sources(word)?);
    }
    sources.sort_by_key(|(platform, name, _)| (*platform, *name));
    sources.dedup_by_key(|(platform, name, _)| (*platform, *name));
    if sources.is_empty() {
        return Err(Failure::usage(format!("{} has no sources: there is nothing to back up", words.join(" ")))
            .help("configure one: [platform.NAME.source.NAME]"));
    }
    let wanted = args.form.map(|form| match form {
        FormArg::Physical => Form::Physical,
        FormArg::Logical => Form::Logical,
    });
    let runs: Vec<_> = sources
        .into_iter()
        .filter(|(.., source)| wanted.is_none() || source.kind() == "postgres")
        .flat_map(|(platform, name, source)| {
            Form::of(source, wanted).into_iter().map(move |form| (platform, name, source, form))
        })
        .collect();
    if runs.is_empty() {
        return Err(Failure::usage(format!("nothing of {} is backed up in that way", words.join(" ")))
            .help("see what the configuration says of it: backstay config show"));
    }
    let compression = config.settings().defaults.compression.unwrap_or(Compression::Level(3));
    let (mut exit, mut failed) = (Exit::Ok, None);
    // The one that is open, so that nobody is asked for its key twice.
    let mut opened: Option<(Locator, Repository)> = None;
    for (platform, name, source, form) in runs {
        let run = SourceRun {
            platform: platform.clone(),
            name: name.clone(),
            source: source.clone(),
            form,
            reading: reading(args),
            readers: args.read_concurrency,
        };
        let request = request(args, ctx, What::Source(Box::new(run)), compression)?;
        let global = global.about(Some(platform.as_str()));
        let at = global.locator()?;
        let repository = match opened.take().filter(|(same, _)| *same == at) {
            Some((_, repository)) => Ok(repository),
            None => open(&global, ctx, out, request.act),
        };
        let result = repository.and_then(|repository| {
            let result = run_one(&request, &repository, &global, ctx, out);
            opened = Some((at, repository));
            result
        });
        match result {
            Ok(Exit::Ok) => {}
            Ok(incomplete) => exit = incomplete,
            Err(failure) if ctx.world.stop.requested() => return Err(failure),
            Err(failure) if failed.is_none() => failed = Some(failure),
            Err(failure) => out.trouble(b"", &failure.what),
        }
    }
    failed.map_or(Ok(exit), Err)
}

fn what(args: &Args) -> Result<What, Failure> {
    let name = args.stdin_filename.clone();
    if args.stdin_from_command {
        return Ok(What::Command { name, argv: args.paths.clone() });
    }
    if args.stdin {
        return Ok(What::Stdin { name });
    }
    let mut paths: Vec<PathBuf> = args.paths.iter().map(PathBuf::from).collect();
    for file in &args.files_from {
        let list = read_list(file)?;
        let lines = list.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        paths.extend(lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(path_of));
    }
    for file in &args.files_from0 {
        paths.extend(read_list(file)?.split(|b| *b == 0).filter(|path| !path.is_empty()).map(path_of));
    }
    if paths.is_empty() {
        return Err(Failure::usage("back up what?").help("name files and directories, or see --stdin and --files-from"));
    }
    let size_bytes_max = match &args.exclude_larger_than {
        Some(size) => Some(select::parse_size(size).ok_or_else(|| {
            Failure::usage(format!("--exclude-larger-than {size:?} is no size")).help("write 500K, 10M or 1.5G")
        })?),
        None => None,
    };
    let current = std::env::current_dir()
        .map_err(|e| Failure::new(Exit::SourceUnreachable, "current-directory", format!("where are we? {e}")))?;
    let patterns = args.exclude.iter().map(|text| Pattern { text: text.clone(), origin: "--exclude".into() });
    Ok(What::Files(Files {
        paths,
        current,
        select: SelectSpec {
            patterns: patterns.collect(),
            pattern_files: args.exclude_file.clone(),
            caches: if args.exclude_caches { Caches::LeaveOut } else { Caches::Store },
            size_bytes_max,
            filesystems: if args.one_file_system { Filesystems::OfTheRoots } else { Filesystems::All },
        },
        sqlite: match args.sqlite {
            None | Some(SqliteArg::Auto) => Sqlite::Auto,
            Some(SqliteArg::Off) => Sqlite::Off,
        },
        reading: reading(args),
        readers: args.read_concurrency,
    }))
}

fn reading(args: &Args) -> Reading {
    if args.force { Reading::All } else { Reading::Changed }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn read_list(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| {
        let name = path.display();
        Failure::new(Exit::SourceUnreachable, "files-from", format!("cannot read the list of files {name}: {e}"))
    };
    let from: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut list = Vec::new();
    from.take(LIST_BYTES_MAX).read_to_end(&mut list).map_err(failed)?;
    Ok(list)
}

fn told(out: &Render, request: &Request, report: &Report) -> Exit {
    for trouble in &report.troubles {
        match trouble.severity {
            Severity::Error => out.trouble(&trouble.path, &trouble.what),
            Severity::Warning => out.warning(format_args!("{}: {}", shown(&trouble.path), trouble.what)),
        }
    }
    let named = report.troubles.len() as u64;
    let unnamed = (report.errors + report.warnings).saturating_sub(named);
    if unnamed > 0 {
        out.trouble(b"", &format!("and {unnamed} more errors and warnings"));
    }
    report.remarks.iter().for_each(|remark| out.warning(remark));
    let exit = if report.errors == 0 { Exit::Ok } else { Exit::Incomplete };
    summary(out, request, report);
    text(out, request, report);
    exit
}

/// `PLATFORM/SOURCE`, where a source was backed up.
fn source_of(request: &Request) -> Option<String> {
    match &request.what {
        What::Source(run) => Some(run.to_string()),
        _ => None,
    }
}

fn summary(out: &Render, request: &Request, report: &Report) {
    let none = FilesReport::default();
    let files = report.files.as_ref().unwrap_or(&none);
    // What is not read from files is all new.
    let files_new = if report.files.is_some() { files.files_new } else { report.stats.files };
    let stats = &report.stats;
    out.event(
        "summary",
        &json!({
            "dry_run": request.act == Act::Preview,
            "snapshot_id": report.snapshot.as_ref().map(|snapshot| snapshot.id),
            "status": if report.errors == 0 { "complete" } else { "partial" },
            "paths": report.paths,
            "source": source_of(request),
            "host": request.host,
            "time": report.snapshot.as_ref().map(|snapshot| &snapshot.public.time),
            "files_new": files_new,
            "files_changed": files.files_changed,
            "files_unmodified": files.files_unmodified,
            "dirs": stats.dirs,
            "others": stats.others,
            "databases": files.databases,
            "sockets_skipped": files.sockets,
            "vanished": files.vanished,
            "excluded": files.excluded.total(),
            "data_added": stats.new_bytes,
            "data_added_packed": stats.stored_bytes,
            "bytes_read": if report.files.is_some() { files.bytes_read } else { stats.bytes },
            "total_files_processed": stats.files,
            "total_bytes_processed": stats.bytes,
            "total_duration": report.seconds,
            "verified": request.assurance == Assurance::ReadBack && request.act == Act::Do,
            "errors": report.errors,
            "warnings": report.warnings,
        }),
    );
}

fn text(out: &Render, request: &Request, report: &Report) {
    let stats = &report.stats;
    let source = source_of(request).map(|source| format!("{source}: ")).unwrap_or_default();
    let of = clean(&format!("{source}{}", report.paths.join(", ")));
    match &report.snapshot {
        Some(snapshot) => out.say(format_args!("snapshot {} of {of}", snapshot.id.short())),
        None => out.say(format_args!("DRY RUN, nothing was stored: {of}")),
    }
    if let Some(files) = &report.files {
        out.say(format_args!(
            "  files   {} new, {} changed, {} unmodified; {} directories",
            files.files_new, files.files_changed, files.files_unmodified, stats.dirs
        ));
        let more = [
            (files.databases, "SQLite databases copied through SQLite"),
            (files.excluded.total(), "left out by rules"),
            (files.sockets, "sockets skipped"),
            (files.vanished, "vanished meanwhile"),
        ];
        let more: Vec<String> = more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if !more.is_empty() {
            out.say(format_args!("          {}", more.join(", ")));
        }
    }
    let stored = match request.act {
        Act::Do => format!("{} stored", bytes(stats.stored_bytes)),
        Act::Preview => "before compression".into(),
    };
    out.say(format_args!("  data    {} in all, {} new, {stored}", bytes(stats.bytes), bytes(stats.new_bytes)));
    let read = report.files.as_ref().map_or(stats.bytes, |files| files.bytes_read);
    let rate = if report.seconds > 0.0 { read as f64 / report.seconds } else { 0.0 };
    out.say(format_args!("  took    {}, {} read ({}/s)", duration(report.seconds), bytes(read), bytes(rate as u64)));
    if report.errors > 0 {
        out.say(format_args!("  INCOMPLETE: {} things could not be backed up, see above", report.errors));
    }
}
