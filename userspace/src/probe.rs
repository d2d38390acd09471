//! For fuzzing (`tests/fuzz`): the parts of the tools that read what somebody else wrote, without
//! files, kernel or output.

use std::path::Path;

use crate::commands::setup;
use crate::config::local::Node;
use crate::config::model::Config;
use crate::config::{check, parser, print, resolve};

/// Reads `text` as a configuration as far as it can be read, and renders every complaint. What is
/// printed for a node is read once more.
///
/// # Panics
///
/// If what was printed can not be read.
pub fn configuration(text: &str) {
    let printed = read(text);
    if let Some(text) = printed {
        let mut config = Config::default();
        let path = Path::new("/nowhere/printed.conf");
        if let Err(error) = parser::parse(&mut config, "printed.conf", path, text.clone()) {
            panic!("{}\n{text}", error.render(&config.sources));
        }
    }
}

/// Reads `text`; returns what `drbdadm dump` would print of it if it is valid.
fn read(text: &str) -> Option<String> {
    let mut config = Config::default();
    let path = Path::new("/nowhere/test.conf");
    // Files are not to be read.
    let text = text.replace("include", "skipped");
    let warnings = match parser::parse(&mut config, "test.conf", path, text) {
        Ok(warnings) => warnings,
        Err(error) => {
            let _ = error.render(&config.sources);
            return None;
        }
    };
    let found = check::check(&config);
    for one in warnings.iter().chain(&found) {
        let _ = one.render(&config.sources);
    }
    let expanded = config.expanded();
    let node = Node::pretended("alpha", "10.0.0.1");
    let views = match resolve::resolve(&expanded, &node, None) {
        Ok(views) => views,
        Err(errors) => {
            for one in errors {
                let _ = one.render(&expanded.sources);
            }
            return None;
        }
    };
    let mut printed = String::new();
    for view in &views {
        printed.push_str(&print::resource(&expanded, view, "alpha"));
    }
    let mut valid = found.is_empty();
    for one in check::check_views(&views) {
        valid = false;
        let _ = one.render(&expanded.sources);
    }
    valid.then_some(printed)
}

/// Reads `text` as the answer of `drbdsetup show`.
pub fn running(text: &str) {
    let mut config = Config::default();
    if let Err(error) = parser::parse_running(&mut config, "r0", text.replace("include", "skipped"))
    {
        let _ = error.render(&config.sources);
    }
}

/// Reads `words` as those behind `drbdsetup`.
pub fn setup_words(words: &[&str]) {
    setup::understand("drbdsetup", words);
}
