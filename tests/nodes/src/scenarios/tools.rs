//! Not scenarios but the developer's inner loop: load the module, run a few commands, see the log.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::module_load::leak_check;
use crate::bed::Bed;
use crate::pair::{Pair, Plan};

/// Loads the module in one node, shows `/proc/drbd` and the kernel log, unloads it.
pub(crate) fn load(bed: &Bed) -> Result<()> {
    let mut pair = Pair::create(bed, "load", &Plan::default())?;
    let Pair { m, net, .. } = &mut pair;
    m.boot(net)?;
    let from = m.console().len();
    for command in [
        "modprobe drbd",
        "cat /proc/drbd",
        "modinfo drbd",
        "ls /sys/module/drbd/*",
        "rmmod drbd",
    ] {
        m.run(command)?;
    }
    leak_check(m)?;
    let console = m.console();
    pair.steps.say(&format!(
        "kernel log:\n{}",
        console.get(from..).unwrap_or_default()
    ));
    pair.finish()
}

/// Boots both nodes, loads the module and runs `commands` on M.
pub(crate) fn shell(bed: &Bed, commands: &str) -> Result<()> {
    let pair = Pair::boot(bed, "shell", &Plan::default())?;
    let from = pair.m.console().len();
    pair.run_both("modprobe drbd")?;
    pair.m.run_within(commands, Duration::from_secs(600))?;
    let console = pair.m.console();
    pair.steps.say(&format!(
        "kernel log of M:\n{}",
        console.get(from..).unwrap_or_default()
    ));
    pair.finish()
}

/// Starts the resource again, says how to log in to each node and waits until both are switched
/// off.
pub(crate) fn stay(pair: &mut Pair) -> Result<()> {
    pair.run_both("modprobe drbd; drbdadm up resftp")?;
    let program = std::env::current_exe()?;
    println!(
        "\nThe nodes stay, connected as Secondary. A root shell on each, from another terminal:"
    );
    for node in pair.both() {
        let (name, dir) = (node.spec.name, node.spec.dir.display());
        println!(
            "  {name} ({}): {} login {dir}/login",
            node.spec.hostname,
            program.display()
        );
    }
    println!("ctrl-] leaves a shell. Ctrl-C here, or poweroff -f on both nodes, ends it.");
    while pair.m.is_up() || pair.s.is_up() {
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Joins this terminal to the login line of a node until ctrl-] or the end of the node.
pub(crate) fn login(socket: &Path) -> Result<()> {
    let line = UnixStream::connect(socket)
        .with_context(|| format!("no node is running behind {}", socket.display()))?;
    let raw = Command::new("stty")
        .args(["raw", "-echo"])
        .stderr(Stdio::null())
        .status();
    let mut from_node = line.try_clone()?;
    std::thread::spawn(move || {
        let mut bytes = [0_u8; 4096];
        while let Ok(count @ 1..) = from_node.read(&mut bytes) {
            let mut screen = std::io::stdout();
            if screen
                .write_all(&bytes[..count])
                .and_then(|()| screen.flush())
                .is_err()
            {
                break;
            }
        }
        restore_terminal();
        std::process::exit(0);
    });
    let mut to_node = line;
    to_node.write_all(b"\n")?;
    let mut bytes = [0_u8; 4096];
    let mut keyboard = std::io::stdin();
    while let Ok(count @ 1..) = keyboard.read(&mut bytes) {
        if bytes[..count].contains(&0x1d) && raw.is_ok() {
            break;
        }
        to_node.write_all(&bytes[..count])?;
    }
    restore_terminal();
    Ok(())
}

fn restore_terminal() {
    let _ = Command::new("stty")
        .arg("sane")
        .stderr(Stdio::null())
        .status();
}
