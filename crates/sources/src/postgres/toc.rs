//! The table of contents of a dump, as `pg_restore --list --verbose` prints it, and what of it a few tables consist of.
//!
//! What it is for: `pg_restore --table` brings back a table alone; this finds what it needs (types, sequences, functions, schemas)
//! and what belongs to it (rows, indexes, constraints, triggers, rights, partitions).
//! What it may not know: where the dump is. Where data comes from and goes: text into [`Contents`]; numbers of entries.

use super::script::identifier;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of entries whose names begin with the name of the table that they belong to.
const NAMED_AFTER_TABLE: [&str; 7] =
    ["CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "DEFAULT", "TRIGGER", "RULE", "POLICY"];
/// Kinds of entries that belong to what they depend on.
const BELONGING: [&str; 13] = [
    "INDEX",
    "ROW SECURITY",
    "COMMENT",
    "ACL",
    "SECURITY LABEL",
    "STATISTICS",
    "SEQUENCE",
    "SEQUENCE SET",
    "SEQUENCE OWNED BY",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
];
/// What holds rows, or looks as if it did.
const TABLES: [&str; 4] = ["TABLE", "MATERIALIZED VIEW", "VIEW", "FOREIGN TABLE"];
/// All other kinds that have several words.
const OTHERS: [&str; 27] = [
    "STATISTICS DATA",
    "DATABASE PROPERTIES",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "OPERATOR",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "PUBLICATION",
    "SHELL TYPE",
    "SUBSCRIPTION TABLE",
    "SUBSCRIPTION",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "USER MAPPING",
    "ACCESS METHOD",
    "BLOB COMMENTS",
    "BLOB METADATA",
    "BLOBS",
    "BLOB",
    "TYPE",
    "SCHEMA",
];

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: String,
    /// Schema, name and owner, with spaces between them.
    rest: String,
    needs: Vec<u32>,
}

impl Entry {
    /// Whether its name, after its schema, is or begins with `name`.
    fn is_of(&self, schema: Option<&str>, name: &str) -> bool {
        match schema {
            Some(schema) => self.rest.starts_with(&format!("{schema} {name} ")),
            // Where names have spaces, which part is which cannot be told: rather too many than one that was not meant.
            None => self.rest.contains(&format!(" {name} ")),
        }
    }

    fn is_table(&self) -> bool {
        TABLES.contains(&self.kind.as_str())
    }
}

/// A table of contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    entries: BTreeMap<u32, Entry>,
    /// In the order of the dump.
    order: Vec<u32>,
}

/// Why tables cannot be chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATable {
    /// There is none.
    #[error("the dump has no table {0}")]
    Absent(String),
    /// There are several.
    #[error("the dump has several tables {0}: name the schema, as schema.table")]
    Ambiguous(String),
    /// It is no name.
    #[error("{0:?} is no name of a table: write schema.table, and quotes as in SQL")]
    Nonsense(String),
}

/// What tables consist of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Entries, in the order of the dump.
    pub entries: Vec<u32>,
    /// Entries that have files with rows.
    pub rows: Vec<u32>,
    /// Foreign keys that lead to tables that are not among them, and are left out: table and name.
    pub left_out: Vec<String>,
    /// The tables themselves, with their partitions.
    pub tables: Vec<String>,
    /// Tables and views that these need, and that come without their rows.
    pub without_rows: Vec<String>,
}

impl Contents {
    /// Reads what `pg_restore --list --verbose` prints.
    pub fn parse(text: &str) -> Contents {
        let mut contents = Contents::default();
        for line in text.lines() {
            if let Some(needs) = line.strip_prefix(";\tdepends on:") {
                if let Some(entry) = contents.order.last().and_then(|id| contents.entries.get_mut(id)) {
                    entry.needs.extend(needs.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
                }
                continue;
            }
            let Some((id, entry)) = parse_entry(line) else { continue };
            contents.order.push(id);
            contents.entries.insert(id, entry);
        }
        contents
    }

    /// What these tables consist of, and their partitions.
    ///
    /// # Errors
    /// [`NotATable`].
    pub fn choose(&self, names: &[String]) -> Result<Chosen, NotATable> {
        let mut wanted = BTreeSet::new();
        for name in names {
            wanted.insert(self.table(name)?);
        }
        self.add_partitions(&mut wanted);
        let mut chosen = wanted.clone();
        loop {
            let before = chosen.len();
            let needed: Vec<u32> =
                chosen.iter().filter_map(|id| self.entries.get(id)).flat_map(|e| e.needs.clone()).collect();
            chosen.extend(needed.into_iter().filter(|id| self.entries.contains_key(id)));
            let belonging = self.entries.iter().filter(|(_, entry)| self.belongs(entry, &chosen, &wanted));
            let belonging: Vec<u32> = belonging.map(|(id, _)| *id).collect();
            chosen.extend(belonging);
            if chosen.len() == before {
                break;
            }
        }
        let foreign = |id: &u32, entry: &Entry| {
            entry.kind == "FK CONSTRAINT" && self.is_named_after(entry, &wanted) && !chosen.contains(id)
        };
        let left_out =
            self.entries.iter().filter(|(id, entry)| foreign(id, entry)).map(|(_, entry)| entry.rest.clone());
        let is_rows = |id: &&u32| matches!(self.kind(**id), "TABLE DATA" | "MATERIALIZED VIEW DATA");
        Ok(Chosen {
            left_out: left_out.collect(),
            rows: chosen.iter().filter(is_rows).copied().collect(),
            tables: wanted.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.rest.clone()).collect(),
            without_rows: chosen
                .difference(&wanted)
                .filter_map(|id| self.entries.get(id))
                .filter(|entry| entry.is_table())
                .map(|entry| entry.rest.clone())
                .collect(),
            entries: self.order.iter().copied().filter(|id| chosen.contains(id)).collect(),
        })
    }

    fn kind(&self, id: u32) -> &str {
        self.entries.get(&id).map_or("", |entry| &entry.kind)
    }

    fn table(&self, text: &str) -> Result<u32, NotATable> {
        let nonsense = || NotATable::Nonsense(text.to_owned());
        let (first, rest) = identifier(text).ok_or_else(nonsense)?;
        let (schema, name) = match rest.strip_prefix('.') {
            None if rest.is_empty() => (None, first),
            Some(rest) => match identifier(rest) {
                Some((name, "")) => (Some(first), name),
                _ => return Err(nonsense()),
            },
            None => return Err(nonsense()),
        };
        let found = self.entries.iter().filter(|(_, e)| e.is_table() && e.is_of(schema.as_deref(), &name));
        let found: Vec<u32> = found.map(|(id, _)| *id).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(NotATable::Absent(text.to_owned())),
            _ => Err(NotATable::Ambiguous(text.to_owned())),
        }
    }

    fn add_partitions(&self, wanted: &mut BTreeSet<u32>) {
        loop {
            let before = wanted.len();
            let attached = self.entries.values().filter(|entry| entry.kind == "TABLE ATTACH");
            for attach in attached {
                let of_wanted =
                    |id: &u32| self.entries.get(id).is_some_and(|child| child.needs.iter().any(|p| wanted.contains(p)));
                let children: Vec<u32> =
                    attach.needs.iter().copied().filter(|id| self.kind(*id) == "TABLE" && of_wanted(id)).collect();
                wanted.extend(children);
            }
            if wanted.len() == before {
                return;
            }
        }
    }

    /// Whether it is named after one of these tables.
    fn is_named_after(&self, entry: &Entry, tables: &BTreeSet<u32>) -> bool {
        let mut own = entry.needs.iter().filter(|id| tables.contains(id)).filter_map(|id| self.entries.get(id));
        own.any(|table| {
            // Schema, name and owner of the one; schema, name, its own name and owner of the other.
            let (theirs, ours) = (table.rest.as_str(), entry.rest.as_str());
            table.is_table() && theirs.rsplit_once(' ').is_some_and(|(named, _)| ours.starts_with(&format!("{named} ")))
        })
    }

    fn belongs(&self, entry: &Entry, chosen: &BTreeSet<u32>, wanted: &BTreeSet<u32>) -> bool {
        match entry.kind.as_str() {
            "TABLE DATA" | "MATERIALIZED VIEW DATA" | "STATISTICS DATA" => {
                entry.needs.iter().any(|id| wanted.contains(id))
            }
            "TABLE ATTACH" | "INDEX ATTACH" => {
                !entry.needs.is_empty() && entry.needs.iter().all(|id| chosen.contains(id))
            }
            "FK CONSTRAINT" => {
                let whole = |id: &u32| {
                    wanted.contains(id)
                        || self.entries.get(id).is_some_and(|there| {
                            !there.is_table()
                                && there.needs.iter().filter(|id| self.is_table(**id)).all(|id| wanted.contains(id))
                        })
                };
                self.is_named_after(entry, wanted) && entry.needs.iter().all(whole)
            }
            kind if NAMED_AFTER_TABLE.contains(&kind) => self.is_named_after(entry, chosen),
            kind => BELONGING.contains(&kind) && entry.needs.iter().any(|id| chosen.contains(id)),
        }
    }

    fn is_table(&self, id: u32) -> bool {
        self.entries.get(&id).is_some_and(Entry::is_table)
    }
}

/// `3345; 1259 16385 TABLE public orders postgres`.
fn parse_entry(line: &str) -> Option<(u32, Entry)> {
    let (id, rest) = line.split_once("; ")?;
    let id = id.parse().ok()?;
    let (_, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
    let kinds = NAMED_AFTER_TABLE.iter().chain(&BELONGING).chain(&TABLES).chain(&OTHERS);
    let begins = |kind: &&&str| rest.strip_prefix(**kind).is_some_and(|rest| rest.starts_with(' '));
    let kind = match kinds.filter(begins).max_by_key(|kind| kind.len()) {
        Some(kind) => kind,
        None => rest.split_once(' ')?.0,
    };
    Some((id, Entry { kind: kind.to_owned(), rest: rest[kind.len() + 1..].to_owned(), needs: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
;
; Archive created at 2026-11-20 21:00:00 UTC
;     dbname: shop
;
6; 2615 16384 SCHEMA - sales postgres
200; 1247 16390 TYPE public mood postgres
201; 1255 16391 FUNCTION public stamp() postgres
210; 1259 16400 TABLE sales orders clerk
;\tdepends on: 200 6
211; 1259 16410 TABLE public customers postgres
212; 1259 16420 SEQUENCE sales orders_id_seq clerk
;\tdepends on: 210
213; 1259 16430 TABLE public events postgres
214; 1259 16440 TABLE public events_2026 postgres
;\tdepends on: 213
215; 1259 16450 TABLE public events_other postgres
216; 1259 16455 TABLE public lends postgres
217; 1259 16456 SEQUENCE public lends_id_seq postgres
;\tdepends on: 216
218; 1259 16457 TABLE public borrows postgres
;\tdepends on: 217
3311; 0 0 SEQUENCE OWNED BY public lends_id_seq postgres
;\tdepends on: 217
300; 0 0 TABLE ATTACH public events_2026 postgres
;\tdepends on: 214 213
3000; 2604 16470 DEFAULT public customers id postgres
;\tdepends on: 211
3300; 0 16400 TABLE DATA sales orders clerk
;\tdepends on: 210
3301; 0 16410 TABLE DATA public customers postgres
;\tdepends on: 211
3302; 0 16440 TABLE DATA public events_2026 postgres
;\tdepends on: 214
3310; 0 0 SEQUENCE SET sales orders_id_seq clerk
;\tdepends on: 212
3400; 2606 16480 CONSTRAINT public customers customers_pkey postgres
;\tdepends on: 211
3401; 2606 16481 CONSTRAINT sales orders orders_pkey clerk
;\tdepends on: 210
3402; 1259 16482 INDEX sales orders_when clerk
;\tdepends on: 210
3500; 2620 16490 TRIGGER sales orders stamped clerk
;\tdepends on: 201 210
3501; 2620 16491 TRIGGER public customers stamped postgres
;\tdepends on: 201 211
3502; 2606 16492 FK CONSTRAINT sales orders orders_customer_fkey clerk
;\tdepends on: 210 211 3400
3600; 0 0 ACL sales TABLE orders clerk
;\tdepends on: 210
";

    fn choose(names: &[&str]) -> Result<Chosen, NotATable> {
        Contents::parse(LIST).choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_table_comes_with_what_it_needs_and_what_belongs_to_it_and_nothing_else() {
        let chosen = choose(&["sales.orders"]).expect("is there");
        assert_eq!(chosen.entries, [6, 200, 201, 210, 212, 3300, 3310, 3401, 3402, 3500, 3600]);
        assert_eq!(chosen.rows, [3300]);
        assert_eq!(chosen.left_out, ["sales orders orders_customer_fkey clerk"]);
    }

    #[test]
    fn a_foreign_key_comes_when_both_tables_do() {
        let chosen = choose(&["orders", "public.customers"]).expect("are there");
        assert!(chosen.entries.contains(&3502) && chosen.left_out.is_empty());
        assert_eq!(chosen.rows, [3300, 3301]);
    }

    #[test]
    fn partitions_come_with_their_table() {
        let chosen = choose(&["public.events"]).expect("is there");
        assert_eq!(chosen.entries, [213, 214, 300, 3302]);
    }

    #[test]
    fn a_table_that_is_needed_comes_without_its_rows_and_is_named() {
        let chosen = choose(&["borrows"]).expect("is there");
        assert_eq!(chosen.entries, [216, 217, 218, 3311]);
        assert_eq!((chosen.without_rows, chosen.rows), (vec!["public lends postgres".to_owned()], vec![]));
    }

    #[test]
    fn a_table_that_is_not_there_is_no_table() {
        assert_eq!(choose(&["public.order"]), Err(NotATable::Absent("public.order".into())));
        assert_eq!(choose(&["public.orders"]), Err(NotATable::Absent("public.orders".into())));
        assert_eq!(choose(&["a b"]), Err(NotATable::Nonsense("a b".into())));
    }
}
