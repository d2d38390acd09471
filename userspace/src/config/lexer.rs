//! Cuts the text of a configuration into tokens.
//!
//! The rules are those of `reference/userland.md 1.1`. Whether a word is a keyword depends on
//! where it stands and is the parser's business; a quoted string never is one. A token that breaks
//! a length rule is kept as a token of its own kind, so that an earlier mistake is reported first.

use std::ops::Range;

use winnow::combinator::{alt, opt, preceded, repeat};
use winnow::prelude::*;
use winnow::stream::LocatingSlice;
use winnow::token::{any, one_of, take_while};

/// Longest word, in characters.
const WORD_LEN_MAX: usize = 128;
/// Longest quoted string, in characters between the quotes.
const QUOTED_LEN_MAX: usize = 255;
/// Most digits a number may have; longer ones are words.
const DIGITS_MAX: usize = 8;

/// What kind of token this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Four groups of up to three digits.
    Ipv4,
    /// Up to eight digits, optionally followed by one of `M K G s`.
    Number,
    /// Any other character; never part of a valid statement.
    Other,
    /// One of `{ } ; [ ] :`.
    Punctuation(char),
    /// A string in double quotes.
    Quoted,
    /// A string in double quotes that is too long.
    QuotedTooLong,
    /// A double quote without its partner on the same line.
    Unterminated,
    /// A name, keyword or path.
    Word,
    /// A word that is too long.
    WordTooLong,
}

/// A token and the bytes it was cut from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// The text without quotes and without the backslashes of escapes.
    pub(crate) text: String,
    /// Where it stands.
    pub(crate) range: Range<usize>,
}

type Input<'s> = LocatingSlice<&'s str>;

/// Cuts `text` into tokens. Every text has a token sequence; mistakes are tokens too.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut input = LocatingSlice::new(text);
    let mut found = Vec::new();
    while let Ok((raw, range)) = preceded(gap, lexeme.with_span()).parse_next(&mut input) {
        let (kind, text) = raw;
        found.push(Token { kind, text, range });
    }
    found
}

/// Skips blanks, line ends and comments.
fn gap(input: &mut Input<'_>) -> ModalResult<()> {
    let blank = take_while(1.., [' ', '\t', '\r', '\n']).void();
    let comment = ('#', take_while(0.., |c| c != '\n')).void();
    repeat(0.., alt((blank, comment))).parse_next(input)
}

/// Reads one token. Fails only at the end of the text.
fn lexeme(input: &mut Input<'_>) -> ModalResult<(Kind, String)> {
    alt((
        punctuation,
        quoted,
        unterminated,
        word,
        any.map(|c: char| (Kind::Other, c.into())),
    ))
    .parse_next(input)
}

fn punctuation(input: &mut Input<'_>) -> ModalResult<(Kind, String)> {
    one_of(['{', '}', ';', '[', ']', ':'])
        .map(|c: char| (Kind::Punctuation(c), c.into()))
        .parse_next(input)
}

fn quoted(input: &mut Input<'_>) -> ModalResult<(Kind, String)> {
    let escaped = preceded('\\', any.verify(|&c| c != '\n'));
    let plain = any.verify(|&c| c != '"' && c != '\\' && c != '\n');
    let body = repeat(0.., alt((escaped, plain)));
    let (_, text, _): (char, String, char) = ('"', body, '"').parse_next(input)?;
    let fits = text.chars().count() <= QUOTED_LEN_MAX;
    Ok((
        if fits {
            Kind::Quoted
        } else {
            Kind::QuotedTooLong
        },
        text,
    ))
}

/// Reads a double quote and the rest of its line.
fn unterminated(input: &mut Input<'_>) -> ModalResult<(Kind, String)> {
    ('"', take_while(0.., |c| c != '\n'), opt('\n'))
        .take()
        .map(|text: &str| (Kind::Unterminated, text.to_owned()))
        .parse_next(input)
}

fn word(input: &mut Input<'_>) -> ModalResult<(Kind, String)> {
    take_while(1.., |c: char| {
        c.is_ascii_alphanumeric() || "/._-".contains(c)
    })
    .map(|text: &str| (classify(text), text.to_owned()))
    .parse_next(input)
}

/// Tells numbers and addresses from other words.
fn classify(text: &str) -> Kind {
    if text.len() > WORD_LEN_MAX {
        return Kind::WordTooLong;
    }
    let digits = text.strip_suffix(['M', 'K', 'G', 's']).unwrap_or(text);
    if (1..=DIGITS_MAX).contains(&digits.len()) && all_digits(digits) {
        return Kind::Number;
    }
    let groups: Vec<&str> = text.split('.').collect();
    let is_group = |group: &&str| (1..=3).contains(&group.len()) && all_digits(group);
    if groups.len() == 4 && groups.iter().all(is_group) {
        return Kind::Ipv4;
    }
    Kind::Word
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, String)> {
        tokens(text)
            .into_iter()
            .map(|token| (token.kind, token.text))
            .collect()
    }

    #[test]
    fn numbers_words_and_addresses_are_told_apart() {
        let of = |text: &str| kinds(text)[0].0;
        for number in ["0", "12345678", "12M", "7K", "1G", "40960s"] {
            assert_eq!(of(number), Kind::Number, "{number}");
        }
        for word in [
            "123456789",
            "12k",
            "5m",
            "1.2.3",
            "1.2.3.4.5",
            "1234.1.1.1",
            "/dev/sda2",
        ] {
            assert_eq!(of(word), Kind::Word, "{word}");
        }
        assert_eq!(of("10.22.100.212:7789"), Kind::Ipv4);
    }

    #[test]
    fn comments_blanks_and_carriage_returns_vanish() {
        assert_eq!(
            kinds("a # b \"\r\n\t;#last"),
            [
                (Kind::Word, "a".into()),
                (Kind::Punctuation(';'), ";".into())
            ]
        );
        assert!(tokens("").is_empty());
        assert!(tokens("  # only a comment").is_empty());
    }

    #[test]
    fn quoted_strings_lose_quotes_and_escapes() {
        assert_eq!(
            kinds(r#""a \"b\" \\ c""#),
            [(Kind::Quoted, r#"a "b" \ c"#.into())]
        );
        assert_eq!(kinds("\"\""), [(Kind::Quoted, String::new())]);
    }

    #[test]
    fn a_quote_without_partner_ends_with_its_line() {
        let found = kinds("\"abc\nnext");
        assert_eq!(found[0], (Kind::Unterminated, "\"abc\n".into()));
        assert_eq!(found[1], (Kind::Word, "next".into()));
    }

    #[test]
    fn lengths_are_limited() {
        assert_eq!(kinds(&"x".repeat(128))[0].0, Kind::Word);
        assert_eq!(kinds(&"x".repeat(129))[0].0, Kind::WordTooLong);
        assert_eq!(
            kinds(&format!("\"{}\"", "x".repeat(255)))[0].0,
            Kind::Quoted
        );
        assert_eq!(
            kinds(&format!("\"{}\"", "x".repeat(256)))[0].0,
            Kind::QuotedTooLong
        );
    }

    #[test]
    fn ranges_point_at_the_source() {
        let text = "on \"a b\" {";
        let ranges: Vec<&str> = tokens(text)
            .iter()
            .map(|t| &text[t.range.clone()])
            .collect();
        assert_eq!(ranges, ["on", "\"a b\"", "{"]);
    }
}
