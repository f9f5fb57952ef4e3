//! `backstay man`: manual pages, made from the same definitions as the command line.

use super::help::ENVIRONMENT;
use crate::args::{Cli, Global};
use crate::render::{Render, clean};
use clap::CommandFactory;
use clap_mangen::Man;
use ops::{Ctx, Exit, Failure};
use std::io::Write;
use std::path::PathBuf;

/// Options of `man`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write all pages into this directory, instead of printing the main one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When the pages cannot be written.
pub fn run(args: Args, _global: &Global, _ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let failed =
        |e: std::io::Error| Failure::new(Exit::TargetUnreachable, "man", format!("cannot write manual pages: {e}"));
    let Some(dir) = args.dir else {
        super::print(out, &main_page().map_err(failed)?)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(&dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &dir).map_err(failed)?;
    std::fs::write(dir.join("backstay.1"), main_page().map_err(failed)?).map_err(failed)?;
    out.say(format_args!("wrote the manual pages to {}", clean(&dir.display().to_string())));
    Ok(Exit::Ok)
}

fn main_page() -> std::io::Result<Vec<u8>> {
    let man = Man::new(Cli::command()).source(crate::PROGRAM).manual("Backstay");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    list(&mut page, "EXIT STATUS", Exit::ALL.iter().map(|(exit, means)| (exit.code().to_string(), *means)))?;
    list(&mut page, "ENVIRONMENT", ENVIRONMENT.iter().map(|(name, means)| ((*name).to_owned(), *means)))?;
    Ok(page)
}

fn list<'t>(page: &mut Vec<u8>, title: &str, items: impl Iterator<Item = (String, &'t str)>) -> std::io::Result<()> {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('-', "\\-");
    writeln!(page, ".SH \"{title}\"")?;
    for (term, means) in items {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(&term), escape(means))?;
    }
    Ok(())
}
