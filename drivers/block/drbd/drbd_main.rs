// SPDX-License-Identifier: GPL-2.0-only

//! A replicated block device, compatible with DRBD 8.4.
//!
//! This file is the module: what is registered, in which order, and how it goes away again.

use core::fmt::Write;
use kernel::{
    prelude::*,
    sync::Arc, //
};

mod kabi;

use kabi::{
    disk,
    genl,
    params,
    proc, //
};

module! {
    type: Drbd,
    name: "drbd",
    authors: ["The drbd-rs authors"],
    description: "drbd - Distributed Replicated Block Device, in Rust",
    license: "GPL",
}

/// What `/proc/drbd` begins with. The tools take the version from here.
const VERSION_LINE: &str = "version: 8.4.11-rs.1 (api:1/proto:86-101)\n";

/// The module. Its fields go in this order: first what users see, then what serves them.
pub(crate) struct Drbd {
    _proc: proc::ProcFile<Driver>,
    _family: genl::Family<Driver>,
    _major: disk::Major,
    _driver: Arc<Driver>,
}

/// What the callbacks of the kernel work with.
struct Driver {
    _events: Arc<genl::Events>,
}

impl proc::ProcShow for Driver {
    fn show(&self, out: &mut proc::SeqWriter<'_>) -> Result {
        out.write_str(VERSION_LINE)?;
        Ok(())
    }
}

impl genl::Handler for Driver {
    const COMMANDS: &'static [genl::Command] = &[genl::Command {
        number: 2,
        doit: true,
        dump: true,
        admin: false,
    }];

    fn doit(&self, _: &genl::Request<'_>) -> Result {
        Err(EOPNOTSUPP)
    }

    fn dump(&self, _: &genl::Request<'_>, _: &mut genl::Dump<'_>) -> Result {
        Ok(())
    }
}

impl kernel::Module for Drbd {
    fn init(_: &'static ThisModule) -> Result<Self> {
        params::minor_count().inspect_err(|_| pr_err!("minor_count must be in 1..255\n"))?;
        let events = genl::Events::new()?;
        let driver = Arc::new(
            Driver {
                _events: events.clone(),
            },
            GFP_KERNEL,
        )?;
        let major = disk::Major::register()
            .inspect_err(|_| pr_err!("unable to register block device major 147\n"))?;
        let family = genl::Family::register(driver.clone(), &events)
            .inspect_err(|_| pr_err!("unable to register generic netlink family\n"))?;
        let proc = proc::ProcFile::new(c"drbd", driver.clone())
            .inspect_err(|_| pr_err!("unable to register proc file\n"))?;
        pr_info!("initialized. {}", VERSION_LINE);
        Ok(Self {
            _proc: proc,
            _family: family,
            _major: major,
            _driver: driver,
        })
    }
}
