//! The configuration: files → tokens → model → this node's view of it → text again.
//!
//! Everything but [`include`], [`local`] and the functions here works on values only.

pub(crate) mod check;
pub(crate) mod include;
pub(crate) mod lexer;
pub(crate) mod local;
pub(crate) mod model;
pub(crate) mod parser;
pub(crate) mod print;
pub(crate) mod print_xml;
pub(crate) mod resolve;
pub(crate) mod source;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use model::Config;
use source::{Diagnostic, Invalid};

/// Where the configuration lies if the user names no file; the first one that exists.
const DEFAULT_FILES: [&str; 5] = [
    "/etc/drbd-84.conf",
    "/etc/drbd-83.conf",
    "/etc/drbd-82.conf",
    "/etc/drbd-08.conf",
    "/etc/drbd.conf",
];

/// Exit code if the file that the user named cannot be opened.
const CANNOT_OPEN: u8 = 20;

/// The texts and what they say, or why they say nothing.
pub(crate) struct Loaded {
    /// What was read; after an error only the texts are of use.
    pub(crate) config: Config,
    /// What the user should know although the configuration is used.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Why the configuration cannot be used.
    pub(crate) invalid: Option<Invalid>,
}

/// Reads the configuration file `name`, `-` for the standard input, or the default one.
pub(crate) fn load(name: Option<&str>, also: Option<&str>) -> Loaded {
    let mut loaded = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
        invalid: None,
    };
    let name = match name {
        Some(name) => name.to_owned(),
        None => default_file().to_owned(),
    };
    let mut claims = parser::Claims::default();
    read_into(&mut loaded, &mut claims, &name);
    if let Some(also) = also.filter(|_| loaded.invalid.is_none()) {
        read_into(&mut loaded, &mut claims, also);
    }
    if loaded.invalid.is_none() {
        let found = check::check(&loaded.config);
        if !found.is_empty() {
            let code = Invalid::CONFIGURATION;
            loaded.invalid = Some(Invalid {
                diagnostics: found,
                code,
            });
        }
    }
    loaded
}

/// Returns the default configuration file: the first that exists, else the last.
pub(crate) fn default_file() -> &'static str {
    let exists = |name: &&&str| Path::new(name).exists();
    DEFAULT_FILES
        .iter()
        .find(exists)
        .copied()
        .unwrap_or("/etc/drbd.conf")
}

fn read_into(loaded: &mut Loaded, claims: &mut parser::Claims, name: &str) {
    let (path, text) = match read(name) {
        Ok(found) => found,
        Err(error) => {
            let sentence = match DEFAULT_FILES.contains(&name) {
                true => (
                    format!("Can not open '{name}': {error}"),
                    Invalid::CONFIGURATION,
                ),
                false => (format!("Can not open '{name}'.\n{error}"), CANNOT_OPEN),
            };
            let diagnostics = vec![Diagnostic::bare(sentence.0)];
            loaded.invalid = Some(Invalid {
                diagnostics,
                code: sentence.1,
            });
            return;
        }
    };
    match parser::parse_after(&mut loaded.config, claims, name, &path, text) {
        Ok(warnings) => loaded.warnings.extend(warnings),
        Err(error) => loaded.invalid = Some(error.into()),
    }
}

/// Reads a file or the standard input; errors are worded as the C library does.
fn read(name: &str) -> Result<(PathBuf, String), String> {
    if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        return Ok((
            PathBuf::from("STDIN"),
            String::from_utf8_lossy(&bytes).into_owned(),
        ));
    }
    let plain = |error: std::io::Error| {
        let text = error.to_string();
        text.split(" (os error").next().unwrap_or("").to_owned()
    };
    let path = include::settled(Path::new(name)).map_err(plain)?;
    let text = include::read(&path).map_err(plain)?;
    Ok((path, text))
}
