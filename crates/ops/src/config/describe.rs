//! The configuration as a JSON Schema and as a document.
//!
//! What it is for: [`json_schema`], for editors; [`markdown`], for people. Both are made from what `schema.rs` declares.
//! What it may not know: which keys there are.
//! Where data comes from and goes: [`Shape`]s; text.

use super::keys::{Key, Shape, TableField, TableShape};
use super::reference::FORMS;
use super::schema::Settings;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;

/// What a key does that this version knows by name only.
const UNUSED: &str = "Not used by this version.";

/// The schema of one file.
pub(super) fn json_schema() -> Json {
    let mut schema = Map::new();
    schema.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    schema.insert("title".into(), "backstay.toml".into());
    schema.extend(schema_of_table(&Settings::table(), None));
    Json::Object(schema)
}

fn schema_of(shape: &Shape) -> Json {
    match shape {
        Shape::Text(_) => json!({ "type": "string" }),
        Shape::Reference => json!({ "type": "string", "pattern": "^(env|file|cmd|cred):." }),
        Shape::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Choice(words) => json!({ "enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>() }),
        Shape::List(of) => json!({ "type": "array", "items": schema_of(of) }),
        Shape::Named(_, of) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
            "additionalProperties": schema_of(of),
        }),
        Shape::Table(table) => Json::Object(schema_of_table(table, None)),
        Shape::Kinds(kinds, later) => {
            let mut any: Vec<Json> =
                kinds.iter().map(|(kind, table)| Json::Object(schema_of_table(table, Some(kind)))).collect();
            any.push(json!({
                "description": UNUSED,
                "type": "object",
                "properties": { "kind": { "enum": later } },
                "required": ["kind"],
            }));
            json!({ "oneOf": any })
        }
    }
}

fn schema_of_table(table: &TableShape, kind: Option<&str>) -> Map<String, Json> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.insert("kind".into(), json!({ "const": kind }));
        required.push("kind");
    }
    for key in &table.keys {
        let mut schema = schema_of(&key.shape);
        schema["description"] = key.about.as_str().into();
        if let Some(default) = &key.default {
            schema["default"] = default.clone();
        }
        properties.insert(key.name.into(), schema);
        required.extend(key.is_required.then_some(key.name));
    }
    properties.extend(table.later.iter().map(|name| ((*name).to_owned(), json!({ "description": UNUSED }))));
    let mut schema = Map::new();
    schema.insert("description".into(), table.about.as_str().into());
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    schema.insert("additionalProperties".into(), false.into());
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

/// Every key, table by table.
pub(super) fn markdown() -> String {
    let mut page = String::from(
        "# Configuration keys\n\nHow to write a configuration: [configuration.md](../configuration.md).\n",
    );
    tables(&mut page, "", None, &Settings::table());
    page
}

/// A table, and then the tables below it. `path` is what stands between brackets.
fn tables(page: &mut String, path: &str, kind: Option<&str>, table: &TableShape) {
    let kind_told = kind.map(|kind| format!(" `kind = \"{kind}\"`")).unwrap_or_default();
    let title = if path.is_empty() { "At the top".to_owned() } else { format!("`[{path}]`{kind_told}") };
    // Formatting into a string cannot fail.
    write!(page, "\n## {title}\n\n{}\n\n| key | takes | default | |\n|---|---|---|---|\n", table.about).expect("fits");
    for key in &table.keys {
        let default = match (&key.default, key.is_required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => String::new(),
        };
        let (takes, about) = (cell(&taken(&key.shape)), cell(&about(key)));
        writeln!(page, "| `{}` | {takes} | {default} | {about} |", key.name).expect("fits");
    }
    if !table.later.is_empty() {
        let later: Vec<String> = table.later.iter().map(|name| format!("`{name}`")).collect();
        write!(page, "\nKnown, and not used by this version: {}.\n", later.join(", ")).expect("fits");
    }
    for key in &table.keys {
        let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        below(page, &path, &key.shape);
    }
}

fn below(page: &mut String, path: &str, shape: &Shape) {
    match shape {
        Shape::Table(table) => tables(page, path, None, table),
        Shape::Named(_, of) => below(page, &format!("{path}.NAME"), of),
        Shape::List(of) => below(page, path, of),
        Shape::Kinds(kinds, later) => {
            kinds.iter().for_each(|(kind, table)| tables(page, path, Some(kind), table));
            let later: Vec<String> = later.iter().map(|kind| format!("`{kind}`")).collect();
            let later = later.join(", ");
            write!(page, "\nKinds that are known, and that this version cannot back up: {later}.\n").expect("fits");
        }
        _ => {}
    }
}

fn taken(shape: &Shape) -> String {
    match shape {
        Shape::Text(what) => (*what).to_owned(),
        Shape::Reference => format!("reference: {FORMS}"),
        Shape::Integer(min, max) if min == max => format!("{min}"),
        Shape::Integer(min, max) => format!("number from {min} to {max}"),
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Choice(words) => {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        Shape::List(of) => format!("list: {}", taken(of)),
        Shape::Named(what, _) => format!("tables, one for each {what}"),
        Shape::Table(_) | Shape::Kinds(..) => "table".to_owned(),
    }
}

/// What a key is for, and what each word means where there is a choice.
fn about(key: &Key) -> String {
    match &key.shape {
        Shape::Choice(words) => {
            let told: Vec<String> = words.iter().map(|(word, means)| format!("`{word}`: {means}")).collect();
            format!("{} {}", key.about, told.join(" "))
        }
        _ => key.about.clone(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undocumented(path: &str, shape: &Shape, found: &mut Vec<String>) {
        let mut table = |path: &str, table: &TableShape| {
            for key in &table.keys {
                let path = format!("{path}.{}", key.name);
                if !key.about.ends_with('.') {
                    found.push(path.clone());
                }
                undocumented(&path, &key.shape, found);
            }
        };
        match shape {
            Shape::Table(of) => table(path, of),
            Shape::Kinds(kinds, _) => kinds.iter().for_each(|(kind, of)| table(&format!("{path}({kind})"), of)),
            Shape::Named(_, of) | Shape::List(of) => undocumented(path, of, found),
            _ => {}
        }
    }

    #[test]
    fn every_key_says_what_it_is_for_in_a_sentence() {
        let mut found = Vec::new();
        undocumented("", &Shape::Table(Settings::table()), &mut found);
        assert_eq!(found, [""; 0]);
        let page = markdown();
        for key in ["`url`", "`optional_paths`", "`sslmode`", "`schema_only`"] {
            assert!(page.contains(&format!("| {key} | ")), "{key}");
        }
    }
}
