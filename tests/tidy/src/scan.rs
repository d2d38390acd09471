//! A scanner that tells Rust code from comments and literals, line by line.

/// What the scanner is in the middle of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    /// A raw string that ends in a quote and this many hashes.
    RawText(usize),
}

/// The lines of `text` with everything that is not code replaced by spaces.
pub fn code_lines(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut inside = Inside::Code;
    let mut lines = vec![String::new()];
    let mut at = 0;
    while let Some(&char) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        if char == '\n' {
            if inside == Inside::LineComment {
                inside = Inside::Code;
            }
            lines.push(String::new());
            at += 1;
            continue;
        }
        let word_before = at > 0 && chars.get(at - 1).is_some_and(|&before| is_word(before));
        let (next, taken) = step(inside, rest, word_before);
        let keep = inside == Inside::Code && next == Inside::Code && taken == 1;
        for skipped in rest.iter().take(taken) {
            match lines.last_mut() {
                Some(_) if *skipped == '\n' => lines.push(String::new()),
                Some(line) => line.push(if keep { *skipped } else { ' ' }),
                None => {}
            }
        }
        inside = next;
        at += taken;
    }
    lines
}

/// What follows, and how many characters belong together.
fn step(inside: Inside, rest: &[char], word_before: bool) -> (Inside, usize) {
    let two = (rest.first().copied(), rest.get(1).copied());
    match inside {
        Inside::LineComment => (inside, 1),
        Inside::BlockComment(depth) => match two {
            (Some('/'), Some('*')) => (Inside::BlockComment(depth + 1), 2),
            (Some('*'), Some('/')) if depth == 1 => (Inside::Code, 2),
            (Some('*'), Some('/')) => (Inside::BlockComment(depth - 1), 2),
            _ => (inside, 1),
        },
        Inside::Text => match two {
            (Some('\\'), Some(_)) => (inside, 2),
            (Some('"'), _) => (Inside::Code, 1),
            _ => (inside, 1),
        },
        Inside::RawText(hashes) => {
            if rest.first() == Some(&'"') && count_hashes(rest.get(1..)) >= hashes {
                (Inside::Code, 1 + hashes)
            } else {
                (inside, 1)
            }
        }
        Inside::Code => match two {
            (Some('/'), Some('/')) => (Inside::LineComment, 2),
            (Some('/'), Some('*')) => (Inside::BlockComment(1), 2),
            (Some('"'), _) => (Inside::Text, 1),
            (Some('\''), _) => (Inside::Code, literal_len(rest)),
            (Some('r'), Some('"' | '#')) if !word_before => {
                let hashes = count_hashes(rest.get(1..));
                if rest.get(1 + hashes) == Some(&'"') {
                    (Inside::RawText(hashes), 2 + hashes)
                } else {
                    (Inside::Code, 1)
                }
            }
            _ => (Inside::Code, 1),
        },
    }
}

fn count_hashes(rest: Option<&[char]>) -> usize {
    rest.unwrap_or_default()
        .iter()
        .take_while(|&&char| char == '#')
        .count()
}

/// The length of a character literal, or one if the quote opens a lifetime.
fn literal_len(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        // The escaped character itself may be a quote.
        let close = rest.iter().skip(3).position(|&char| char == '\'');
        return close.map_or(1, |found| found + 4);
    }
    if rest.get(2) == Some(&'\'') {
        3
    } else {
        1
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Whether `line` contains `word` with no letter, digit or underscore on either side.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// A function and how long it is.
#[derive(Debug, Eq, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// First line, counted from one.
    pub line: usize,
    /// Lines of the body that hold code, its braces not among them (as clippy counts).
    pub len_lines: usize,
}

/// The functions with a body in these lines of code, in order of their ends.
pub fn functions(code: &[String]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Vec<(Function, u32)> = Vec::new();
    let mut announced: Option<Function> = None;
    let (mut braces, mut brackets) = (0_u32, 0_u32);
    for (index, line) in code.iter().enumerate() {
        if let Some(name) = function_name(line) {
            announced = Some(Function {
                name,
                line: index + 1,
                len_lines: 0,
            });
        }
        let mut opened_here = false;
        for char in line.chars() {
            match char {
                '{' => {
                    braces += 1;
                    if let Some(function) = announced.take() {
                        open.push((function, braces));
                        opened_here = true;
                    }
                }
                '}' => {
                    if open.last().is_some_and(|(_, depth)| *depth == braces) {
                        found.extend(open.pop().map(|(function, _)| function));
                    }
                    braces = braces.saturating_sub(1);
                }
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                // A declaration without a body; a semicolon in `[u8; 4]` is not its end.
                ';' if brackets == 0 => announced = None,
                _ => {}
            }
        }
        if !line.trim().is_empty() {
            let outer = open.len() - usize::from(opened_here && !open.is_empty());
            for (function, _) in open.iter_mut().take(outer) {
                function.len_lines += 1;
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let at = line.find("fn ").filter(|&at| {
        !line
            .get(..at)
            .and_then(|text| text.chars().next_back())
            .is_some_and(is_word)
    })?;
    let name: String = line
        .get(at + 3..)?
        .chars()
        .take_while(|&char| is_word(char))
        .collect();
    // `fn(u32)` is a type, `fn $name` belongs to a macro.
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "let a = \"unsafe // x\"; // unsafe\n/* unsafe\n unsafe */ b('\"', '\\'');\n\
            r#\"unsafe \" \"#; fn f<'a>(x: &'a u8) {} unsafe {}";
        let code = code_lines(text);
        let hits: Vec<usize> = (0..code.len())
            .filter(|&index| has_word(&code[index], "unsafe"))
            .collect();
        assert_eq!(hits, [3], "{code:?}");
        assert!(code[2].contains("b(") && code[3].contains("fn f<"));
    }

    #[test]
    fn a_string_over_several_lines_keeps_the_line_numbers() {
        let code = code_lines("a(\"one \\\n   two\");\nunsafe {}\n");
        assert_eq!(code.len(), 4);
        assert!(has_word(&code[2], "unsafe"));
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_op_in_unsafe_fn", "unsafe"));
    }

    #[test]
    fn functions_are_measured_between_their_braces() {
        let text =
            "trait T {\nfn declared(x: [u8; 4]) -> u8;\n}\nfn one() {\n    // a remark\n    a();\n\
            \n    b();\n}\nfn two(x: fn(u32)) -> u8\n{ c() }\n";
        let found = functions(&code_lines(text));
        let short: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.len_lines))
            .collect();
        assert_eq!(short, [("one", 4, 2), ("two", 10, 0)]);
    }
}
