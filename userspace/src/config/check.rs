//! Complains about what can only be seen with the whole configuration in view.
//!
//! All complaints are collected; the messages are those of `reference/userland.md 1.9`.

use drbd_format::options::Section;

use super::model::{Config, Host, HostKind, MetaIndex, Resource, Volume};
use super::parser::missing;
use super::resolve::{about, View};
use super::source::{Diagnostic, Place};

/// Something of which each node, or the whole configuration, has only one.
struct Use {
    kind: &'static str,
    key: String,
    place: Place,
}

/// Checks what does not depend on the node: complete volumes, nothing used twice.
pub(crate) fn check(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for resource in &config.resources {
        for host in &resource.hosts {
            complete(resource, host, &mut found);
            not_mixed(resource, host, &mut found);
        }
        same_volumes(resource, &mut found);
        proxies(resource, &mut found);
    }
    if found.is_empty() {
        unique(config, &mut found);
    }
    found
}

fn complete(resource: &Resource, host: &Host, found: &mut Vec<Diagnostic>) {
    let is_stacked = matches!(host.kind, HostKind::Stacked(_));
    for volume in &host.volumes {
        let mut demand = |is_there: bool, keyword: &str| {
            if !is_there {
                found.push(missing(&resource.name.text, host, keyword));
            }
        };
        demand(volume.device.is_some(), "device");
        if !is_stacked {
            demand(volume.disk.is_some(), "disk");
            demand(volume.meta_disk.is_some(), "meta-disk");
            demand(volume.meta_disk.is_some(), "meta-index");
        }
    }
}

fn not_mixed(resource: &Resource, host: &Host, found: &mut Vec<Diagnostic>) {
    let explicit = host.volumes.iter().find(|volume| !volume.is_implicit);
    let implicit = host.volumes.iter().find(|volume| volume.is_implicit);
    if let (Some(explicit), Some(_)) = (explicit, implicit) {
        let sentence = format!(
            "in resource {}: you must not mix implicit and explicit volumes",
            resource.name.text
        );
        let place = if found.iter().any(|other| other.sentence == sentence) {
            host.place
        } else {
            explicit.place
        };
        found.push(Diagnostic::error(
            place,
            sentence,
            "write 'volume N { }' around all or none",
        ));
    }
}

fn same_volumes(resource: &Resource, found: &mut Vec<Diagnostic>) {
    for host in &resource.hosts {
        for other in resource
            .hosts
            .iter()
            .filter(|other| !std::ptr::eq(*other, host))
        {
            for volume in &host.volumes {
                match other.volumes.iter().find(|its| its.number == volume.number) {
                    None => found.push(Diagnostic::error(
                        host.place,
                        format!(
                            "in resource {}, on {} {{ ... }}: volume {} not defined on {}",
                            resource.name.text,
                            host.label(),
                            volume.number,
                            other.label()
                        ),
                        "both hosts need the same volumes",
                    )),
                    Some(its) => nature(resource, (host, volume), (other, its), found),
                }
            }
        }
    }
}

fn nature(
    resource: &Resource,
    (host, volume): (&Host, &Volume),
    (other, its): (&Host, &Volume),
    found: &mut Vec<Diagnostic>,
) {
    if volume.is_implicit && !its.is_implicit {
        let sentence = format!(
            "in resource {}, on {} resp. {}: volume {} must not be implicit on one but not the \
             other",
            resource.name.text,
            host.label(),
            other.label(),
            volume.number
        );
        found.push(Diagnostic::error(
            host.place,
            sentence,
            "no 'volume' section here",
        ));
    }
}

fn proxies(resource: &Resource, found: &mut Vec<Diagnostic>) {
    let with = resource
        .hosts
        .iter()
        .filter(|host| host.proxy.is_some())
        .count();
    if with != 0 && with != resource.hosts.len() {
        found.push(about(
            resource,
            "\tEither both 'on' sections must contain a proxy subsection, or none.",
            "one host has a proxy",
        ));
    }
    for host in &resource.hosts {
        let Some(proxy) = &host.proxy else {
            continue;
        };
        let names: Vec<&str> = proxy.hosts.iter().map(|name| name.text.as_str()).collect();
        let place = proxy.hosts.first().map_or(host.place, |name| name.place);
        let (inside, outside) = (proxy.inside.is_some(), proxy.outside.is_some());
        for (keyword, is_there) in [("inside", inside), ("outside", outside)] {
            if !is_there {
                let sentence = format!(
                    "in section: on {} {{ proxy on {} {{ ... }} }}: '{keyword}' keyword missing.",
                    host.label(),
                    names.join(" ")
                );
                let remark = format!("no '{keyword}' for this proxy");
                found.push(Diagnostic::error(place, sentence, &remark));
            }
        }
    }
}

fn unique(config: &Config, found: &mut Vec<Diagnostic>) {
    let mut uses: Vec<Use> = Vec::new();
    for resource in &config.resources {
        for host in &resource.hosts {
            let mut of_host = Vec::new();
            for name in names_of(config, host) {
                for volume in &host.volumes {
                    uses_of_volume(resource, host, volume, &name, &mut of_host);
                }
            }
            uses_of_address(config, host, &mut of_host);
            for one in of_host {
                match uses
                    .iter()
                    .find(|other| other.kind == one.kind && other.key == one.key)
                {
                    Some(first) => found.push(super::parser::conflict(
                        one.kind,
                        &one.key,
                        one.place,
                        first.place,
                    )),
                    None => uses.push(one),
                }
            }
        }
    }
}

/// Returns the names under which the devices of a host section are counted.
fn names_of(config: &Config, host: &Host) -> Vec<String> {
    match &host.kind {
        HostKind::On(names) => names.iter().map(|name| name.text.clone()).collect(),
        HostKind::Floating => host
            .address
            .iter()
            .map(|address| address.endpoint())
            .collect(),
        HostKind::Stacked(lower) => {
            let lower = config.resource(&lower.text);
            let hosts = lower.into_iter().flat_map(|lower| &lower.hosts);
            hosts
                .flat_map(Host::names)
                .map(|name| name.text.clone())
                .collect()
        }
    }
}

fn uses_of_volume(
    resource: &Resource,
    host: &Host,
    volume: &Volume,
    name: &str,
    uses: &mut Vec<Use>,
) {
    let inherited = resource
        .volumes
        .iter()
        .find(|outer| outer.number == volume.number);
    // What is written once for all hosts is blamed on the host section that uses it.
    let place_of = |place: Place, outer: Option<Place>| {
        if outer == Some(place) {
            host.place
        } else {
            place
        }
    };
    if let Some(device) = &volume.device {
        let outer = inherited
            .and_then(|outer| outer.device.as_ref())
            .map(|d| d.place);
        let key = format!("device-minor:{name}:{}", device.minor);
        uses.push(Use {
            kind: "device-minor",
            key,
            place: place_of(device.place, outer),
        });
    }
    if let Some(disk) = &volume.disk {
        let outer = inherited
            .and_then(|outer| outer.disk.as_ref())
            .map(|d| d.place);
        // Resources that name a disk for one host may take turns with it.
        if outer == Some(disk.place) {
            uses.push(Use {
                kind: "disk",
                key: format!("disk:{name}:{}", disk.text),
                place: host.place,
            });
        }
    }
    if let Some(meta) = volume
        .meta_disk
        .as_ref()
        .filter(|m| m.index != MetaIndex::Internal)
    {
        let outer = inherited
            .and_then(|outer| outer.meta_disk.as_ref())
            .map(|m| m.place);
        let key = format!("{name}:{}[{}]", meta.device, meta.index);
        uses.push(Use {
            kind: "meta-disk",
            key,
            place: place_of(meta.place, outer),
        });
    }
}

fn uses_of_address(config: &Config, host: &Host, uses: &mut Vec<Use>) {
    let proxy = host
        .proxy
        .iter()
        .flat_map(|proxy| [&proxy.inside, &proxy.outside]);
    let addresses = [&host.address, &host.alternate].into_iter().chain(proxy);
    for address in addresses.flatten() {
        let is_loopback = address.host.starts_with("127.") || address.host == "::1";
        let endpoint = format!("{}:{}", address.host, address.port);
        if is_loopback {
            // Every host has this address: tests run both nodes on one machine.
            for name in names_of(config, host) {
                let key = format!("{name}:{endpoint}");
                uses.push(Use {
                    kind: "IP",
                    key,
                    place: address.place,
                });
            }
        } else {
            uses.push(Use {
                kind: "IP",
                key: endpoint,
                place: address.place,
            });
        }
    }
}

/// Checks the resources that this node takes part in, after expansion.
pub(crate) fn check_views(views: &[View<'_>]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let all_have_peers = views.iter().all(|view| view.peer.is_some());
    for view in views.iter().filter(|view| !view.is_ignored()) {
        on_top_of_volumes(view, &mut found);
        become_primary_on(view, &mut found);
        if all_have_peers {
            discard_node(view, &mut found);
        }
    }
    found
}

/// Every volume of a stacked resource needs its own one below: that is its backing device.
fn on_top_of_volumes(view: &View<'_>, found: &mut Vec<Diagnostic>) {
    let Some(mine) = view.mine() else {
        return;
    };
    let Some(lower) = mine.lower else {
        return;
    };
    let label = match mine.names.is_empty() {
        true => mine.host.label(),
        false => mine.names.join(" "),
    };
    for volume in &mine.host.volumes {
        if mine.lower_device(volume.number).is_none() {
            found.push(Diagnostic::error(
                mine.host.place,
                format!(
                    "in resource {}, on {label} {{ ... }}: volume {} not defined on {}",
                    view.name(),
                    volume.number,
                    lower.name.text
                ),
                "the resource below needs the same volumes",
            ));
        }
    }
}

fn become_primary_on(view: &View<'_>, found: &mut Vec<Diagnostic>) {
    let sections = &view.resource.sections;
    for name in &sections.startup.become_primary_on {
        let is_known = || {
            view.sides
                .iter()
                .any(|side| side.names.contains(&name.text.as_str()))
        };
        if name.text == "both" {
            if !sections.net.is_on("allow-two-primaries") {
                found.push(about(
                    view.resource,
                    "become-primary-on is set to both, but allow-two-primaries is not set.",
                    "cannot be primary on both",
                ));
            }
        } else if !is_known() {
            let sentence = format!(
                "\tbecome-primary-on contains '{}', which is not named with the 'on' sections.",
                name.text
            );
            found.push(about(view.resource, &sentence, "names an unknown host"));
        }
    }
}

fn discard_node(view: &View<'_>, found: &mut Vec<Diagnostic>) {
    let Some(setting) = view.resource.sections.net.get("after-sb-0pri") else {
        return;
    };
    let Some(name) = setting.value.strip_prefix("discard-node-") else {
        return;
    };
    let names: Vec<&str> = view
        .sides
        .iter()
        .flat_map(|side| side.names.clone())
        .collect();
    if !names.contains(&name) {
        let sentence = format!(
            "in resource {}:\n\tthe nodename in the '{}' option is not known.\n\tValid nodenames \
             are: {}",
            view.name(),
            setting.value,
            names.join(" ")
        );
        found.push(Diagnostic::error(
            setting.place,
            sentence,
            "not a host of this resource",
        ));
    }
}

/// Turns the `resync-after` options of this node's volumes into minors.
///
/// Returns the minor for the text `RES`, `RES/VNR`, `minor-N` or a number.
///
/// # Errors
///
/// The complaint about a name that cannot be translated.
pub(crate) fn resync_after(
    views: &[View<'_>],
    resource: &Resource,
    wanted: &str,
) -> Result<i64, Diagnostic> {
    if let Ok(minor) = wanted.parse() {
        return Ok(minor);
    }
    let (name, number) = match wanted.rsplit_once('/') {
        Some((name, number)) => (name, number.parse::<u32>().ok()),
        None => (wanted, None),
    };
    let by_minor = wanted
        .strip_prefix("minor-")
        .and_then(|minor| minor.parse().ok());
    if let Some(minor) = by_minor {
        return Ok(minor);
    }
    let unknown = |suffix: &str| {
        let sentence = format!(
            "\tresource '{wanted}' mentioned in '{}' option is not known{suffix}.",
            Section::Disk
                .find("resync-after")
                .map_or("resync-after", |spec| spec.name)
        );
        about(resource, &sentence, "waits for an unknown resource")
    };
    let Some(view) = views.iter().find(|view| view.name() == name) else {
        return Err(unknown(""));
    };
    if view.is_ignored() {
        return Err(unknown(" on this host"));
    }
    let volumes = view.volumes();
    if number.is_none() && volumes.len() > 1 {
        let sentence = format!(
            "resync-after contains '{wanted}', which is ambiguous, since it contains {} volumes",
            volumes.len()
        );
        return Err(about(resource, &sentence, "which volume?"));
    }
    let fits =
        |volume: &&super::resolve::LocalVolume| number.is_none_or(|number| number == volume.number);
    volumes
        .iter()
        .find(fits)
        .map(|volume| i64::from(volume.minor))
        .ok_or_else(|| unknown(""))
}
