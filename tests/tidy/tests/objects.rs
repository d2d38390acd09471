//! The two pure crates, compiled for a kernel, must need nothing from it.

use std::path::PathBuf;
use std::process::Command;

use drbd_tidy::{collect, top};

/// Whether a symbol may be left undefined by the object of a pure crate.
///
/// Memory functions and panics come from the compiler, the other marks from crates below; the rest
/// is what a kernel's configuration weaves into every function.
fn is_harmless(symbol: &str) -> bool {
    const EXACT: [&str; 6] = ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"];
    const WOVEN: [&str; 5] = ["__asan_", "__x86_", "__fentry__", "__sanitizer_", "__msan_"];
    const CRATES: [&str; 3] = ["4core", "8zerocopy", "11drbd_format"];
    EXACT.contains(&symbol)
        || WOVEN.iter().any(|start| symbol.starts_with(start))
        || (symbol.starts_with("_R") && CRATES.iter().any(|name| symbol.contains(name)))
}

/// Objects of the pure crates in the folders of every kernel built for so far.
fn objects() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let out = top().join("out");
    let kernels = std::fs::read_dir(out)
        .map(Iterator::flatten)
        .into_iter()
        .flatten();
    for kernel in kernels {
        let module = kernel.path().join("drivers/block/drbd");
        for folder in ["core", "format"] {
            if module.join(folder).is_dir() {
                collect(&module.join(folder), "o", &mut found);
            }
        }
    }
    found
}

/// Symbols of the kernel in these crates would mean I/O, allocation or a clock.
///
/// Without a module there is nothing to look at; who has just built one names its folder in `out`.
#[test]
fn the_pure_crates_need_nothing_from_the_kernel() {
    let objects = objects();
    let promised = std::env::var_os("DRBD_OBJECTS");
    if let Some(kernel) = &promised {
        let module = top().join("out").join(kernel).join("drivers/block/drbd");
        for folder in ["core", "format"] {
            let place = module.join(folder);
            assert!(
                objects.iter().any(|object| object.starts_with(&place)),
                "no object in {}, so it was not checked",
                place.display()
            );
        }
    }
    for object in objects {
        let Ok(output) = Command::new("nm").arg("-u").arg(&object).output() else {
            assert!(
                promised.is_none(),
                "there is no nm here, so nothing was checked"
            );
            println!("there is no nm here, so nothing was checked");
            return;
        };
        assert!(
            output.status.success(),
            "nm cannot read {}",
            object.display()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next_back())
            .filter(|symbol| !is_harmless(symbol))
            .collect();
        assert!(wanted.is_empty(), "{} needs {wanted:?}", object.display());
    }
}

#[test]
fn a_function_of_the_kernel_is_noticed() {
    assert!(is_harmless("_RNvNtCs1_4core9panicking5panic"));
    assert!(!is_harmless("kmalloc"));
    assert!(!is_harmless("_RNvCs1_6kernel5print"));
}
