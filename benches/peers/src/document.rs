//! Where figures are written down, and what belongs to every figure: day, commit, machine.
//!
//! What it may not know: what the figures mean. Where data comes from and goes: git and the kernel in; a part of a
//! document, between two markers, out.

use std::path::Path;
use std::process::Command;

/// When and what was measured, and on what machine.
pub struct Origin {
    /// Day, UTC.
    pub date: String,
    /// The commit of the workspace that this program was built from.
    pub commit: String,
    /// Processors, memory, kernel, file system: the class of the machine, not its name.
    pub machine: String,
}

impl Origin {
    /// Now, here, with files in `work`.
    pub fn here(work: &Path) -> Origin {
        Origin {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit(),
            machine: machine(work),
        }
    }
}

/// The workspace this program was built from.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate stands in benches/peers")
}

/// What git says about the workspace.
fn commit() -> String {
    let ask = |args: &[&str]| {
        let output = Command::new("git").current_dir(workspace()).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ask(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn machine(work: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let memory = read("/proc/meminfo");
    let kibibytes: u64 = memory.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    // The deepest mount that the directory is below.
    let mounts = read("/proc/mounts");
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.filter(|words| words.len() > 2 && work.starts_with(words[1])).max_by_key(|words| words[1].len());
    let filesystem = mount.map_or_else(|| "unknown".to_owned(), |words| words[2].to_owned());
    format!("{cores} processors ({model}), {} GiB, Linux {kernel}, {filesystem}", kibibytes >> 20)
}

/// Puts `part` between the two markers called `name` in the document at `path`, in place of what is there.
///
/// # Errors
/// When the markers are not there, or the document cannot be read or written.
pub fn replace(path: &Path, name: &str, part: &str) -> Result<(), String> {
    let about = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let document = std::fs::read_to_string(path).map_err(|e| about(&e))?;
    let document = replaced(&document, name, part).map_err(|e| about(&e))?;
    std::fs::write(path, document).map_err(|e| about(&e))
}

fn replaced(document: &str, name: &str, part: &str) -> Result<String, String> {
    let begin = format!("<!-- {name}: begin. Made by the program; do not edit. -->");
    let end = format!("<!-- {name}: end -->");
    let parts = document.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("the lines {begin} and {end} are not there"))?;
    Ok(format!("{before}{begin}\n\n{part}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let markers = |inside: &str| {
            format!("a\n<!-- x: begin. Made by the program; do not edit. -->\n\n{inside}\n<!-- x: end -->\nb\n")
        };
        assert_eq!(replaced(&markers("old\n"), "x", "new\n").unwrap(), markers("new\n"));
        assert!(replaced(&markers("old\n"), "y", "new\n").is_err());
    }
}
