//! Promises about every text, not only about those somebody thought of.

use std::path::Path;

use proptest::prelude::*;

use super::local::Node;
use super::model::Config;
use super::{check, lexer, parser, print, resolve};

/// A configuration that uses most of the grammar.
const RICH: &str = include_str!("../../../tests/cli/conf/options.conf");

/// Reads `text` as far as it can be read, and renders every complaint on the way.
fn read(text: &str) -> String {
    let mut config = Config::default();
    let path = Path::new("/nowhere/test.conf");
    let mut said = String::new();
    match parser::parse(&mut config, "test.conf", path, text.to_owned()) {
        Err(error) => said.push_str(&error.render(&config.sources)),
        Ok(warnings) => {
            for one in warnings.iter().chain(&check::check(&config)) {
                said.push_str(&one.render(&config.sources));
            }
            let expanded = config.expanded();
            let node = Node::for_test("alpha", &["10.0.0.1"]);
            match resolve::resolve(&expanded, &node, None) {
                Ok(views) => {
                    for view in &views {
                        said.push_str(&print::resource(&expanded, view, "alpha"));
                    }
                    for one in check::check_views(&views) {
                        said.push_str(&one.render(&expanded.sources));
                    }
                }
                Err(errors) => {
                    for one in errors {
                        said.push_str(&one.render(&expanded.sources));
                    }
                }
            }
        }
    }
    said
}

fn without_includes(text: String) -> String {
    text.replace("include", "skipped")
}

proptest! {
    #[test]
    fn tokens_cover_the_text_in_order(text in any::<String>()) {
        let mut end = 0;
        for token in lexer::tokens(&text) {
            prop_assert!(token.range.start >= end && token.range.end > token.range.start);
            prop_assert!(text.get(token.range.clone()).is_some(), "cut between characters");
            end = token.range.end;
        }
        prop_assert!(end <= text.len());
    }

    #[test]
    fn no_text_makes_the_parser_stumble(text in any::<String>()) {
        read(&without_includes(text));
    }

    #[test]
    fn no_damage_to_a_configuration_makes_the_parser_stumble(
        cut in 0..RICH.len(),
        len in 0..40_usize,
        more in "[ -~é\n]{0,12}",
    ) {
        let mut text: Vec<char> = RICH.chars().collect();
        let end = (cut + len).min(text.len());
        text.splice(cut.min(end)..end, more.chars());
        read(&without_includes(text.into_iter().collect()));
    }

    #[test]
    fn quoted_names_are_read_back(name in "[ -~é]{0,100}") {
        let quoted = print::name(&name);
        let tokens = lexer::tokens(&quoted);
        prop_assert_eq!(tokens.len(), 1);
        prop_assert_eq!(&tokens[0].text, &name);
    }
}

/// A configuration that ends too early is refused: half a resource must never be started.
#[test]
fn every_truncation_is_refused_or_a_whole_number_of_sections() {
    let whole = lexer::tokens(RICH).into_iter().map(|token| token.range.end);
    for end in whole {
        let text = &RICH[..end];
        let open = text.matches('{').count() - text.matches('}').count();
        let mut config = Config::default();
        let path = Path::new("/nowhere/test.conf");
        let result = parser::parse(&mut config, "test.conf", path, text.to_owned());
        assert!(result.is_err() || open == 0, "accepted: {text}");
    }
}

/// Bytes of another encoding become marks of replacement, and a secret with one is another secret.
#[test]
fn what_is_no_text_is_refused_except_in_comments_and_handlers() {
    let cases: [(&[u8], &str); 4] = [
        (b"net { shared-secret \"caf\xe9\"; }", "not valid UTF-8"),
        (b"disk \"/dev/caf\xe9\";", "not valid UTF-8"),
        (b"# caf\xe9\n", ""),
        (b"handlers { split-brain \"echo caf\xe9\"; }", ""),
    ];
    for (bytes, wanted) in cases {
        let bytes = [b"resource r {\n", bytes, b"\n}"].concat();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut config = Config::default();
        let path = Path::new("/nowhere/test.conf");
        let result = parser::parse(&mut config, "test.conf", path, text.clone());
        let said = match result {
            Err(error) => error.render(&config.sources),
            Ok(_) => String::new(),
        };
        assert!(
            said.contains(wanted) && said.is_empty() == wanted.is_empty(),
            "{text}: {said}"
        );
    }
    // Handlers say something, and what runs was configured before: nobody asks its spelling.
    let mut config = Config::default();
    let handlers = "common { handlers { split-brain \"\u{fffd}\"; } }".to_owned();
    let warnings = parser::parse(&mut config, "test.conf", Path::new("/x"), handlers);
    assert_eq!(warnings.map(|all| all.len()).ok(), Some(1));
    let running = "resource r { net { shared-secret \"\u{fffd}\"; } }".to_owned();
    assert!(parser::parse_running(&mut Config::default(), "r", running).is_ok());
}
