//! Finds and reads the files that an `include` statement names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that matches the pattern of an `include` statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    /// The pattern with its wildcards filled in.
    pub(crate) name: String,
    /// Its path in its real directory, or the path that cannot be opened.
    pub(crate) path: PathBuf,
}

/// Returns the files that match `pattern`, relative to the directory of the file `from`.
///
/// The order is that of their names. A pattern without wildcards is always answered by one file,
/// whether it exists or not (`reference/userland.md 1.3`).
pub(crate) fn expand(from: &Path, pattern: &str) -> Vec<Found> {
    let folder = from.parent().unwrap_or(Path::new("/"));
    let mut names = vec![if pattern.starts_with('/') {
        "/".to_owned()
    } else {
        String::new()
    }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        names = names
            .iter()
            .flat_map(|name| descend(folder, name, part))
            .collect();
    }
    let has_wildcards = pattern.contains(WILDCARDS);
    names
        .into_iter()
        .filter(|name| !has_wildcards || folder.join(name).exists())
        .map(|name| {
            let path = folder.join(&name);
            let path = settled(&path).unwrap_or(path);
            Found { name, path }
        })
        .collect()
}

/// Returns the absolute path of a file that may be a link itself: what it includes lies beside the
/// link, and the link is what the administrator may redirect.
///
/// # Errors
///
/// Those of the file system about the directory.
pub(crate) fn settled(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return fs::canonicalize(path);
    };
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    Ok(fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name))
}

/// Returns the path by which a file is known again, whatever links lead to it.
pub(crate) fn real(path: &Path) -> PathBuf {
    let found = match path.is_absolute() {
        true => fs::canonicalize(path).ok(),
        // Not a file: the standard input, or what a program printed.
        false => None,
    };
    found.unwrap_or_else(|| path.to_owned())
}

/// Reads a whole file. Bytes that are no valid text are replaced; outside comments the parser
/// complains about them.
///
/// # Errors
///
/// Those of the file system.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the name of a file that the file `name` includes as `included`.
pub(crate) fn name_beside(name: &str, included: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) if !included.starts_with('/') => format!("{folder}/{included}"),
        _ => included.to_owned(),
    }
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// Appends to `name` every entry of that directory which matches `part`.
fn descend(folder: &Path, name: &str, part: &str) -> Vec<String> {
    let joined = |entry: &str| match name {
        "" | "/" => format!("{name}{entry}"),
        _ => format!("{name}/{entry}"),
    };
    if !part.contains(WILDCARDS) {
        return vec![joined(part)];
    }
    let Ok(entries) = fs::read_dir(folder.join(name)) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| part.starts_with('.') || !entry.starts_with('.'))
        .filter(|entry| matches(part, entry))
        .collect();
    found.sort();
    found.iter().map(|entry| joined(entry)).collect()
}

/// Reports whether `name` matches the shell pattern `pattern`: `*`, `?`, `[a-z]`, `[!a-z]`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let Some(first) = rest.next() else {
        return name.is_empty();
    };
    let mut tail = name.chars();
    match first {
        '*' => (0..=name.len())
            .filter_map(|cut| name.get(cut..))
            .any(|tail| matches(rest.as_str(), tail)),
        '?' => tail.next().is_some() && matches(rest.as_str(), tail.as_str()),
        '[' => match (in_set(rest.as_str(), name), tail.next()) {
            (Some((true, rest)), Some(_)) => matches(rest, tail.as_str()),
            (Some(_), _) => false,
            // Without a closing bracket it is an ordinary character.
            (None, next) => next == Some('[') && matches(rest.as_str(), tail.as_str()),
        },
        _ => tail.next() == Some(first) && matches(rest.as_str(), tail.as_str()),
    }
}

/// Reports whether the first character of `name` is in the set at the front of `pattern`, and
/// returns the pattern behind the set. `None` if the set is not closed.
fn in_set<'p>(pattern: &'p str, name: &str) -> Option<(bool, &'p str)> {
    let wanted = name.chars().next();
    let (is_negated, set) = match pattern.strip_prefix(['!', '^']) {
        Some(set) => (true, set),
        None => (false, pattern),
    };
    let skipped = set.chars().next().map_or(0, char::len_utf8);
    let close = skipped + set.get(skipped..)?.find(']')?;
    let members: Vec<char> = set.get(..close)?.chars().collect();
    let rest = set.get(close + 1..)?;
    let mut found = false;
    let mut next = 0;
    while let Some(&low) = members.get(next) {
        let range = members
            .get(next + 1..next + 3)
            .filter(|range| range.first() == Some(&'-'));
        let high = range.and_then(|range| range.last()).copied().unwrap_or(low);
        found |= wanted.is_some_and(|c| (low..=high).contains(&c));
        next += if range.is_some() { 3 } else { 1 };
    }
    Some((found != is_negated && wanted.is_some(), rest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn patterns_match_like_the_shell() {
        for (pattern, name, fits) in [
            ("*.res", "ftp.res", true),
            ("*.res", "ftp.res.bak", false),
            ("*", "anything", true),
            ("f?p.res", "ftp.res", true),
            ("f?p.res", "fp.res", false),
            ("[a-f]*.res", "ftp.res", true),
            ("[!a-f]*.res", "ftp.res", false),
            ("[^a-f]*.res", "zip.res", true),
            ("[]x].res", "].res", true),
            ("[ab", "[ab", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("é*", "été", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn included_names_are_relative_to_the_including_file() {
        assert_eq!(
            name_beside("/etc/drbd.conf", "drbd.d/a.res"),
            "/etc/drbd.d/a.res"
        );
        assert_eq!(name_beside("drbd.conf", "drbd.d/a.res"), "drbd.d/a.res");
        assert_eq!(name_beside("x/drbd.conf", "/etc/a.res"), "/etc/a.res");
    }

    /// A file with a resource of that name, which includes `more`.
    fn write(path: &Path, name: &str, minor: u32, more: &str) {
        let of = |host: &str, last: u32| {
            format!("on {host} {{ address 10.0.0.{last}:{}; }}", 7700 + minor)
        };
        let text = format!(
            "resource {name} {{ device minor {minor}; disk /dev/{name}; meta-disk internal; {} {} }}
             {more}",
            of("a", 1),
            of("b", 2)
        );
        fs::write(path, text).expect("a file");
    }

    #[test]
    fn a_link_to_a_file_includes_what_lies_beside_the_link() {
        let folder = std::env::temp_dir().join(format!("drbd-beside-{}", std::process::id()));
        let (beside, away) = (folder.join("beside"), folder.join("away"));
        for place in [&beside, &away] {
            fs::create_dir_all(place).expect("a folder");
        }
        write(
            &away.join("main"),
            "main",
            0,
            "include one; include \"t*\";",
        );
        write(&away.join("one"), "one", 1, "include deep;");
        write(&away.join("deep"), "wrong", 2, "");
        write(&away.join("two"), "wrong", 3, "");
        write(&beside.join("deep"), "deep", 4, "");
        write(&beside.join("two"), "two", 5, "");
        symlink("../away/main", beside.join("main")).expect("a link");
        symlink("../away/one", beside.join("one")).expect("a link");
        // The same file once more, by another name.
        symlink("two", beside.join("two-again")).expect("a link");
        symlink("beside", folder.join("link")).expect("a link");
        for named in ["beside/main", "link/main"] {
            let loaded = crate::config::load(folder.join(named).to_str(), None);
            let resources = &loaded.config.resources;
            let names: Vec<&str> = resources.iter().map(|r| r.name.text.as_str()).collect();
            assert_eq!(
                names,
                ["main", "one", "deep", "two"],
                "{:?}",
                loaded.invalid
            );
            let main = loaded.config.sources.main().expect("it was read");
            let real = fs::canonicalize(&beside).expect("it is there");
            assert_eq!(main.path, real.join("main"));
        }
        fs::remove_dir_all(folder).expect("it was there");
    }
}
