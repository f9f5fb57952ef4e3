//! The definitions of databases in a git repository, one commit for each change.
//!
//! What it is for: to see in a log when which table changed. It keeps a clone of its own in the state directory, or works in a
//! directory that is a repository already. What it may not know: what is in the scripts.
//! Where data comes from and goes: scripts as files of a work tree, by the program `git`.

use crate::ctx::Ctx;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes each script as `PATH.sql`, commits when one changed, and pushes where the repository was cloned from elsewhere.
/// Returns why not.
pub(super) fn publish(
    ctx: &Ctx,
    place: &str,
    (source, message): (&str, &str),
    scripts: &BTreeMap<String, String>,
) -> Result<(), String> {
    let local = PathBuf::from(place);
    let is_local = local.is_absolute() && local.is_dir() && !is_bare(&local);
    let tree = if is_local { local } else { cloned(ctx, place)? };
    for (path, script) in scripts {
        let file = tree.join(source).join(format!("{path}.sql"));
        let dir = file.parent().unwrap_or(&tree);
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, script));
        written.map_err(|e| format!("the definitions were not kept: cannot write {}: {e}", file.display()))?;
    }
    git(&tree, &["add", "--", source])?;
    if git(&tree, &["diff", "--cached", "--quiet", "--", source]).is_ok() {
        return if is_local { Ok(()) } else { push(&tree) };
    }
    let (name, email) = (format!("user.name={}", ctx.user), format!("user.email={}@{}", ctx.user, ctx.host));
    git(&tree, &["-c", &name, "-c", &email, "commit", "--quiet", "--no-verify", "-m", message, "--", source])?;
    if is_local { Ok(()) } else { push(&tree) }
}

/// What was committed while the other side could not be reached goes with it.
fn push(tree: &Path) -> Result<(), String> {
    git(tree, &["push", "--quiet", "origin", "HEAD"])
}

/// Whether a directory is a repository without files of its own.
fn is_bare(dir: &Path) -> bool {
    dir.join("HEAD").is_file() && dir.join("objects").is_dir()
}

/// The clone of what is elsewhere, as it is there now.
fn cloned(ctx: &Ctx, place: &str) -> Result<PathBuf, String> {
    let mark = blake3::hash(place.as_bytes()).to_hex();
    let tree = ctx.state_dir.join("schema-git").join(&mark[..16]);
    if !tree.join(".git").is_dir() {
        std::fs::create_dir_all(&tree).map_err(|e| format!("cannot make {}: {e}", tree.display()))?;
        git(&tree, &["clone", "--quiet", "--", place, "."])?;
        return Ok(tree);
    }
    git(&tree, &["fetch", "--quiet", "origin"])?;
    // Somebody else may have pushed. A repository without a commit has nothing to go on from.
    if git(&tree, &["rev-parse", "--quiet", "--verify", "@{upstream}"]).is_ok() {
        git(&tree, &["rebase", "--quiet", "@{upstream}"])?;
    }
    Ok(tree)
}

fn git(tree: &Path, args: &[&str]) -> Result<(), String> {
    let verb = args.iter().find(|arg| !arg.starts_with('-') && !arg.contains('=')).unwrap_or(&"");
    let failed = |why: &str| format!("the definitions were not kept: git {verb}: {}", why.trim());
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("BACKSTAY_") || (text.starts_with("GIT_") && !text.starts_with("GIT_SSH")) {
            command.env_remove(&name);
        }
    }
    // Nobody is there to answer.
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").current_dir(tree);
    let output = command.args(args).stdin(Stdio::null()).output().map_err(|e| failed(&e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    Err(failed(line.or_else(|| said.lines().last()).unwrap_or("it failed")))
}
