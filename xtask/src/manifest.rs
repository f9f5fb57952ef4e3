//! Reads what the gates need from `Cargo.toml` and `Cargo.lock`: tables, keys, and nothing else of TOML.
//!
//! What it may not know: which dependencies are allowed.
//! Where data comes from: text. A manifest written in a way that this does not read is a complaint, never a guess.

/// One `key = value` below its table.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// `dependencies`, `target.'cfg(unix)'.dependencies`, …
    pub table: String,
    /// `serde.workspace`, `name`, …
    pub key: String,
    /// What stands right of the sign, as written.
    pub value: String,
}

/// The keys of a manifest, in order. Values over several lines are joined.
///
/// # Errors
/// A line that is no table, no key and no comment, with its number.
pub fn read(text: &str) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    let mut table = String::new();
    let mut open = 0_isize;
    for (number, raw) in text.lines().enumerate() {
        let line = without_comment(raw).trim();
        if line.is_empty() {
            continue;
        }
        if open > 0 {
            let last = lines.last_mut().expect("a value is open");
            last.value.push_str(line);
            open += depth(line);
        } else if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').trim_start_matches('[').trim().to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            open = depth(value);
            lines.push(Line { table: table.clone(), key: key.trim().to_owned(), value: value.trim().to_owned() });
        } else {
            return Err(format!("line {}: cannot be read: {raw}", number + 1));
        }
    }
    Ok(lines)
}

/// Which kind of dependency a table lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Needed by the crate itself.
    Normal,
    /// Needed by its tests.
    Dev,
    /// Needed by its build script.
    Build,
}

/// The dependencies of a crate: kind, name as in the workspace's list, and whether the version comes from there.
pub fn dependencies(lines: &[Line]) -> Vec<(Kind, String, bool)> {
    let mut found: Vec<(Kind, String, bool)> = Vec::new();
    for line in lines {
        let table = line.table.rsplit_once("'.").map_or(line.table.as_str(), |(_, rest)| rest);
        let (section, own) = match table.split_once('.') {
            Some((section, name)) => (section, Some(name)),
            None => (table, None),
        };
        let kind = match section {
            "dependencies" => Kind::Normal,
            "dev-dependencies" => Kind::Dev,
            "build-dependencies" => Kind::Build,
            _ => continue,
        };
        let (name, setting) = match own {
            Some(name) => (name, line.key.as_str()),
            None => line.key.split_once('.').unwrap_or((line.key.as_str(), "")),
        };
        let inherited = setting == "workspace" || line.value.contains("workspace = true");
        match found.iter_mut().find(|(k, n, _)| *k == kind && n == name) {
            Some((_, _, known)) => *known |= inherited,
            None => found.push((kind, name.to_owned(), inherited)),
        }
    }
    found
}

/// How many packages a lock file names.
pub fn packages(lock: &str) -> usize {
    lock.lines().filter(|line| *line == "[[package]]").count()
}

fn depth(text: &str) -> isize {
    text.chars().fold(0, |depth, c| match c {
        '[' | '{' => depth + 1,
        ']' | '}' => depth - 1,
        _ => depth,
    })
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let text = "[package]\nname = \"a\" # the name\n[dependencies]\nserde.workspace = true\n\
                    zstd = { workspace = true, features = [\n  \"x\",\n] }\nold = \"1\"\n[dependencies.age]\n\
                    version = \"1\"\n[target.'cfg(unix)'.dev-dependencies]\nrustix = { workspace = true }\n";
        let lines = read(text).expect("is read");
        let expect = [
            (Kind::Normal, "serde", true),
            (Kind::Normal, "zstd", true),
            (Kind::Normal, "old", false),
            (Kind::Normal, "age", false),
            (Kind::Dev, "rustix", true),
        ];
        let expect: Vec<_> = expect.iter().map(|(kind, name, known)| (*kind, (*name).to_owned(), *known)).collect();
        assert_eq!(dependencies(&lines), expect);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(read("[dependencies]\nserde\n").is_err());
    }
}
