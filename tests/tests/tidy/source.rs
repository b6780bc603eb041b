//! Just enough of Rust's grammar to tell code from text and production code from tests.

use std::{collections::BTreeSet, ops::Range, sync::OnceLock};

use crate::tree;

/// One Rust file.
pub(crate) struct Source {
    pub(crate) path: &'static str,
    /// The text with comments, strings and characters blanked: same length, same lines.
    pub(crate) code: String,
    /// The same, with test items blanked too; nothing is left of a file that is only for tests.
    pub(crate) production: String,
    /// Lines that are not for tests, comments and blank lines included.
    pub(crate) production_lines: usize,
}

/// All Rust files.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let rust = || tree::files().iter().filter(|file| file.path.ends_with(".rs"));
        let parts: Vec<_> = rust().map(|file| (file.path.as_str(), blank(&file.text))).collect();
        let only_tests: BTreeSet<String> =
            parts.iter().flat_map(|(path, code)| test_modules(path, code)).collect();
        let source = |(path, code): (&'static str, String)| {
            if in_tests(path) || only_tests.iter().any(|module| is_in(path, module)) {
                return Source { path, code, production: String::new(), production_lines: 0 };
            }
            let mut production = code.clone();
            let mut test_lines = 0;
            for item in test_items(&code) {
                test_lines += 1 + code[item.clone()].matches('\n').count();
                erase(&mut production, item);
            }
            let production_lines = code.lines().count().saturating_sub(test_lines);
            Source { path, code, production, production_lines }
        };
        parts.into_iter().map(source).collect()
    })
}

/// Whether the path alone says that a file is for tests or measurements.
fn in_tests(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches")) || path.ends_with("/tests.rs")
}

/// Whether a file is the module, or a part of it, named by a path without `.rs`.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The modules that a file includes for tests only, as paths without `.rs`.
fn test_modules(path: &str, code: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let folder = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ => format!("{folder}/{stem}"),
    };
    let name = |item: Range<usize>| {
        let words: Vec<&str> = code[item].split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mod")?;
        Some(format!("{folder}/{}", words.get(at + 1)?.strip_suffix(';')?))
    };
    test_items(code).into_iter().filter_map(name).collect()
}

/// The items under `#[cfg(test)]`, attribute included.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code, start + MARK.len());
        items.push(start..end);
        from = end;
    }
    items
}

/// Where the item that starts at `from` ends: behind its `;`, or behind its closing brace.
pub(crate) fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    let mut braces = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && braces == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn erase(text: &mut String, range: Range<usize>) {
    let blank: String = text[range.clone()].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blank);
}

/// Blanks comments, strings and characters, byte for byte. Text that is not ASCII becomes blank too.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = bytes.iter().map(|b| if b.is_ascii() { *b } else { b' ' }).collect();
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        if let Some(end) = end {
            out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end.unwrap_or(at + 1);
    }
    String::from_utf8(out).expect("all that is left is ASCII")
}

/// Where the comment, string or character that starts at `at` ends; `None`: there is none.
fn token_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let behind_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => Some(at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(at + comment(rest)),
        [b'"', ..] => Some(at + 1 + quoted(&rest[1..], b'"')),
        [b'r', b'"' | b'#', ..] if !behind_word => raw(&rest[1..]).map(|len| at + 1 + len),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !behind_word => raw(&rest[2..]).map(|len| at + 2 + len),
        [b'\'', b'\\', ..] => Some(at + 1 + quoted(&rest[1..], b'\'')),
        // A character has its closing quote behind one character, a lifetime has not.
        [b'\'', first, ..] => {
            let len = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + len) == Some(&b'\'')).then_some(at + len + 2)
        }
        _ => None,
    }
}

/// The length of a block comment, which may hold others.
fn comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length up to and with the closing quote.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a raw string behind its `r`; `None` for a raw identifier.
fn raw(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes.iter().take_while(|b| **b == b'#').count();
    (bytes.get(hashes) == Some(&b'"')).then(|| {
        let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
        let body = &bytes[hashes + 1..];
        let end = body.windows(close.len()).position(|window| window == close);
        hashes + 1 + end.map_or(body.len(), |end| end + close.len())
    })
}

/// Where `word` stands alone.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let alone = move |at: usize| {
        let after = bytes.get(at + word.len());
        (at == 0 || !is_word(bytes[at - 1])) && !after.is_some_and(|byte| is_word(*byte))
    };
    code.match_indices(word).map(|(at, _)| at).filter(move |at| alone(*at))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn text_is_blanked_and_code_is_not() {
        let cases = [
            ("a // x {\nb", "a b"),
            ("a /* x /* { */ } */ b", "a b"),
            ("f(\"{ \\\" }\", 1)", "f( , 1)"),
            ("f(r#\"{ \" \\\"#) }", "f( ) }"),
            ("f(br\"{\\\", b'{', '\\'', '\\u{e9}')", "f( , b , , )"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("['{', 'é', 'a']", "[ , , ]"),
            ("r#type = for\"x\"", "r#type = for"),
        ];
        for (text, expected) in cases {
            let code = blank(text);
            assert_eq!(code.len(), text.len(), "{text}");
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn test_items_end_where_they_end() {
        let code = "a;\n#[cfg(test)]\nmod tests;\nb();\n#[cfg(test)]\nmod t {\n fn f() {}\n}\nc";
        let items: Vec<&str> = test_items(code).into_iter().map(|item| &code[item]).collect();
        assert_eq!(items, ["#[cfg(test)]\nmod tests;", "#[cfg(test)]\nmod t {\n fn f() {}\n}"]);
        assert_eq!(test_modules("a/src/lib.rs", code), ["a/src/tests"]);
        assert_eq!(test_modules("a/src/b.rs", code), ["a/src/b/tests"]);
        assert!(is_in("a/src/b/tests.rs", "a/src/b/tests") && is_in("a/src/b/tests/x.rs", "a/src/b/tests"));
        assert!(!is_in("a/src/b/testsuite.rs", "a/src/b/tests"));
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("fn fnord _fn (fn)", "fn").collect::<Vec<_>>(), [0, 14]);
    }
}
