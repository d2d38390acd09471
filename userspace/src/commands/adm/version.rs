//! Versions of the tools and of the module.

use std::fs;
use std::process::{Command, Stdio};

/// Version of the tools: the series they belong to.
pub(super) const VERSION: &str = "8.4.11";

/// Suppresses the note about different versions.
const QUIET: &str = "DRBD_DONT_WARN_ON_VERSION_MISMATCH";

/// A version as three numbers.
type Triple = [u32; 3];

/// Prints the versions as shell assignments (`reference/userland.md 2.8`).
pub(super) fn print() {
    let tool = parse(VERSION).unwrap_or([8, 4, 11]);
    let kernel = of_module();
    println!("DRBDADM_BUILDTAG=drbd-rs\\ {}", env!("CARGO_PKG_VERSION"));
    println!("DRBDADM_API_VERSION=1");
    println!("DRBD_KERNEL_VERSION_CODE=0x{:06x}", kernel.map_or(0, code));
    if let Some([major, minor, patch]) = kernel {
        println!("DRBD_KERNEL_VERSION={major}.{minor}.{patch}");
    }
    println!("DRBDADM_VERSION_CODE=0x{:06x}", code(tool));
    println!("DRBDADM_VERSION={VERSION}");
}

/// Tells the user if the loaded module is of another series.
pub(super) fn warn_about_series() {
    if std::env::var_os(QUIET).is_some() {
        return;
    }
    let loaded = fs::read_to_string("/proc/drbd")
        .ok()
        .and_then(|text| from_proc(&text));
    let Some([major, minor, patch]) = loaded else {
        return;
    };
    if (major, minor) != (8, 4) {
        eprintln!("DRBD module version: {major}.{minor}.{patch}");
        eprintln!("   userland version: {VERSION}");
        eprintln!("you should load a module of the 8.4 series, these tools speak no other");
    }
}

const fn code(triple: Triple) -> u32 {
    triple[0] << 16 | triple[1] << 8 | triple[2]
}

/// Finds the version of the loaded module, else of the one that could be loaded.
fn of_module() -> Option<Triple> {
    if let Some(loaded) = fs::read_to_string("/proc/drbd")
        .ok()
        .and_then(|text| from_proc(&text))
    {
        return Some(loaded);
    }
    let mut modinfo = Command::new("modinfo");
    modinfo
        .args(["-F", "version", "drbd"])
        .stderr(Stdio::null())
        .stdin(Stdio::null());
    let output = modinfo.output().ok()?;
    parse(String::from_utf8_lossy(&output.stdout).trim())
}

fn from_proc(text: &str) -> Option<Triple> {
    parse(text.strip_prefix("version: ")?.split_whitespace().next()?)
}

/// Reads three numbers with dots between them; whatever follows the third is ignored.
fn parse(text: &str) -> Option<Triple> {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part.get(..digits).and_then(|digits| digits.parse().ok())
    });
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_codes() {
        let first = "version: 8.4.11-rs.1 (api:1/proto:86-101)\nsrcversion: X\n";
        assert_eq!(from_proc(first), Some([8, 4, 11]));
        assert_eq!(code([8, 4, 11]), 0x08_040b);
        assert_eq!(parse("9.22.0"), Some([9, 22, 0]));
        assert_eq!(parse("9.x"), None);
    }
}
