//! Walks over the tokens of one file, and says what it expected.

use drbd_format::options::{Section, IGNORED_DISK_OPTIONS};

use crate::config::lexer::{Kind, Token};
use crate::config::model::Name;
use crate::config::source::{Diagnostic, Place};

/// Longest part of an unexpected token that is repeated in the message.
const SHOWN_LEN_MAX: usize = 20;

/// Words of the grammar that must be quoted where any string may stand.
const KEYWORDS: &[&str] = &[
    "_remote_host",
    "_this_host",
    "address",
    "alternate-link-address",
    "ask",
    "common",
    "device",
    "disk",
    "flexible-meta-disk",
    "floating",
    "global",
    "handlers",
    "ignore-on",
    "include",
    "inside",
    "ipv4",
    "ipv6",
    "memlimit",
    "meta-disk",
    "minor",
    "net",
    "no",
    "on",
    "options",
    "outside",
    "plugin",
    "protocol",
    "proxy",
    "resource",
    "sci",
    "sdp",
    "skip",
    "ssocks",
    "stacked-on-top-of",
    "startup",
    "syncer",
    "volume",
    "yes",
];

/// Reports whether an unquoted `word` has a meaning of its own.
pub(crate) fn is_keyword(word: &str) -> bool {
    let sections = [
        Section::Disk,
        Section::Global,
        Section::Handlers,
        Section::Net,
        Section::Options,
        Section::Startup,
    ];
    let positive = word.strip_prefix("no-");
    KEYWORDS.contains(&word)
        || IGNORED_DISK_OPTIONS.contains(&word)
        || sections.iter().any(|section| section.find(word).is_some())
        || positive.is_some_and(|name| {
            sections
                .iter()
                .filter_map(|section| section.find(name))
                .any(|spec| spec.negatable)
        })
}

/// A position between two tokens of a file.
pub(super) struct Cursor {
    file: usize,
    tokens: Vec<Token>,
    next: usize,
    end: usize,
    takes_any_bytes: bool,
}

impl Cursor {
    /// Starts in front of `tokens`, which were cut from source `file` of `len` bytes.
    pub(super) fn new(file: usize, tokens: Vec<Token>, len: usize) -> Self {
        Self {
            file,
            tokens,
            next: 0,
            end: len,
            takes_any_bytes: false,
        }
    }

    /// Lets names and values with bytes of an unknown encoding pass, or not.
    pub(super) fn take_any_bytes(&mut self, allowed: bool) {
        self.takes_any_bytes = allowed;
    }

    /// Complains if the next token had bytes that are not of this encoding: what stands in their
    /// place is not what the peer, which reads them as they are, has.
    pub(super) fn foreign_bytes(&self) -> Option<Diagnostic> {
        let token = self.peek()?;
        token.text.contains(char::REPLACEMENT_CHARACTER).then(|| {
            let sentence = "this string is not valid UTF-8";
            Diagnostic::error(self.here(), sentence.into(), "contains unreadable bytes")
        })
    }

    /// Returns the token that comes next.
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    /// Returns the token behind the next one.
    pub(super) fn second(&self) -> Option<&Token> {
        self.tokens.get(self.next + 1)
    }

    /// Returns the place of the token that comes next, at the end that of the last one.
    pub(super) fn here(&self) -> Place {
        match self.peek() {
            Some(token) => Place::new(self.file, token.range.clone()),
            None => Place::new(self.file, self.end..self.end),
        }
    }

    /// Returns the place of the token that was taken last.
    pub(super) fn before(&self) -> Place {
        match self
            .next
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
        {
            Some(token) => Place::new(self.file, token.range.clone()),
            None => self.here(),
        }
    }

    /// Takes the next token whatever it is.
    pub(super) fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += usize::from(token.is_some());
        token
    }

    /// Returns the next token if it is an unquoted word, number or address.
    pub(super) fn peek_word(&self) -> Option<&str> {
        let token = self.peek()?;
        let is_bare = matches!(token.kind, Kind::Word | Kind::Number | Kind::Ipv4);
        is_bare.then_some(token.text.as_str())
    }

    /// Reports whether the punctuation mark `mark` comes next.
    pub(super) fn at(&self, mark: char) -> bool {
        self.peek()
            .is_some_and(|token| token.kind == Kind::Punctuation(mark))
    }

    /// Reports whether the file ends here.
    pub(super) fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// Takes the punctuation mark `mark` if it comes next.
    pub(super) fn take_mark(&mut self, mark: char) -> bool {
        let found = self.at(mark);
        self.next += usize::from(found);
        found
    }

    /// Takes the unquoted word `word` if it comes next.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.next += usize::from(found);
        found
    }

    /// Takes the punctuation mark `mark` or complains.
    pub(super) fn expect(&mut self, mark: char) -> Result<(), Diagnostic> {
        if self.take_mark(mark) {
            return Ok(());
        }
        Err(self.unexpected(&mark.to_string()))
    }

    /// Takes a name: a quoted string, or a word that is no keyword.
    pub(super) fn name(&mut self) -> Result<Name, Diagnostic> {
        let place = self.here();
        let fits = self.peek().is_some_and(|token| match token.kind {
            Kind::Quoted => true,
            Kind::Word => !is_keyword(&token.text),
            _ => false,
        });
        match self.peek() {
            Some(token) if fits => {
                if let Some(error) = self.foreign_bytes().filter(|_| !self.takes_any_bytes) {
                    return Err(error.hint("convert the file, for instance with iconv".into()));
                }
                let text = token.text.clone();
                self.next += 1;
                Ok(Name { text, place })
            }
            Some(token) if token.kind == Kind::Word && is_keyword(&token.text) => {
                let hint = format!(
                    "write \"{}\" in double quotes to use it as a name",
                    token.text
                );
                Err(self.unexpected("a name or quoted string").hint(hint))
            }
            _ => Err(self.unexpected("a name or quoted string")),
        }
    }

    /// Takes a number without suffix.
    pub(super) fn number(&mut self) -> Result<(u32, Place), Diagnostic> {
        let place = self.here();
        let number = self.peek().and_then(|token| match token.kind {
            Kind::Number => token.text.parse().ok(),
            _ => None,
        });
        match number {
            Some(number) => {
                self.next += 1;
                Ok((number, place))
            }
            None => Err(self.unexpected("a number")),
        }
    }

    /// Takes the value of an option: anything but a keyword, and `on`.
    pub(super) fn value(&mut self) -> Result<Name, Diagnostic> {
        let place = self.here();
        let is_bare_value = self.peek().is_some_and(|token| {
            matches!(token.kind, Kind::Number | Kind::Ipv4)
                || (token.kind == Kind::Word && token.text == "on")
        });
        if is_bare_value {
            let text = self.take().map(|token| token.text).unwrap_or_default();
            return Ok(Name { text, place });
        }
        self.name()
    }

    /// Says that `wanted` should stand where the next token stands.
    pub(super) fn unexpected(&self, wanted: &str) -> Diagnostic {
        let place = self.here();
        let Some(token) = self.peek() else {
            let sentence =
                format!("Parse error: '{wanted}' expected,\n\tbut got the end of the file");
            return Diagnostic::error(place, sentence, "the file ends here");
        };
        let shown = shorten(&token.text);
        match token.kind {
            Kind::WordTooLong => {
                let sentence = format!("Token too long >>>{shown}<<<");
                Diagnostic::error(place, sentence, "at most 128 characters")
            }
            Kind::QuotedTooLong => {
                let sentence = format!("Double quoted string too long >>>\"{}<<<", {
                    shorten_to(&token.text, SHOWN_LEN_MAX - 1)
                });
                Diagnostic::error(place, sentence, "at most 255 characters")
            }
            Kind::Unterminated => {
                let sentence = format!(
                    "Unterminated double quoted string\n  we don't allow embedded newlines\n  \
                     >>>{}...<<<",
                    token.text
                );
                Diagnostic::error(place, sentence, "no closing quote on this line")
            }
            Kind::Ipv4
            | Kind::Number
            | Kind::Other
            | Kind::Punctuation(_)
            | Kind::Quoted
            | Kind::Word => {
                let sentence = format!("Parse error: '{wanted}' expected,\n\tbut got '{shown}'");
                Diagnostic::error(place, sentence, "unexpected here")
            }
        }
    }
}

/// Cuts a token to the length that fits a message.
fn shorten(text: &str) -> String {
    shorten_to(text, SHOWN_LEN_MAX)
}

fn shorten_to(text: &str, len: usize) -> String {
    match text.char_indices().nth(len) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or(text)),
        None => text.to_owned(),
    }
}
