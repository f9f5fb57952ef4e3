//! How keys are read: each table is declared once, and from that come its type, what reads it, and its description.
//!
//! What it is for: [`keys!`], [`choices!`], [`names!`], [`Field`], [`Reader`], [`Shape`].
//! What it may not know: which keys there are: `schema.rs` says so.
//! Where data comes from and goes: nodes of a tree become typed values; what does not fit becomes a problem, and the
//! reading goes on, so that all problems are told at once.

use super::reference::{FORMS, Reference};
use super::tree::{Node, Place, Problem, Table, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What may stand where a value stands, for descriptions.
pub(super) enum Shape {
    /// Text; what it says, in a few words.
    Text(&'static str),
    /// Where a secret is.
    Reference,
    /// A number from one to the other.
    Integer(i64, i64),
    /// True or false.
    Boolean,
    /// One of these words, each with what it means.
    Choice(Vec<(&'static str, String)>),
    /// A list.
    List(Box<Shape>),
    /// A table whose keys are names that people choose.
    Named(&'static str, Box<Shape>),
    /// A table whose keys are known.
    Table(TableShape),
    /// A table whose `kind` says which keys it has; and the kinds that this version does nothing with.
    Kinds(Vec<(&'static str, TableShape)>, &'static [&'static str]),
}

/// A table whose keys are known.
pub(super) struct TableShape {
    /// What it is about.
    pub(super) about: String,
    /// Its keys.
    pub(super) keys: Vec<Key>,
    /// Keys that it may have and that this version does nothing with.
    pub(super) later: &'static [&'static str],
}

/// A key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) about: String,
    pub(super) shape: Shape,
    /// What holds where it is not set, where that is not nothing.
    pub(super) default: Option<Json>,
    pub(super) is_required: bool,
}

/// What a key can be set to.
pub(super) trait Field: Sized {
    /// What may stand there.
    fn shape() -> Shape;

    /// The value at a node. `at` is the key's full name. `None` when it does not fit: the reader knows why then.
    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self>;

    /// What holds where the key is not set; `None` where it must be.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as `config show` prints it; null for nothing. Of secrets, the reference.
    fn shown(&self) -> Json;
}

/// A table whose keys are known, as a type.
pub(super) trait TableField: Field {
    /// Its keys.
    fn table() -> TableShape;
}

/// What a configuration may have and this version does nothing with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Later {
    /// A key.
    Key,
    /// A kind of source.
    Kind,
}

/// Uses of something that this version does nothing with.
pub(super) struct Unused {
    pub(super) count: usize,
    pub(super) first: Place,
}

/// Gathers what is wrong while a tree is read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// What has no effect yet, by its name.
    pub(super) unused: BTreeMap<(Later, String), Unused>,
}

impl Reader {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Notes that something has no effect yet.
    pub(super) fn unused(&mut self, what: Later, name: &str, place: &Place) {
        let unused = Unused { count: 0, first: place.clone() };
        let unused = self.unused.entry((what, name.to_owned())).or_insert(unused);
        unused.count += 1;
        unused.first = unused.first.clone().min(place.clone());
    }

    /// Says that a value is of another type than it has to be; never what it is.
    pub(super) fn mismatch(&mut self, node: &Node, at: &str, expected: &str) {
        self.problem(Problem::new(&node.place, format!("{at} must be {expected}, and is {}", node.value.kind())));
    }

    pub(super) fn table<'n>(&mut self, node: &'n Node, at: &str) -> Option<&'n Table> {
        match &node.value {
            Value::Table(table) => Some(table),
            _ => {
                self.mismatch(node, at, "a table");
                None
            }
        }
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, at: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.mismatch(node, at, "text");
                None
            }
        }
    }

    /// The text of a node as what `parse` makes of it, which says what is wrong otherwise.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        at: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(self.text(node, at)?);
        parsed.map_err(|why| self.problem(Problem::new(&node.place, format!("{at}: {why}")))).ok()
    }

    /// Complains about keys that are not known, and notes those that have no effect yet.
    pub(super) fn know(&mut self, table: &Table, at: &str, known: &[&str], later: &[&str]) {
        for (name, entry) in table {
            if later.contains(&name.as_str()) {
                self.unused(Later::Key, name, &entry.key);
            } else if !known.contains(&name.as_str()) {
                let of = if at.is_empty() { "the configuration".into() } else { at.to_owned() };
                let problem = Problem::new(&entry.key, format!("{of} has no key {name:?}"));
                let all = || known.iter().chain(later).copied();
                self.problem(match nearest(name, all()) {
                    Some(near) => problem.help(format!("did you mean {near:?}?")),
                    None => problem.help(format!("it has {}", known.join(", "))),
                });
            }
        }
    }

    /// What a key is set to, or what holds when it is not.
    pub(super) fn key<T: Field>(
        &mut self,
        (table, place): (&Table, &Place),
        at: &str,
        name: &str,
        absent: Option<T>,
    ) -> Option<T> {
        let at = joined(at, name);
        match table.get(name) {
            Some(entry) => T::read(&entry.node, &at, self),
            None => {
                if absent.is_none() {
                    self.problem(Problem::new(place, format!("{at} is missing")));
                }
                absent
            }
        }
    }
}

/// The full name of a key.
pub(super) fn joined(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// The word that somebody may have meant.
pub(super) fn nearest<'w>(word: &str, among: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let distances = among.map(|other| (distance(&word.to_lowercase(), &other.to_lowercase()), other));
    let near = |(distance, other): &(usize, &str)| *distance <= 1 + other.chars().count().min(9) / 4;
    distances.filter(near).min().map(|(_, other)| other)
}

/// How many letters have to be changed, put in, left out or swapped with their neighbour to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A comment of the source as one line.
pub(super) fn told(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Declares tables: a type with a field for each key, and its [`Field`]. The comments are what people read about the
/// keys. A default follows `=`; keys of `later` are known and have no effect.
macro_rules! keys {
    ($(
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])* $key:ident: $type:ty $(= $default:expr)?,)*
        }
        later [$($later:literal),* $(,)?]
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])* pub $key: $type,)*
        }

        impl TableField for $name {
            fn table() -> TableShape {
                TableShape {
                    about: told(concat!($($about, "\n"),*)),
                    keys: vec![$({
                        let absent: Option<$type> = keys!(@absent $type $(, $default)?);
                        Key {
                            name: stringify!($key),
                            about: told(concat!($($doc, "\n"),*)),
                            shape: <$type as Field>::shape(),
                            is_required: absent.is_none(),
                            default: absent.map(|value| value.shown()).filter(is_something),
                        }
                    }),*],
                    later: &[$($later),*],
                }
            }
        }

        impl Field for $name {
            fn shape() -> Shape {
                Shape::Table(Self::table())
            }

            fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
                let table = reader.table(node, at)?;
                reader.know(table, at, &[$(stringify!($key)),*], &[$($later),*]);
                $(let $key = reader.key::<$type>(
                    (table, &node.place), at, stringify!($key), keys!(@absent $type $(, $default)?),
                );)*
                Some($name { $($key: $key?),* })
            }

            fn shown(&self) -> Json {
                let fields = [$((stringify!($key), self.$key.shown())),*];
                let fields = fields.into_iter().filter(|(_, value)| is_something(value));
                Json::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
            }
        }
    )*};
    (@absent $type:ty) => { <$type as Field>::absent() };
    (@absent $type:ty, $default:expr) => { Some($default) };
}

/// Declares what can be chosen from: words, each with what it means.
macro_rules! choices {
    ($(
        $(#[doc = $about:literal])*
        pub enum $name:ident {
            $($(#[doc = $doc:literal])* $case:ident = $word:literal,)*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])* $case,)*
        }

        impl $name {
            /// The word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$case => $word,)*
                }
            }
        }

        impl Field for $name {
            fn shape() -> Shape {
                Shape::Choice(vec![$(($word, told(concat!($($doc, "\n"),*)))),*])
            }

            fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
                reader.parsed(node, at, |text| match text {
                    $($word => Ok($name::$case),)*
                    _ => Err(format!("{text:?} is none of {}", [$($word),*].join(", "))),
                })
            }

            fn shown(&self) -> Json {
                self.word().into()
            }
        }
    )*};
}

/// Declares names that people choose for things.
macro_rules! names {
    ($($(#[doc = $about:literal])* pub struct $name:ident: $what:literal;)*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name that a text is: letters, digits, `.`, `_` and `-`, the first one a letter or digit, at most 64.
            pub fn parse(text: &str) -> Option<$name> {
                let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                let is_name = (1..=64).contains(&text.len())
                    && text.chars().all(good)
                    && text.starts_with(|c: char| c.is_ascii_alphanumeric());
                is_name.then(|| $name(text.to_owned()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Name for $name {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Option<$name> {
                $name::parse(text)
            }
        }

        impl Field for $name {
            fn shape() -> Shape {
                Shape::Text(concat!("name of a ", $what))
            }

            fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
                reader.parsed(node, at, |text| $name::parse(text).ok_or_else(|| not_a_name(text, $what)))
            }

            fn shown(&self) -> Json {
                self.0.as_str().into()
            }
        }
    )*};
}

pub(super) use {choices, keys, names};

/// Whether a value says anything: no null, no empty list, no empty table.
pub(super) fn is_something(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Array(list) => !list.is_empty(),
        Json::Object(table) => !table.is_empty(),
        _ => true,
    }
}

/// A name as a key of a table.
pub(super) trait Name: Ord + std::fmt::Display + Sized {
    /// What has it.
    const WHAT: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

pub(super) fn not_a_name(text: &str, what: &str) -> String {
    format!("{text:?} is no name for a {what}: use letters, digits, '.', '_' and '-', at most 64")
}

impl<K: Name, T: Field> Field for BTreeMap<K, T> {
    fn shape() -> Shape {
        Shape::Named(K::WHAT, Box::new(T::shape()))
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let mut map = BTreeMap::new();
        let mut all_good = true;
        for (text, entry) in reader.table(node, at)? {
            let name = K::parse(text);
            if name.is_none() {
                reader.problem(Problem::new(&entry.key, not_a_name(text, K::WHAT)));
            }
            // A table without a place of its own stands where its name does.
            let node = Node { place: entry.key.clone(), ..entry.node.clone() };
            match (name, T::read(&node, &joined(at, text), reader)) {
                (Some(name), Some(value)) => drop(map.insert(name, value)),
                _ => all_good = false,
            }
        }
        all_good.then_some(map)
    }

    fn absent() -> Option<Self> {
        Some(BTreeMap::new())
    }

    fn shown(&self) -> Json {
        Json::Object(self.iter().map(|(name, value)| (name.to_string(), value.shown())).collect())
    }
}

impl<T: Field> Field for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        T::read(node, at, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn shown(&self) -> Json {
        self.as_ref().map_or(Json::Null, Field::shown)
    }
}

impl<T: Field> Field for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let Value::Array(nodes) = &node.value else {
            reader.mismatch(node, at, "a list");
            return None;
        };
        // All of them, for their problems.
        let read: Vec<Option<T>> = nodes.iter().map(|node| T::read(node, at, reader)).collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }

    fn shown(&self) -> Json {
        Json::Array(self.iter().map(Field::shown).collect())
    }
}

impl Field for String {
    fn shape() -> Shape {
        Shape::Text("text")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, |text| match text.trim() {
            "" => Err("is empty".into()),
            _ if text.contains('\0') => Err("holds a NUL character".into()),
            _ => Ok(text.to_owned()),
        })
    }

    fn shown(&self) -> Json {
        self.as_str().into()
    }
}

impl Field for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        match node.value {
            Value::Boolean(value) => Some(value),
            _ => {
                reader.mismatch(node, at, "true or false");
                None
            }
        }
    }

    fn shown(&self) -> Json {
        (*self).into()
    }
}

macro_rules! numbers {
    ($($type:ty: $min:expr, $max:expr;)*) => {$(
        impl Field for $type {
            fn shape() -> Shape {
                Shape::Integer($min, $max)
            }

            fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
                let (min, max): (i64, i64) = ($min, $max);
                let number = match node.value {
                    Value::Integer(number) if (min..=max).contains(&number) => <$type>::try_from(number).ok(),
                    _ => None,
                };
                if number.is_none() {
                    let what = format!("{at} must be a number from {min} to {max}");
                    reader.problem(Problem::new(&node.place, what));
                }
                number
            }

            fn shown(&self) -> Json {
                (*self).into()
            }
        }
    )*};
}

numbers! {
    u16: 1, 65_535;
    u32: 1, 1_000_000;
}

impl Field for PathBuf {
    fn shape() -> Shape {
        Shape::Text("path, relative to the file that names it")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let path = String::read(node, at, reader)?;
        Some(directory(node).join(path))
    }

    fn shown(&self) -> Json {
        self.display().to_string().into()
    }
}

impl Field for Reference {
    fn shape() -> Shape {
        Shape::Reference
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let reference = Reference::parse(reader.text(node, at)?, directory(node));
        let problem = |why| Problem::new(&node.place, format!("{at}: {why}")).help(format!("write {FORMS}"));
        reference.map_err(|why| reader.problem(problem(why))).ok()
    }

    fn shown(&self) -> Json {
        self.to_string().into()
    }
}

/// The directory of the file that a node stands in.
pub(super) fn directory(node: &Node) -> &Path {
    node.place.file.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_recognised_with_a_letter_wrong_and_a_stranger_is_not() {
        let known = ["repository", "platform", "url", "key", "paths"];
        for (word, expect) in [
            ("repositry", Some("repository")),
            ("Platform", Some("platform")),
            ("pathes", Some("paths")),
            ("ulr", Some("url")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expect, "{word}");
        }
    }
}
