//! Where kernels, images, modules and tools are, and what a run was asked to do with them.
//!
//! The Makefile passes the places in the environment; whatever it does not name is asked from the
//! scripts of the project, which only look things up here and never build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{bail, ensure, Context, Result};

use crate::machine::qemu::Qemu;
use crate::machine::uml::Uml;
use crate::machine::Backend;
use crate::node::{Driver, Tools};

/// Which kernel the nodes run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kernel {
    /// UML without checks.
    Fast,
    /// UML with KASAN, lockdep, kmemleak and list checks.
    Debug,
    /// Debian's own kernel under QEMU.
    Stock,
}

impl Kernel {
    /// Its word on the command line and in file names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Debug => "debug",
            Self::Stock => "stock",
        }
    }
}

/// What the two nodes run: `ours/c` means our module on M and the C driver on S.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Pairing {
    /// Modules of M and S.
    pub(crate) drivers: [Driver; 2],
    /// Tools of M and S.
    pub(crate) tools: [Tools; 2],
}

impl Pairing {
    /// Part of a folder's name: nothing for our own pair with our own tools.
    pub(crate) fn suffix(&self) -> String {
        let mut text = String::new();
        if self.drivers != [Driver::Ours; 2] {
            let word = |driver| if driver == Driver::Ours { "ours" } else { "c" };
            text = format!("-{}_{}", word(self.drivers[0]), word(self.drivers[1]));
        }
        if self.tools != [Tools::Ours; 2] {
            text.push_str("-utils");
        }
        text
    }
}

/// A run as it was asked for.
#[derive(Clone)]
pub(crate) struct Bed {
    /// Top folder of the checkout.
    pub(crate) checkout: PathBuf,
    /// Where the folders of the scenarios go.
    pub(crate) out: PathBuf,
    /// Kernel of both nodes.
    pub(crate) kernel: Kernel,
    /// Modules and tools of both nodes.
    pub(crate) pairing: Pairing,
    /// Repetitions, for scenarios that repeat.
    pub(crate) rounds: Option<u32>,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// Print every step.
    pub(crate) loud: bool,
    /// Leave the nodes running at the end.
    pub(crate) keep: bool,
    /// Keep the host's processors from halting while something is measured.
    pub(crate) awake: bool,
}

impl Bed {
    /// Reads the words of a command line like `kernel=debug pair=ours/c tools=utils N=20 SEED=7`.
    pub(crate) fn from_words(words: &[String]) -> Result<Self> {
        let checkout = env::var_os("DRBD_CHECKOUT").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
            PathBuf::from,
        );
        let checkout = checkout.canonicalize().context("find the checkout")?;
        let out = env::var_os("DRBD_NODES_OUT")
            .map_or_else(|| checkout.join("target/nodes"), PathBuf::from);
        let mut bed = Self {
            checkout,
            out,
            kernel: Kernel::Debug,
            pairing: Pairing {
                drivers: [Driver::Ours; 2],
                tools: [Tools::Ours; 2],
            },
            rounds: None,
            seed: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |now| now.as_secs()),
            loud: false,
            keep: false,
            awake: true,
        };
        for word in words {
            bed.apply(word)?;
        }
        Ok(bed)
    }

    fn apply(&mut self, word: &str) -> Result<()> {
        let Some((key, value)) = word.split_once('=') else {
            bail!("expected KEY=VALUE, got {word:?}; see drbd-nodes --help")
        };
        match key.to_ascii_lowercase().as_str() {
            "kernel" => {
                self.kernel = match value {
                    "fast" => Kernel::Fast,
                    "debug" => Kernel::Debug,
                    "stock" => Kernel::Stock,
                    other => bail!("kernel is fast, debug or stock, not {other:?}"),
                }
            }
            "pair" => {
                self.pairing.drivers = both(value, |one| match one {
                    "ours" => Ok(Driver::Ours),
                    "c" => Ok(Driver::C),
                    other => bail!("a driver is ours or c, not {other:?}"),
                })?;
            }
            "tools" => {
                self.pairing.tools = both(value, |one| match one {
                    "ours" => Ok(Tools::Ours),
                    "utils" => Ok(Tools::Utils),
                    other => bail!("tools are ours or utils, not {other:?}"),
                })?;
            }
            "n" => self.rounds = Some(value.parse().context("N")?),
            "seed" => self.seed = value.parse().context("SEED")?,
            "keep" => self.keep = value == "1",
            "awake" => self.awake = value == "1",
            "loud" => self.loud = value == "1",
            other => bail!("unknown word {other:?}; see drbd-nodes --help"),
        }
        Ok(())
    }

    /// The machines of this run.
    pub(crate) fn backend(&self) -> Result<Arc<dyn Backend>> {
        Ok(match self.kernel {
            Kernel::Fast | Kernel::Debug => Arc::new(Uml {
                kind: self.kernel.word().to_owned(),
                build: self.uml_build()?,
                image: self.place("DRBD_NODE_IMAGE", &["build-node-image", "--print"])?,
                in_root: self.checkout.join("scripts/in-root"),
            }),
            Kernel::Stock => Arc::new(Qemu::find(self)?),
        })
    }

    fn uml_build(&self) -> Result<PathBuf> {
        let word = self.kernel.word();
        self.place(
            &format!("DRBD_UML_{}", word.to_ascii_uppercase()),
            &["build-uml", word, "--print"],
        )
    }

    /// A place named by an environment variable, or else printed by a script.
    pub(crate) fn place(&self, variable: &str, script: &[&str]) -> Result<PathBuf> {
        if let Some(place) = env::var_os(variable) {
            return Ok(PathBuf::from(place));
        }
        let path = self.checkout.join("scripts").join(script[0]);
        let output = Command::new(&path)
            .args(&script[1..])
            .output()
            .with_context(|| format!("run {}", path.display()))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            script.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let text = String::from_utf8(output.stdout).context("a path in UTF-8")?;
        Ok(PathBuf::from(text.trim()))
    }

    /// Our module for this kernel.
    pub(crate) fn module(&self) -> Result<PathBuf> {
        let variable = format!("DRBD_KO_{}", self.kernel.word().to_ascii_uppercase());
        let place = env::var_os(&variable).map_or_else(
            || {
                self.checkout
                    .join(format!("target/module-{}/drbd.ko", self.kernel.word()))
            },
            PathBuf::from,
        );
        ensure!(
            place.exists(),
            "our module is not built for the {} kernel: no {} (set {variable} to use another)",
            self.kernel.word(),
            place.display()
        );
        Ok(place)
    }

    /// Our tools, as a program that runs on a node.
    pub(crate) fn tools(&self) -> Result<PathBuf> {
        let place = env::var_os("DRBD_TOOLS").map_or_else(
            || self.checkout.join("target/release/drbd-tools"),
            PathBuf::from,
        );
        ensure!(
            place.exists(),
            "our tools are not built: no {}",
            place.display()
        );
        Ok(place)
    }
}

fn both<T: Copy>(value: &str, parse: impl Fn(&str) -> Result<T>) -> Result<[T; 2]> {
    match value.split_once('/') {
        Some((m, s)) => Ok([parse(m)?, parse(s)?]),
        None => Ok([parse(value)?; 2]),
    }
}
