//! Compares a resource as configured with the resource as the kernel runs it.
//!
//! The rules are those of `reference/userland.md 2.6`. The running side is what `drbdsetup show`
//! prints, read with the grammar of the configuration.

use super::call::Maker;
use crate::config::model::{Host, MetaIndex, Name, Resource, Setting, Settings, Volume};
use crate::config::resolve::LocalVolume;

/// An option that has another value than it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OptionChange {
    /// Name of the option.
    pub(crate) name: &'static str,
    /// What the kernel has; `None`: its default.
    pub(crate) from: Option<String>,
    /// What the configuration says; `None`: the default.
    pub(crate) to: Option<String>,
}

impl OptionChange {
    fn new(from: Option<&Setting>, to: Option<&Setting>) -> Option<Self> {
        let spec = from.or(to)?.spec;
        let shown = |setting: &Setting| match spec.sensitive {
            true => "(hidden)".to_owned(),
            false => setting.value.clone(),
        };
        let (from, to) = (from.map(shown), to.map(shown));
        Some(Self {
            name: spec.name,
            from,
            to,
        })
    }

    fn describe(&self) -> String {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
        format!("{}: {} -> {}", self.name, side(&self.from), side(&self.to))
    }
}

/// One thing to do about a resource.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Attach the disk of a volume.
    Attach(LocalVolume),
    /// Connect to the peer.
    Connect,
    /// Create the minor of a volume.
    CreateMinor(LocalVolume),
    /// Create the resource.
    CreateResource,
    /// Delete a minor.
    DeleteMinor(u32),
    /// Detach the disk of a minor.
    Detach(u32),
    /// End the connection between these endpoints.
    Disconnect([String; 2]),
    /// Change the options of a disk.
    DiskOptions(LocalVolume, Vec<OptionChange>),
    /// Change the options of the connection.
    NetOptions(Vec<OptionChange>),
    /// Change the size of a volume.
    Resize(LocalVolume, Vec<OptionChange>),
    /// Change the options of the resource.
    ResourceOptions(Vec<OptionChange>),
}

impl Change {
    /// Says in words what is to be done, one line for each option.
    pub(crate) fn describe(&self) -> Vec<String> {
        let of = |volume: &LocalVolume| format!("volume {}", volume.number);
        let each = |what: &str, options: &[OptionChange]| -> Vec<String> {
            options
                .iter()
                .map(|option| format!("{what}: {}", option.describe()))
                .collect()
        };
        match self {
            Self::Attach(volume) => vec![format!("{}: attach {}", of(volume), volume.disk)],
            Self::Connect => vec!["connect".to_owned()],
            Self::CreateMinor(volume) => {
                vec![format!("{}: create minor {}", of(volume), volume.minor)]
            }
            Self::CreateResource => vec!["create the resource".to_owned()],
            Self::DeleteMinor(minor) => vec![format!("delete minor {minor}")],
            Self::Detach(minor) => vec![format!("detach minor {minor}")],
            Self::Disconnect([local, peer]) => vec![format!("disconnect {local} from {peer}")],
            Self::DiskOptions(volume, options) | Self::Resize(volume, options) => {
                each(&format!("{}: disk", of(volume)), options)
            }
            Self::NetOptions(options) => each("net", options),
            Self::ResourceOptions(options) => each("options", options),
        }
    }
}

/// All that has to be done about a resource, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    /// The changes.
    pub(crate) changes: Vec<Change>,
}

/// Returns what has to be done so that `running` becomes what `maker` wants.
///
/// `running` is `None` if the kernel does not know the resource.
pub(crate) fn compare(maker: &Maker<'_>, running: Option<&Resource>) -> Difference {
    let mut changes = Vec::new();
    let wanted = maker.view.volumes();
    let Some(running) = running else {
        changes.push(Change::CreateResource);
        changes.extend(wanted.iter().cloned().map(Change::CreateMinor));
        changes.extend(wanted.iter().cloned().map(Change::Attach));
        changes.push(Change::Connect);
        return Difference { changes };
    };
    let own = &maker.view.resource.sections.options;
    let options = changed(own, &running.sections.options, |_| true);
    if !options.is_empty() {
        changes.push(Change::ResourceOptions(options));
    }
    let here = running.running.here.as_deref();
    let present = here.map_or(&[][..], |host| host.volumes.as_slice());
    compare_volumes(maker, &wanted, present, &mut changes);
    compare_connection(maker, running, here, &mut changes);
    Difference { changes }
}

fn compare_volumes(
    maker: &Maker<'_>,
    wanted: &[LocalVolume],
    present: &[Volume],
    changes: &mut Vec<Change>,
) {
    let mut numbers: Vec<u32> = wanted.iter().map(|volume| volume.number).collect();
    numbers.extend(present.iter().map(|volume| volume.number));
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let wanted = wanted.iter().find(|volume| volume.number == number);
        let present = present.iter().find(|volume| volume.number == number);
        match (wanted, present) {
            (Some(wanted), Some(present)) => compare_volume(maker, wanted, present, changes),
            (Some(wanted), None) => create(wanted, changes),
            (None, Some(present)) => remove(present, changes),
            (None, None) => {}
        }
    }
}

fn create(wanted: &LocalVolume, changes: &mut Vec<Change>) {
    changes.push(Change::CreateMinor(wanted.clone()));
    changes.push(Change::Attach(wanted.clone()));
}

fn remove(present: &Volume, changes: &mut Vec<Change>) {
    let Some(device) = &present.device else {
        return;
    };
    if present.disk.is_some() {
        changes.push(Change::Detach(device.minor));
    }
    changes.push(Change::DeleteMinor(device.minor));
}

fn compare_volume(
    maker: &Maker<'_>,
    wanted: &LocalVolume,
    present: &Volume,
    changes: &mut Vec<Change>,
) {
    let minor = present.device.as_ref().map(|device| device.minor);
    if minor != Some(wanted.minor) {
        remove(present, changes);
        create(wanted, changes);
        return;
    }
    let options = maker.disk_options(wanted);
    let Some(disk) = &present.disk else {
        changes.push(Change::Attach(wanted.clone()));
        return;
    };
    let bvecs = changed(&options, &present.options, |name| name == "max-bio-bvecs");
    if !same_devices(wanted, disk, present) || !bvecs.is_empty() {
        changes.push(Change::Detach(wanted.minor));
        changes.push(Change::Attach(wanted.clone()));
        return;
    }
    let size = changed(&options, &present.options, |name| name == "size");
    if !size.is_empty() {
        changes.push(Change::Resize(wanted.clone(), size));
    }
    let others = |name: &str| !matches!(name, "size" | "max-bio-bvecs");
    let others = changed(&options, &present.options, others);
    if !others.is_empty() {
        changes.push(Change::DiskOptions(wanted.clone(), others));
    }
}

/// Reports whether backing device and place of the metadata are the same.
fn same_devices(wanted: &LocalVolume, disk: &Name, present: &Volume) -> bool {
    if wanted.disk != disk.text {
        return false;
    }
    let Some(meta) = &present.meta_disk else {
        return false;
    };
    match (&wanted.meta_index, &meta.index) {
        (MetaIndex::Internal, MetaIndex::Internal) => true,
        (MetaIndex::Internal, _) | (_, MetaIndex::Internal) => false,
        (ours, running) => ours == running && wanted.meta_device == meta.device,
    }
}

fn compare_connection(
    maker: &Maker<'_>,
    running: &Resource,
    here: Option<&Host>,
    changes: &mut Vec<Change>,
) {
    let local = here.and_then(|host| host.address.as_ref());
    let there = running.running.there.as_deref();
    let remote = there.and_then(|host| host.address.as_ref());
    let (Some(local), Some(remote)) = (local, remote) else {
        changes.push(Change::Connect);
        return;
    };
    let same = |ours: Option<&crate::config::model::Address>, theirs| {
        ours.is_some_and(|ours| ours.same_as(theirs))
    };
    let view = maker.view;
    if !same(view.my_address(), local) || !same(view.reached_at(), remote) {
        changes.push(Change::Disconnect([local.argument(), remote.argument()]));
        changes.push(Change::Connect);
        return;
    }
    let lasting = |name: &str| !matches!(name, "discard-my-data" | "tentative");
    let options = changed(&maker.net_options(), &running.sections.net, lasting);
    if !options.is_empty() {
        changes.push(Change::NetOptions(options));
    }
}

/// Returns the options that `counts` and about which the two sides do not say the same.
///
/// An option that only one side has must hold its default.
fn changed(
    wanted: &Settings,
    present: &Settings,
    counts: impl Fn(&str) -> bool,
) -> Vec<OptionChange> {
    let mut names: Vec<&str> = Vec::new();
    for setting in wanted.0.iter().chain(&present.0) {
        if counts(setting.name()) && !names.contains(&setting.name()) {
            names.push(setting.name());
        }
    }
    let differs = |name: &str| match (wanted.get(name), present.get(name)) {
        (Some(wanted), Some(present)) => !wanted.says_the_same(present),
        (Some(only), None) | (None, Some(only)) => !only.is_default(),
        (None, None) => false,
    };
    let changes = names.into_iter().filter(|name| differs(name));
    changes
        .filter_map(|name| OptionChange::new(present.get(name), wanted.get(name)))
        .collect()
}
