//! Finds what a kernel complained about in a console log.

/// Words that no healthy kernel prints. Matched anywhere in a line.
const ALARMS: [&str; 26] = [
    "BUG:",
    "WARNING:",
    "INFO: task",
    "INFO: rcu",
    "rcu_preempt detected",
    "kernel BUG at",
    "Kernel panic",
    "Kernel mode fault",
    "Oops",
    "general protection",
    "KASAN",
    "UBSAN",
    "possible circular locking",
    "possible recursive locking",
    "inconsistent lock state",
    "bad unlock balance",
    "held lock freed",
    "suspicious RCU usage",
    "sleeping function called",
    "DEBUG_LOCKS_WARN_ON",
    "refcount_t:",
    "corruption",
    "unreferenced object",
    "soft lockup",
    "panicked at",
    "Segfault with no mm",
];

/// Lines that look like an alarm and are none.
const HARMLESS: [&str; 6] = [
    "kasan: KernelAddressSanitizer initialized",
    "KernelAddressSanitizer initialized",
    "loading out-of-tree module taints kernel",
    "drbd-test: expected",
    "Kernel panic on",
    "KASAN_SHADOW",
];

/// What the C driver is known to print on a debug kernel.
const KNOWN_OF_C: [&str; 2] = [
    "__might_sleep",
    "do not call blocking ops when !TASK_RUNNING",
];

/// Returns every alarm of a console log with the line after it, which often says where.
pub(crate) fn alarms(console: &str, runs_c_driver: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = console.lines().peekable();
    while let Some(line) = lines.next() {
        if !ALARMS.iter().any(|word| line.contains(word))
            || HARMLESS.iter().any(|word| line.contains(word))
        {
            continue;
        }
        let next = lines.peek().copied().unwrap_or_default();
        let known = KNOWN_OF_C
            .iter()
            .any(|word| line.contains(word) || next.contains(word));
        if runs_c_driver && known {
            continue;
        }
        found.push(format!("{} | {}", line.trim_end(), next.trim()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::alarms;

    #[test]
    fn every_kind_of_kernel_report_is_an_alarm() {
        for line in [
            "[  1.2] BUG: KASAN: slab-use-after-free in drbd_x+0x1/0x2 [drbd]",
            "[  1.2] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 y+0x1/0x2",
            "[  1.2] WARNING: possible circular locking dependency detected",
            "[  1.2] INFO: task drbd_w_r0:12 blocked for more than 122 seconds.",
            "[  1.2] rust_kernel: panicked at drivers/block/drbd/core/x.rs:1:1:",
            "[  1.2] list_add corruption. next->prev should be prev",
            "[  1.2] refcount_t: underflow; use-after-free.",
            "unreferenced object 0x1 (size 64):",
        ] {
            assert_eq!(
                alarms(&format!("fine\n{line}\nwhere\n"), true).len(),
                1,
                "{line}"
            );
        }
    }

    #[test]
    fn the_known_warning_is_tolerated_only_under_the_c_driver() {
        let text = "[ 9] WARNING: kernel/sched/core.c:1 at __might_sleep+0x1/0x2, CPU#0: drbd_w\n";
        assert!(alarms(text, true).is_empty());
        assert_eq!(alarms(text, false).len(), 1);
    }

    #[test]
    fn an_ordinary_boot_has_no_alarm() {
        let text = "[ 0.0] kasan: KernelAddressSanitizer initialized (generic)\n\
             [ 1.0] drbd: loading out-of-tree module taints kernel.\n\
             [ 2.0] block drbd0: new current UUID\n";
        assert!(alarms(text, false).is_empty());
    }
}
