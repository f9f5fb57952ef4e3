//! `backstay tag`: changes the tags and holds of snapshots.

use super::choose::Choose;
use crate::args::Global;
use crate::render::{Render, clean};
use ops::tag::{Hold, TagRequest, Tags};
use ops::{Ctx, Exit, Failure};

/// Options of `tag`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Ids stay the same. A held snapshot is never removed, neither by a policy nor by name, until it is released."
)]
pub struct Args {
    /// Snapshots: ids, or `latest`; none for all that --host, --tag and --path name
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    choose: Choose,
    /// Add this tag; commas separate several
    #[arg(long, value_name = "TAG[,TAG]", value_delimiter = ',', conflicts_with = "set")]
    add: Vec<String>,
    /// Remove this tag
    #[arg(long, value_name = "TAG[,TAG]", value_delimiter = ',', conflicts_with = "set")]
    remove: Vec<String>,
    /// These tags and no others; empty for none
    #[arg(long, value_name = "TAG[,TAG]", value_delimiter = ',')]
    set: Option<Vec<String>>,
    /// Keep it whatever a policy says, for this reason
    #[arg(long, value_name = "REASON", conflicts_with = "release")]
    hold: Option<String>,
    /// It may expire again
    #[arg(long)]
    release: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::tag::tag`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let named = |tags: Vec<String>| -> Vec<String> {
        tags.into_iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
    };
    let (add, remove) = (named(args.add), named(args.remove));
    let asks = !add.is_empty() || !remove.is_empty() || args.set.is_some() || args.hold.is_some() || args.release;
    if !asks {
        return Err(Failure::usage("nothing to change").help("say --add, --remove, --set, --hold or --release"));
    }
    let filter = args.choose.filter();
    if args.snapshots.is_empty() && filter == ops::select::Filter::default() {
        return Err(Failure::usage("which snapshots?").help("name them, or say --host, --tag, --path or --source"));
    }
    let request = TagRequest {
        snapshots: args.snapshots,
        filter,
        tags: match args.set {
            Some(tags) => Tags::Set(named(tags)),
            None => Tags::Edit { add, remove },
        },
        hold: match args.hold {
            Some(why) => Hold::Place(why),
            None if args.release => Hold::Release,
            None => Hold::Leave,
        },
    };
    let repository = args.choose.about(global, &request.snapshots).open(ctx, out)?;
    let report = ops::tag::tag(ctx, &repository, &request)?;
    out.document(&report);
    for snapshot in &report.changed {
        let tags = if snapshot.tags.is_empty() { "no tags".to_owned() } else { clean(&snapshot.tags.join(",")) };
        let hold = snapshot.hold.as_deref().map(|why| format!(", held: {}", clean(why))).unwrap_or_default();
        out.say(format_args!("{}: {tags}{hold}", snapshot.short_id));
    }
    if report.unchanged > 0 {
        out.say(format_args!("{} were so already", report.unchanged));
    }
    Ok(Exit::Ok)
}
