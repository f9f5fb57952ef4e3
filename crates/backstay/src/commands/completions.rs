//! `backstay completions`: what a shell needs to complete commands and options.

use crate::args::{Cli, Global};
use crate::render::Render;
use clap::CommandFactory;
use ops::{Ctx, Exit, Failure};

/// Options of `completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = "bash: backstay completions bash > /etc/bash_completion.d/backstay\n\
                  zsh:  backstay completions zsh > /usr/local/share/zsh/site-functions/_backstay\n\
                  fish: backstay completions fish > ~/.config/fish/completions/backstay.fish")]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the verb.
///
/// # Errors
/// When standard output cannot take it.
pub fn run(args: Args, _global: &Global, _ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "backstay", &mut script);
    super::print(out, &script)?;
    Ok(Exit::Ok)
}
