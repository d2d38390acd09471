// SPDX-License-Identifier: GPL-2.0-only

//! A replicated block device, compatible with DRBD 8.4.
//!
//! This file is the module: what is registered, in which order, and how it goes away again.

use kernel::{
    prelude::*,
    sync::Arc, //
};

mod admin;
mod bell;
mod complete;
mod depend;
mod disk;
mod helper;
mod kabi;
mod name;
mod net;
mod observe;
mod perform;
mod registry;
mod resource;
mod submit;
mod threads;
mod volume;

use admin::Admin;
use kabi::{
    disk as block,
    genl,
    params,
    proc, //
};
use observe::ProcDrbd;
use registry::Registry;

module! {
    type: Drbd,
    name: "drbd",
    authors: ["The drbd-rs authors"],
    description: "drbd - Distributed Replicated Block Device v8.4.11-rs.1",
    license: "GPL",
}

/// The module. Its fields go in this order: first what users see, then what serves them, last the
/// resources, which have neither volumes nor connections while nobody holds the module.
pub(crate) struct Drbd {
    _proc: proc::ProcFile<ProcDrbd>,
    _family: genl::Family<Admin>,
    _major: block::Major,
    _resources: Resources,
}

impl kernel::Module for Drbd {
    fn init(_: &'static ThisModule) -> Result<Self> {
        params::minor_count().inspect_err(|_| pr_err!("minor_count must be in 1..255\n"))?;
        let events = genl::Events::new()?;
        let registry = Registry::new(events.clone())?;
        let admin = Arc::new(
            Admin {
                registry: registry.clone(),
            },
            GFP_KERNEL,
        )?;
        let show = Arc::new(
            ProcDrbd {
                registry: registry.clone(),
            },
            GFP_KERNEL,
        )?;
        let major = block::Major::register()
            .inspect_err(|_| pr_err!("unable to register block device major 147\n"))?;
        let family = genl::Family::register(admin, &events)
            .inspect_err(|_| pr_err!("unable to register generic netlink family\n"))?;
        let proc = proc::ProcFile::new(c"drbd", show)
            .inspect_err(|_| pr_err!("unable to register proc file\n"))?;
        let version = observe::VERSION;
        pr_info!("initialized. Version: {version} (api:1/proto:86-101)\n");
        pr_info!("srcversion: {}\n", kabi::module::srcversion());
        pr_info!("registered as block device major 147\n");
        Ok(Self {
            _proc: proc,
            _family: family,
            _major: major,
            _resources: Resources(registry),
        })
    }
}

/// The resources that are left when the module goes: none, as each of them holds the module.
struct Resources(Arc<Registry>);

impl Drop for Resources {
    fn drop(&mut self) {
        self.0.shut_down();
        pr_info!("module cleanup done.\n");
    }
}
