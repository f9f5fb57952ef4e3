//! TOML as a tree that knows where everything stands, and several files as one tree.
//!
//! What it is for: [`Node`], [`Place`], [`Problem`]; [`parse`] and [`merge`].
//! What it may not know: which keys there are.
//! Where data comes from and goes: the text of a file; a tree, and a problem for each place that is no TOML. No message
//! repeats a value: it may be a secret that stands where it must not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Something that is wrong with the configuration, or worth a warning: one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
    /// What the reader can do about it.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn new(place: &Place, what: impl Into<String>) -> Problem {
        Problem { place: place.clone(), what: what.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A value and where it stands. Not for printing: it may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// Keys and what they are set to.
pub(super) type Table = BTreeMap<String, Entry>;

/// What a key is set to, and where the key stands.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

#[derive(Clone)]
pub(super) enum Value {
    Table(Table),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// What no key of this version takes.
    Other(&'static str),
}

impl Value {
    /// What it is, in a word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Table(_) => "a table",
            Value::Array(_) => "a list",
            Value::Text(_) => "text",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Other(kind) => kind,
        }
    }
}

/// Turns offsets into places.
struct Lines<'t> {
    file: Arc<Path>,
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(file: &Arc<Path>, text: &'t str) -> Lines<'t> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { file: Arc::clone(file), text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        Place { file: Arc::clone(&self.file), line, column: before.chars().count() + 1 }
    }
}

/// The tree of a file.
///
/// # Errors
/// Everything in it that is no TOML.
pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Table, Vec<Problem>> {
    let lines = Lines::of(file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table_of(&lines, table.get_ref()));
    }
    let problem = |e: &toml::de::Error| {
        let place = lines.place(e.span().map_or(0, |span| span.start));
        Problem::new(&place, format!("this is no TOML: {}", e.message().replace('\n', ", ")))
    };
    Err(errors.iter().map(problem).collect())
}

fn table_of(lines: &Lines<'_>, table: &DeTable<'_>) -> Table {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
        let entry = Entry { key: lines.place(key.span().start), node: node_of(lines, value) };
        (String::from(std::borrow::Cow::clone(key.get_ref())), entry)
    };
    table.iter().map(entry).collect()
}

fn node_of(lines: &Lines<'_>, value: &toml::Spanned<DeValue<'_>>) -> Node {
    let place = lines.place(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map_or(Value::Other("a number that is too large"), Value::Integer)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a time"),
        DeValue::Array(values) => Value::Array(values.iter().map(|value| node_of(lines, value)).collect()),
        DeValue::Table(table) => Value::Table(table_of(lines, table)),
    };
    Node { place, value }
}

/// Puts the keys of another file into a tree. Tables become one; anything else is set once.
pub(super) fn merge(into: &mut Table, from: Table, problems: &mut Vec<Problem>) {
    for (name, entry) in from {
        match into.entry(name) {
            Slot::Vacant(slot) => drop(slot.insert(entry)),
            Slot::Occupied(mut slot) => {
                let (name, first) = (slot.key().clone(), slot.get().key.clone());
                match (&mut slot.get_mut().node.value, entry.node.value) {
                    (Value::Table(into), Value::Table(from)) => merge(into, from, problems),
                    _ => problems.push(
                        Problem::new(&entry.key, format!("{name:?} is set already at {first}"))
                            .help("set each key in one file only; tables may be spread over several"),
                    ),
                }
            }
        }
    }
}

/// Where the last of these nested keys that is there stands.
pub(super) fn find<'t>(tree: &'t Table, path: &[&str]) -> Option<&'t Place> {
    let (first, rest) = path.split_first()?;
    let entry = tree.get(*first)?;
    match &entry.node.value {
        Value::Table(below) => find(below, rest).or(Some(&entry.key)),
        _ => Some(&entry.key),
    }
}
