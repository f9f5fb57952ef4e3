//! `backstay key`: who can open the repository.

use crate::args::Global;
use crate::prompt;
use crate::render::{Render, clean, local_time, shown_path};
use clap::Subcommand;
use ops::key::{Domain, EnrolRequest, NewPassphrase, Protection};
use ops::{Ctx, Exit, Failure, KeyFrom};
use repo::{Act, DomainId, Role};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Options of `key`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Roles: a writer backs up and can read nothing, not even what it wrote; a keeper forgets, prunes, verifies digests \
                  and cannot read contents; a reader restores; root enrols others. A passphrase does all of it."
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List passphrases and who was enrolled
    List,
    /// Add a passphrase, or enrol somebody with --role
    Add(Add),
    /// Remove a passphrase
    Remove {
        /// Its name, as `key list` shows it
        name: String,
        /// Say what would be left, and remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Put a new passphrase in the place of an old one
    Passwd {
        /// The old one's name; not needed when it is the only one
        name: Option<String>,
        #[command(flatten)]
        new: NewKey,
    },
    /// Revoke the key of somebody who was enrolled: what they committed stays, what they commit from now on does not count
    Revoke {
        /// Its SIGNER, as `key list` shows it, or its label
        whom: String,
        /// Say whose key it is, and revoke nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Give a key file a passphrase of its own, or another one
    Protect {
        /// The key file
        file: PathBuf,
        /// Take its passphrase away
        #[arg(long, conflicts_with_all = ["new_key_file", "new_key_command"])]
        off: bool,
        #[command(flatten)]
        new: NewKey,
    },
    /// Print the recovery kit: who has it can restore everything
    Kit {
        /// New file for it, mode 0600; - for standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Say what the key at hand can do, having tried it
    Test,
}

#[derive(clap::Args, Debug)]
struct Add {
    /// Enrol somebody for this, with keys of their own
    #[arg(long, value_enum, value_name = "ROLE", requires = "out")]
    role: Option<Named>,
    /// What to call it
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// New file for the keys, mode 0600
    #[arg(long, value_name = "FILE", requires = "role")]
    out: Option<PathBuf>,
    /// Domain that a writer shares chunks with: 32 hex digits, or same-as LABEL [default: one of its own]
    #[arg(long, value_name = "DOMAIN", requires = "role", num_args = 1..=2)]
    domain: Vec<String>,
    #[command(flatten)]
    new: NewKey,
}

#[derive(clap::Args, Debug)]
struct NewKey {
    /// File that holds the new passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_command")]
    new_key_file: Option<PathBuf>,
    /// Program that prints the new passphrase; no shell is used
    #[arg(long, value_name = "COMMAND")]
    new_key_command: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Named {
    Writer,
    Keeper,
    Reader,
    Root,
}

impl From<Named> for Role {
    fn from(named: Named) -> Role {
        match named {
            Named::Writer => Role::Writer,
            Named::Keeper => Role::Keeper,
            Named::Reader => Role::Reader,
            Named::Root => Role::Root,
        }
    }
}

impl NewKey {
    /// The new passphrase, from where the options say, or typed twice.
    fn read(&self, out: &Render) -> Result<NewPassphrase, Failure> {
        let from = match (&self.new_key_file, &self.new_key_command) {
            (Some(file), _) => KeyFrom::File(file.clone()),
            (None, Some(command)) => KeyFrom::Command(ops::split_words(command)?),
            (None, None) if prompt::is_possible() => KeyFrom::Prompt(prompt::new_secret),
            (None, None) => {
                return Err(Failure::usage("there is no new passphrase")
                    .help("name it with --new-key-file or --new-key-command, or run this on a terminal"));
            }
        };
        let key = from.read("new passphrase: ")?;
        key.warning.iter().for_each(|warning| out.warning(warning));
        NewPassphrase::parse(&key.text)
    }
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::key`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    match args.what {
        What::List => list(global, ctx, out)?,
        What::Add(Add { role: Some(role), label, out: Some(file), domain, .. }) => {
            enrol(global, ctx, out, &file, role.into(), label, &domain)?;
        }
        What::Add(add) => {
            let mut repository = global.open(ctx, out)?;
            let passphrase = add.new.read(out)?;
            let label = add.label.unwrap_or_else(|| ctx.user.clone());
            let name = ops::key::add_passphrase(ctx, &mut repository, &passphrase, &label)?;
            out.document(&json!({ "added": name, "label": label }));
            out.say(format_args!("added passphrase {}", clean(&name)));
        }
        What::Remove { name, dry_run } => {
            let repository = global.open(ctx, out)?;
            let act = if dry_run { Act::Preview } else { Act::Do };
            let removed = ops::key::remove_passphrase(&repository, &name, act)?;
            out.document(&removed);
            let verb = if dry_run { "would remove" } else { "removed" };
            out.say(format_args!("{verb} passphrase {}; {} left", clean(&removed.removed), removed.left.len()));
            out.say("Who knew it may have kept a copy of the repository's keys: what is in it by now stays readable to them.");
        }
        What::Passwd { name, new } => {
            let mut repository = global.open(ctx, out)?;
            let passphrase = new.read(out)?;
            let changed = ops::key::change_passphrase(ctx, &mut repository, name.as_deref(), &passphrase)?;
            out.document(&changed);
            out.say(format_args!("added passphrase {}, removed {}", clean(&changed.added), clean(&changed.removed)));
        }
        What::Revoke { whom, dry_run } => revoke(global, ctx, out, &whom, dry_run)?,
        What::Protect { file, off, new } => protect(global, out, &file, off, &new)?,
        What::Kit { out: file } => kit(global, ctx, out, file.as_deref())?,
        What::Test => test(global, ctx, out)?,
    }
    Ok(Exit::Ok)
}

fn list(global: &Global, ctx: &Ctx, out: &Render) -> Result<(), Failure> {
    let repository = global.open(ctx, out)?;
    let list = ops::key::list(&repository)?;
    out.document(&list);
    out.line("passphrases (each does everything):");
    if list.passphrases.is_empty() {
        out.line("  none: add one with `backstay key add`");
    }
    for name in &list.passphrases {
        out.line(format_args!("  {}", clean(name)));
    }
    out.line("");
    out.line("enrolled:");
    let rows: Vec<Vec<String>> = list
        .certificates
        .iter()
        .map(|row| {
            let domain = row.domain.map(|domain| domain.to_string()).unwrap_or_default();
            let roles = match &row.revoked {
                Some(at) => format!("{} (revoked {})", row.roles.join(","), local_time(at)),
                None => row.roles.join(","),
            };
            vec![row.signer.clone(), roles, clean(&row.label), local_time(&row.created), domain]
        })
        .collect();
    out.table(&["SIGNER", "ROLES", "LABEL", "CREATED", "DOMAIN"], &[], &rows);
    out.line("");
    out.line(format_args!("the key at hand: {} ({})", clean(&list.own_label), list.own_role.name()));
    Ok(())
}

fn enrol(
    global: &Global,
    ctx: &Ctx,
    out: &Render,
    file: &Path,
    role: Role,
    label: Option<String>,
    domain: &[String],
) -> Result<(), Failure> {
    let label =
        label.ok_or_else(|| Failure::usage("--role needs a --label").help("name the host or person it is for"))?;
    let domain = parse_domain(domain)?;
    let mut repository = global.open(ctx, out)?;
    let request = EnrolRequest { role, label, domain, out: file };
    let enrolled = ops::key::enrol(&mut repository, &request)?;
    out.document(&enrolled);
    let (role, label, file) = (role.name(), clean(&enrolled.label), shown_path(file));
    out.say(format_args!("enrolled {role} {label}: keys in {file} (mode 0600)"));
    if let Some(domain) = enrolled.domain {
        out.say(format_args!("  domain {domain}"));
    }
    out.say("Carry the file to where it is used as --key-file; it is kept nowhere else.");
    Ok(())
}

fn revoke(global: &Global, ctx: &Ctx, out: &Render, whom: &str, dry_run: bool) -> Result<(), Failure> {
    let mut repository = global.open(ctx, out)?;
    let act = if dry_run { Act::Preview } else { Act::Do };
    let revoked = ops::key::revoke(ctx, &mut repository, whom, act)?;
    out.repository_warnings(&ctx.take_remarks());
    out.document(&revoked);
    let ops::key::Revoked { whom, snapshots, .. } = &revoked;
    let verb = if dry_run { "would revoke" } else { "revoked" };
    out.say(format_args!("{verb} the {} key {} ({})", whom.roles.join(","), whom.signer, clean(&whom.label)));
    out.say(format_args!("  its {snapshots} snapshots stay; what it commits from now on does not count"));
    if whom.roles.iter().any(|role| role == "reader") {
        out.warning("a reader's key goes on opening what it opens: whoever has it can read what they can get at");
    }
    out.say("Take away its access to the place where the repository is, too: that is what keeps it from filling it.");
    Ok(())
}

fn protect(global: &Global, out: &Render, file: &Path, off: bool, new: &NewKey) -> Result<(), Failure> {
    let itself = Box::new(KeyFrom::File(file.to_path_buf()));
    let from = match global.passphrase()? {
        Some(passphrase) => KeyFrom::Protected { key: itself, passphrase: Box::new(passphrase) },
        None => *itself,
    };
    let key = from.read("")?;
    let passphrase = if off { None } else { Some(new.read(out)?) };
    let protection = passphrase.as_ref().map_or(Protection::None, Protection::Passphrase);
    ops::key::protect(file, &key.text, &protection)?;
    let state = if off { "has no passphrase any more" } else { "has a passphrase of its own" };
    out.document(&json!({ "file": shown_path(file), "protected": !off }));
    out.say(format_args!("{} {state} (mode 0600)", shown_path(file)));
    if !off {
        out.say("Where nobody can type it, name it with --key-passphrase-file or BACKSTAY_KEY_PASSPHRASE_FILE.");
    }
    Ok(())
}

fn parse_domain(words: &[String]) -> Result<Domain, Failure> {
    let bad = || {
        Failure::usage(format!("--domain {:?} is no domain", words.join(" ")))
            .help("write 32 hex digits, or same-as LABEL")
    };
    match words {
        [] => Ok(Domain::Own),
        [word, label] if word == "same-as" => Ok(Domain::SameAs(label.clone())),
        [word] => match word.strip_prefix("same-as:") {
            Some(label) => Ok(Domain::SameAs(label.to_owned())),
            None => DomainId::parse(word).map(Domain::Given).ok_or_else(bad),
        },
        _ => Err(bad()),
    }
}

fn kit(global: &Global, ctx: &Ctx, out: &Render, file: Option<&Path>) -> Result<(), Failure> {
    let to_stdout = match file {
        Some(file) => file == Path::new("-"),
        None if std::io::stdout().is_terminal() && !out.is_json() => true,
        None => {
            return Err(Failure::usage("where to? Standard output is no terminal, and the kit is a secret")
                .help("name a new file with --out, or say --out -"));
        }
    };
    let repository = global.open(ctx, out)?;
    let kit = ops::key::kit(ctx, &repository)?;
    match file.filter(|_| !to_stdout) {
        None => super::print(out, kit.as_bytes()),
        Some(file) => {
            ops::key::write_kit(&kit, file)?;
            out.document(&json!({ "file": shown_path(file), "repository_id": repository.id() }));
            out.say(format_args!(
                "wrote {} (mode 0600): print it, put it in a safe, delete the file",
                shown_path(file)
            ));
            Ok(())
        }
    }
}

fn test(global: &Global, ctx: &Ctx, out: &Render) -> Result<(), Failure> {
    let repository = global.open(ctx, out)?;
    let test = ops::key::test(ctx, &repository)?;
    out.document(&test);
    out.line(format_args!("{} ({}) opens repository {}", clean(&test.label), test.role.name(), test.repository_id));
    let yes = |can: bool| if can { "yes" } else { "no" };
    out.line(format_args!("  backs up         {}", yes(test.can_write)));
    out.line(format_args!("  restores         {}", yes(test.can_read)));
    out.line(format_args!("  forgets, prunes  {}", yes(test.can_prune)));
    out.line(format_args!("  enrols others    {}", yes(test.can_enrol)));
    out.line(format_args!("  sees             {} snapshots in {} domains", test.snapshots, test.domains.len()));
    for domain in &test.domains {
        out.line(format_args!("    {domain}"));
    }
    Ok(())
}
