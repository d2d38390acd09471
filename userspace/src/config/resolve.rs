//! Looks at the configuration from one node: which host section is ours, which the peer's.

use super::local::Node;
use super::model::{
    Address, Config, Device, Host, HostKind, MetaIndex, Resource, Settings, Volume,
};
use super::source::{Diagnostic, Place};

/// What one host section means, with stacked sections replaced by what they stand for.
#[derive(Clone, Debug)]
pub(crate) struct Side<'c> {
    /// The section.
    pub(crate) host: &'c Host,
    /// Names of the hosts it is about, none for a floating one.
    pub(crate) names: Vec<&'c str>,
    /// The resource below, if this one is stacked.
    pub(crate) lower: Option<&'c Resource>,
    /// The section of that resource whose devices are used: this node's, or the first elsewhere.
    pub(crate) below: Option<&'c Host>,
}

impl<'c> Side<'c> {
    /// Reports whether the section stands on top of another resource.
    pub(crate) fn is_stacked(&self) -> bool {
        matches!(self.host.kind, HostKind::Stacked(_))
    }

    /// Returns the device of volume `number` of the resource below.
    pub(crate) fn lower_device(&self, number: u32) -> Option<&'c Device> {
        let volumes = &self.below?.volumes;
        let volume = volumes.iter().find(|volume| volume.number == number)?;
        volume.device.as_ref()
    }

    /// Reports whether the section is about `node`.
    fn is_about(&self, node: &Node) -> bool {
        is_section_of(node, self.below.unwrap_or(self.host))
    }
}

/// Reports whether `host` describes `node`. A section on top of another resource says nothing.
fn is_section_of(node: &Node, host: &Host) -> bool {
    match &host.kind {
        HostKind::On(names) => names.iter().any(|name| name.text == node.name),
        HostKind::Floating => host
            .address
            .as_ref()
            .is_some_and(|address| node.has(address)),
        HostKind::Stacked(_) => false,
    }
}

/// A volume of this node with everything that is needed to use it.
#[derive(Clone, Debug)]
pub(crate) struct LocalVolume {
    /// Number of the volume within its resource.
    pub(crate) number: u32,
    /// Whether the configuration does not name the number.
    pub(crate) is_implicit: bool,
    /// Path of the device node.
    pub(crate) node: String,
    /// Device minor.
    pub(crate) minor: u32,
    /// Backing device.
    pub(crate) disk: String,
    /// Device of the metadata, the backing device if internal.
    pub(crate) meta_device: String,
    /// Where on that device.
    pub(crate) meta_index: MetaIndex,
    /// Disk options; `resync-after` still names a resource.
    pub(crate) options: Settings,
}

/// A resource as this node sees it.
#[derive(Clone, Debug)]
pub(crate) struct View<'c> {
    /// The resource.
    pub(crate) resource: &'c Resource,
    /// All host sections.
    pub(crate) sides: Vec<Side<'c>>,
    /// Index of our section; `None`: the resource is ignored on this node.
    pub(crate) me: Option<usize>,
    /// Index of the peer's section.
    pub(crate) peer: Option<usize>,
    /// Why there is no peer; printed by the commands that need one.
    pub(crate) no_peer: Option<String>,
}

impl<'c> View<'c> {
    /// Returns the name of the resource.
    pub(crate) fn name(&self) -> &'c str {
        &self.resource.name.text
    }

    /// Returns our side.
    pub(crate) fn mine(&self) -> Option<&Side<'c>> {
        self.sides.get(self.me?)
    }

    /// Returns the side of the peer.
    pub(crate) fn theirs(&self) -> Option<&Side<'c>> {
        self.sides.get(self.peer?)
    }

    /// Reports whether this node has no part in the resource.
    pub(crate) fn is_ignored(&self) -> bool {
        self.me.is_none()
    }

    /// Reports whether this node runs the resource on top of another one.
    pub(crate) fn is_stacked(&self) -> bool {
        self.mine().is_some_and(Side::is_stacked)
    }

    /// Returns the endpoint of this node.
    pub(crate) fn my_address(&self) -> Option<&'c Address> {
        self.mine().and_then(|side| side.host.address.as_ref())
    }

    /// Returns the endpoint to connect to: the peer's, or that of our proxy, which speaks to it.
    pub(crate) fn reached_at(&self) -> Option<&'c Address> {
        let peer = self.peer_address()?;
        let proxy = self.mine().and_then(|side| side.host.proxy.as_ref());
        Some(
            proxy
                .and_then(|proxy| proxy.inside.as_ref())
                .unwrap_or(peer),
        )
    }

    /// Returns the endpoint that the configuration gives the peer.
    pub(crate) fn peer_address(&self) -> Option<&'c Address> {
        self.theirs().and_then(|side| side.host.address.as_ref())
    }

    /// Returns the volumes of this node in ascending order.
    pub(crate) fn volumes(&self) -> Vec<LocalVolume> {
        let Some(side) = self.mine() else {
            return Vec::new();
        };
        side.host
            .volumes
            .iter()
            .filter_map(|volume| local_volume(side, volume))
            .collect()
    }
}

/// Collects what is known about a volume. `None` for one that `check` has refused already.
fn local_volume(side: &Side<'_>, volume: &Volume) -> Option<LocalVolume> {
    let device = volume.device.as_ref()?;
    let (disk, meta_device, meta_index) = match side.lower {
        Some(_) => {
            let disk = side.lower_device(volume.number)?.path();
            (disk.clone(), disk, MetaIndex::Internal)
        }
        None => {
            let disk = volume.disk.as_ref()?.text.clone();
            let meta = volume.meta_disk.as_ref()?;
            let is_internal = meta.index == MetaIndex::Internal;
            let meta_device = if is_internal {
                disk.clone()
            } else {
                meta.device.clone()
            };
            (disk, meta_device, meta.index.clone())
        }
    };
    Some(LocalVolume {
        number: volume.number,
        is_implicit: volume.is_implicit,
        node: device.path(),
        minor: device.minor,
        disk,
        meta_device,
        meta_index,
        options: volume.options.clone(),
    })
}

/// Looks at every resource of `config` from `node`.
///
/// `peer`, a name or an address, is the choice where more than one host could be the peer.
///
/// # Errors
///
/// Everything that makes the answer ambiguous, or a stacked resource without the one below it.
pub(crate) fn resolve<'c>(
    config: &'c Config,
    node: &Node,
    peer: Option<&str>,
) -> Result<Vec<View<'c>>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut views = Vec::new();
    for resource in &config.resources {
        match view(config, resource, node, peer) {
            Ok(view) => views.push(view),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(views)
    } else {
        Err(errors)
    }
}

/// Makes an error about a resource as a whole.
pub(crate) fn about(resource: &Resource, sentence: &str, remark: &str) -> Diagnostic {
    let sentence = format!("in resource {}:\n{sentence}", resource.name.text);
    Diagnostic::error(resource.place, sentence, remark)
}

fn view<'c>(
    config: &'c Config,
    resource: &'c Resource,
    node: &Node,
    peer: Option<&str>,
) -> Result<View<'c>, Diagnostic> {
    let mut sides = Vec::new();
    for host in &resource.hosts {
        sides.push(side(config, resource, host, node)?);
    }
    // Two floating sections of one node are its two ends of a test set-up: the first is ours.
    let is_mine = |at: &usize| sides.get(*at).is_some_and(|side| side.is_about(node));
    let mut candidates = (0..sides.len()).filter(is_mine);
    let me = candidates.next();
    if let (Some(first), Some(second)) = (me, candidates.next()) {
        if let (Some(first), Some(second)) = (sides.get(first), sides.get(second)) {
            let is_floating = |side: &Side<'_>| matches!(side.host.kind, HostKind::Floating);
            if !(is_floating(first) && is_floating(second)) {
                return Err(ambiguous(resource, first.host, second.host));
            }
        }
    }
    let mut view = View {
        resource,
        sides,
        me,
        peer: None,
        no_peer: None,
    };
    choose_peer(&mut view, peer);
    Ok(view)
}

fn ambiguous(resource: &Resource, first: &Host, second: &Host) -> Diagnostic {
    let sentence = format!(
        "in resource {}, on {} {{ ... }} ... on {} {{ ... }}:\n\tThere are multiple host sections \
         for this node.",
        resource.name.text,
        heading(first),
        heading(second),
    );
    Diagnostic::error(second.place, sentence, "this one too")
}

fn heading(host: &Host) -> String {
    match (&host.kind, &host.address) {
        (HostKind::Floating, Some(address)) => address.endpoint(),
        _ => host.label(),
    }
}

fn side<'c>(
    config: &'c Config,
    resource: &'c Resource,
    host: &'c Host,
    node: &Node,
) -> Result<Side<'c>, Diagnostic> {
    let HostKind::Stacked(lower) = &host.kind else {
        let names = host.names().iter().map(|name| name.text.as_str()).collect();
        return Ok(Side {
            host,
            names,
            lower: None,
            below: None,
        });
    };
    let Some(below) = config
        .resource(&lower.text)
        .filter(|below| !std::ptr::eq(*below, resource))
    else {
        let sentence = format!(
            "in resource {}, referenced resource '{}' not defined.",
            resource.name.text, lower.text
        );
        return Err(Diagnostic::error(lower.place, sentence, "not a resource"));
    };
    let mut hosts = below.hosts.iter();
    let own = hosts.find(|host| is_section_of(node, host));
    let names = below.hosts.iter().flat_map(Host::names);
    let names = names.map(|name| name.text.as_str()).collect();
    Ok(Side {
        host,
        names,
        lower: Some(below),
        below: own.or(below.hosts.first()),
    })
}

fn choose_peer(view: &mut View<'_>, wanted: Option<&str>) {
    let Some(me) = view.me else {
        return;
    };
    let others: Vec<usize> = (0..view.sides.len()).filter(|&at| at != me).collect();
    // Cluster managers and the kernel module name the peer in words of their own: nobody asks them
    // where there is nothing to choose.
    if let Some(wanted) = wanted.filter(|_| others.len() > 1) {
        let fits = |at: &&usize| {
            view.sides
                .get(**at)
                .is_some_and(|side| is_called(side, wanted))
        };
        view.peer = others.iter().find(fits).copied();
        if view.peer.is_none() {
            view.no_peer = Some(format!(
                "\tNo host ('on' or 'floating') section matches --peer '{wanted}'"
            ));
        }
        return;
    }
    match others.as_slice() {
        [only] => view.peer = Some(*only),
        [] => view.no_peer = Some("\tMissing section 'on <PEER> { ... }'.".to_owned()),
        _ => {
            view.no_peer = Some(
                "\tThere are multiple host sections for the peer node.\n\tUse the --peer option \
                 to select which peer section to use."
                    .to_owned(),
            );
        }
    }
}

fn is_called(side: &Side<'_>, wanted: &str) -> bool {
    let address = side.host.address.as_ref();
    let by_address = address.is_some_and(|address| {
        address.is_on(wanted)
            || [address.endpoint(), address.argument()]
                .iter()
                .any(|a| a == wanted)
    });
    side.names.contains(&wanted) || by_address
}

/// Returns the place to blame for a wrong address of this node.
pub(crate) fn address_place(host: &Host) -> Place {
    host.address
        .as_ref()
        .map_or(host.place, |address| address.place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parser;

    /// A stacked resource, and one below that knows its hosts by their addresses.
    const STACKED: &str = "resource low {
        disk /dev/sda1; meta-disk internal;
        floating 10.0.0.1:7788 { device /dev/drbd0; }
        floating 10.0.0.2:7788 { device /dev/drbd10; }
    }
    resource top {
        stacked-on-top-of low { device /dev/drbd20; address 192.168.42.1:7788; }
        on c {
            device /dev/drbd20; disk /dev/hda6; meta-disk internal;
            address 192.168.42.2:7788;
        }
    }";

    /// Two hosts without names.
    const FLOATING: &str = "resource r {
        device /dev/drbd0; disk /dev/sda1; meta-disk internal;
        floating 10.0.0.1:7788;
        floating 10.0.0.2:7788;
    }";

    fn config_of(text: &str) -> Config {
        let mut config = Config::default();
        let path = std::path::Path::new("/nowhere/test.conf");
        parser::parse(&mut config, "test.conf", path, text.to_owned()).expect("valid");
        config.expanded()
    }

    #[test]
    fn the_only_other_host_is_the_peer_whatever_name_is_given() {
        let config = config_of(FLOATING);
        let node = Node::for_test("x", &["10.0.0.1"]);
        for wanted in [None, Some("10.0.0.2"), Some("somebody"), Some("x")] {
            let views = resolve(&config, &node, wanted).expect("no doubt");
            let peer = views[0].peer_address().map(Address::endpoint);
            assert_eq!(peer.as_deref(), Some("10.0.0.2:7788"), "{wanted:?}");
        }
    }

    #[test]
    fn a_stacked_section_is_ours_if_one_below_is() {
        let config = config_of(STACKED);
        for (address, disk) in [("10.0.0.1", "/dev/drbd0"), ("10.0.0.2", "/dev/drbd10")] {
            let node = Node::for_test("x", &[address]);
            let views = resolve(&config, &node, None).expect("no doubt");
            let disks: Vec<String> = views[1].volumes().into_iter().map(|v| v.disk).collect();
            assert_eq!(disks, [disk], "{address}");
        }
        let node = Node::for_test("c", &["10.0.0.3"]);
        let views = resolve(&config, &node, None).expect("no doubt");
        assert!(!views[1].is_ignored() && !views[1].is_stacked());
    }
}
