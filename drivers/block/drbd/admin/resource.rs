// SPDX-License-Identifier: GPL-2.0-only

//! Commands about a whole resource.

use super::{
    connection,
    events,
    request::{
        lock,
        Failure,
        Job, //
    },
    volume, //
};
use crate::{
    name::Name,
    registry::Registry,
    resource::{
        Life,
        Resource, //
    }, //
};
use drbd_core::{
    config::ResourceConfig,
    input::AdminRequest, //
};
use drbd_format::{
    netlink::{
        codes::RetCode,
        info::notification, //
    },
    options::ResourceOpts,
    types::ConnState, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// new-resource (reference/netlink.md 2.3).
#[inline(never)]
pub(super) fn create(registry: &Arc<Registry>, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let options = read_options(job, ResourceOpts::default())?;
    let Some(name) = job.context.resource_name.filter(|name| !name.is_empty()) else {
        return Err(Failure::new(
            RetCode::MANDATORY_TAG,
            Some("resource name missing"),
        ));
    };
    let _structure = registry.lock_structure();
    let name = Name::new(name.as_bytes())
        .map_err(|_| Failure::new(RetCode::INVALID_REQUEST, Some("invalid resource name")))?;
    if registry.by_name(&name).is_some() {
        return if job.exclusive() {
            Err(Failure::new(
                RetCode::INVALID_REQUEST,
                Some("resource exists"),
            ))
        } else {
            Ok(RetCode::NO_ERROR)
        };
    }
    check_cpu_mask(&options, RetCode::NOMEM)?;
    let resource = Resource::new(name, registry)?;
    // Nobody else finds it before it is complete and its listeners know it.
    let made = apply(job, &resource, options);
    if !made.as_ref().is_ok_and(|code| code.is_success()) {
        resource.shut_down();
        return made;
    }
    events::resource(&resource, notification::CREATE);
    if let Err(error) = registry.add(resource.clone()) {
        events::resource(&resource, notification::DESTROY);
        resource.shut_down();
        return Err(error.into());
    }
    Ok(RetCode::NO_ERROR)
}

/// del-resource (reference/netlink.md 2.6).
#[inline(never)]
pub(super) fn delete(registry: &Registry, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let mut admin = lock(&resource)?;
    remove(registry, &resource, &mut admin)?;
    drop(admin);
    resource.shut_down();
    Ok(RetCode::NO_ERROR)
}

/// Takes the resource away from everybody. What is left is [`Resource::shut_down`], without the
/// admin mutex: a handler may still run and wait for it.
fn remove(registry: &Registry, resource: &Arc<Resource>, life: &mut Life) -> Result<(), Failure> {
    let status = resource.with(|inner, _| inner.core.status());
    if u32::from(status.connection) > ConnState::StandAlone.to_wire() {
        return Err(Failure::code(RetCode::NET_CONFIGURED));
    }
    if resource.volumes().iter().flatten().next().is_some() {
        return Err(Failure::code(RetCode::RES_IN_USE));
    }
    events::resource(resource, notification::DESTROY);
    registry.remove(resource);
    *life = Life::Gone;
    Ok(())
}

/// resource-opts (reference/netlink.md 2.7).
#[inline(never)]
pub(super) fn options(job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let _admin = lock(&resource)?;
    let base = if job.set_defaults() {
        ResourceOpts::default()
    } else {
        *resource.options.lock()
    };
    let options = read_options(job, base)?;
    check_cpu_mask(&options, RetCode::INVALID_REQUEST)?;
    apply(job, &resource, options)
}

fn read_options(job: &Job<'_>, base: ResourceOpts) -> Result<ResourceOpts, Failure> {
    let mut options = base;
    if let Some(nest) = job.message.nest(ResourceOpts::TLA, ResourceOpts::FIELDS)? {
        options.apply(&nest)?;
    }
    Ok(options)
}

/// A mask is hexadecimal digits in groups separated by commas.
fn check_cpu_mask(options: &ResourceOpts, code: RetCode) -> Result<(), Failure> {
    let is_mask = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b',';
    if options.cpu_mask.as_bytes().iter().all(is_mask) {
        Ok(())
    } else {
        Err(Failure::code(code))
    }
}

fn apply(
    job: &mut Job<'_>,
    resource: &Resource,
    options: ResourceOpts,
) -> Result<RetCode, Failure> {
    resource.set_options(options);
    let config = ResourceConfig::from(&options);
    job.command(resource, &AdminRequest::ResourceOptions { config })
}

/// down (reference/netlink.md 2.20).
#[inline(never)]
pub(super) fn down(registry: &Registry, job: &mut Job<'_>) -> Result<RetCode, Failure> {
    let resource = job.resource()?;
    let mut admin = lock(&resource)?;
    let step = |result: Result<RetCode, Failure>, ok: fn(RetCode) -> bool, text| match result {
        Ok(code) if ok(code) => Ok(()),
        Ok(code) | Err(Failure { code, .. }) => Err(Failure::new(code, Some(text))),
    };
    let state_ok = |code: RetCode| code.is_success();
    for of in resource.volumes().iter().flatten() {
        step(volume::demote(job, of), state_ok, "failed to demote")?;
    }
    step(
        connection::leave(job, &resource, false),
        state_ok,
        "failed to disconnect",
    )?;
    for of in resource.volumes().iter().flatten() {
        step(
            volume::leave_disk(job, of, false),
            state_ok,
            "failed to detach",
        )?;
    }
    for of in resource.volumes().iter().flatten() {
        step(volume::remove(job, of), state_ok, "failed to delete volume")?;
    }
    remove(registry, &resource, &mut admin)?;
    drop(admin);
    resource.shut_down();
    Ok(RetCode::NO_ERROR)
}
