//! SQL text as PostgreSQL's programs write it: made the same for the same content, and taken apart into statements.
//!
//! It may not know what the statements are for.

/// How a program tells `psql` that what follows is SQL and no commands to `psql` itself, with a word that ends that.
const RESTRICT: &str = "\\restrict ";
const UNRESTRICT: &str = "\\unrestrict ";

/// The same script with a word in `\restrict` that depends on the rest of it, and is the same whenever that is: the
/// programs draw it anew each time. Nobody can write the word into the rest, for it would be another one then.
pub fn settled(script: &str) -> String {
    let is_guard = |line: &str| line.starts_with(RESTRICT) || line.starts_with(UNRESTRICT);
    let first = script.lines().position(|line| line.starts_with(RESTRICT));
    let last = script.lines().enumerate().filter(|(_, line)| line.starts_with(UNRESTRICT)).last().map(|(at, _)| at);
    let (Some(first), Some(last)) = (first, last) else { return script.to_owned() };
    let word = |line: &str| line.split_once(' ').map(|(_, word)| word.to_owned());
    let (mut hash, mut drawn) = (blake3::Hasher::new(), None);
    for (at, line) in script.split_inclusive('\n').enumerate() {
        if at == first {
            drawn = word(line.trim_end());
        } else if at != last {
            hash.update(line.as_bytes());
        }
    }
    let own = hash.finalize().to_hex();
    let mut settled = String::with_capacity(script.len() + own.len());
    for (at, line) in script.split_inclusive('\n').enumerate() {
        let is_ours = (at == first || at == last) && is_guard(line) && word(line.trim_end()) == drawn;
        match line.split_once(' ').filter(|_| is_ours) {
            Some((what, _)) => settled.push_str(&format!("{what} {own}\n")),
            None => settled.push_str(line),
        }
    }
    settled
}

/// The statements of a script, without comments and commands to `psql`. Quotes are kept together; a script of a program has
/// no quotes with dollars among roles and their memberships.
pub fn statements(script: &str) -> Vec<String> {
    let (mut statements, mut statement) = (Vec::new(), String::new());
    let mut quote: Option<char> = None;
    for line in script.split_inclusive('\n') {
        if quote.is_none() && statement.trim().is_empty() && (line.starts_with("--") || line.starts_with('\\')) {
            continue;
        }
        for c in line.chars() {
            match quote {
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if c == '\'' || c == '"' => quote = Some(c),
                None if c == ';' => {
                    statements.push(statement.trim().to_owned());
                    statement.clear();
                    continue;
                }
                None => {}
            }
            statement.push(c);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

/// The identifier that a text begins with, as the server knows it, and what follows.
pub fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut name, mut rest) = (String::new(), quoted);
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// A name as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_the_same_whatever_word_was_drawn_and_another_with_other_content() {
        let script = |word: &str, body: &str| format!("--\n\\restrict {word}\n\n{body}\n\\unrestrict {word}\n\n");
        let one = settled(&script("aaa", "create table a();"));
        assert_eq!(one, settled(&script("bbb", "create table a();")));
        assert_ne!(one, settled(&script("aaa", "create table b();")));
        assert_eq!(one, settled(&one));
        assert!(!one.contains("aaa") && one.contains("create table a();"));
        // What looks like it inside is left alone: the last one counts.
        let inside = settled(&script("aaa", "comment 'x\n\\unrestrict guess\n';"));
        assert!(inside.contains("\n\\unrestrict guess\n"), "{inside}");
        assert_eq!(settled("select 1;\n"), "select 1;\n");
    }

    #[test]
    fn statements_end_where_they_end_and_not_in_names() {
        let script = "--\n-- roles\n--\n\\restrict abc\n\nCREATE ROLE \"a;b\";\nALTER ROLE \"a;b\" WITH PASSWORD 'x;''y';\n\
                      COMMENT ON ROLE c IS 'two\n-- lines';\n\\unrestrict abc\n";
        assert_eq!(
            statements(script),
            ["CREATE ROLE \"a;b\"", "ALTER ROLE \"a;b\" WITH PASSWORD 'x;''y'", "COMMENT ON ROLE c IS 'two\n-- lines'"]
        );
    }

    #[test]
    fn identifiers_are_read_as_the_server_knows_them() {
        for (text, expect) in [
            ("plain WITH LOGIN", Some(("plain".to_owned(), " WITH LOGIN"))),
            ("\"odd \"\"name\"\"\";", Some(("odd \"name\"".to_owned(), ";"))),
            ("\"open", None),
            (" x", None),
        ] {
            assert_eq!(identifier(text), expect, "{text}");
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
