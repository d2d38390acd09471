//! Calls of drbdsetup and drbdmeta as values: what drbdadm runs, or prints with `--dry-run`.
//!
//! Which command makes which calls: `reference/userland.md 2.4`.

use drbd_format::options::Change;

use crate::config::check;
use crate::config::model::{MetaIndex, Resource, Setting, Settings};
use crate::config::resolve::{LocalVolume, View};
use crate::config::source::Diagnostic;

/// Which program is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tool {
    /// drbdmeta.
    Meta,
    /// drbdsetup.
    Setup,
    /// `/bin/sh -c`.
    Shell,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Limit {
    /// As long as it wants.
    Forever,
    /// `cmd-timeout-long`.
    Long,
    /// `cmd-timeout-medium`.
    Medium,
    /// `cmd-timeout-short`.
    Short,
}

/// One call of a helper program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Call {
    /// The program.
    pub(crate) tool: Tool,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// How long it may take.
    pub(crate) limit: Limit,
}

impl Call {
    /// Makes a call of drbdsetup.
    pub(crate) fn setup<A: Into<String>>(limit: Limit, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            tool: Tool::Setup,
            args: args.into_iter().map(Into::into).collect(),
            limit,
        }
    }

    /// Makes a call of drbdmeta about the metadata of `volume`.
    pub(crate) fn meta(volume: &LocalVolume, command: &str) -> Self {
        let index = match volume.meta_index {
            MetaIndex::Flexible => "flex-external".to_owned(),
            MetaIndex::Internal => "internal".to_owned(),
            MetaIndex::Slot(slot) => slot.to_string(),
        };
        let minor = volume.minor.to_string();
        let args = [&minor, "v08", &volume.meta_device, &index, command];
        Self {
            tool: Tool::Meta,
            args: args.map(str::to_owned).to_vec(),
            limit: Limit::Long,
        }
    }

    /// Returns the command among the arguments; for a handler the shell's option.
    pub(crate) fn command(&self) -> &str {
        let at = match self.tool {
            Tool::Meta => 4,
            Tool::Setup | Tool::Shell => 0,
        };
        self.args.get(at).map_or("", String::as_str)
    }

    /// Adds arguments.
    pub(crate) fn with(mut self, more: &[String]) -> Self {
        self.args.extend_from_slice(more);
        self
    }

    /// Adds the settings as options.
    pub(crate) fn options(mut self, settings: &Settings) -> Self {
        self.args
            .extend(settings.without_repetitions().0.iter().map(option));
        self
    }
}

/// Spells a setting for the command line.
fn option(setting: &Setting) -> String {
    format!("--{}={}", setting.name(), setting.value)
}

/// Writes an argument so that a shell reads it as one word (`reference/userland.md 2.12`).
pub(crate) fn escape(argument: &str) -> String {
    let mut escaped = String::new();
    for c in argument.chars() {
        if !(c.is_ascii_alphanumeric() || "%+-./:=@_".contains(c)) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A minor as an argument.
fn minor(volume: &LocalVolume) -> String {
    volume.minor.to_string()
}

/// Everything that is needed to turn one resource into calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker<'a> {
    /// All resources, for `resync-after`.
    pub(crate) views: &'a [View<'a>],
    /// The resource.
    pub(crate) view: &'a View<'a>,
    /// Name of this node, for `discard-node-NAME`.
    pub(crate) node: &'a str,
}

impl Maker<'_> {
    fn name(&self) -> String {
        self.view.name().to_owned()
    }

    fn resource(&self) -> &Resource {
        self.view.resource
    }

    /// `drbdsetup COMMAND RES`.
    pub(crate) fn on_resource(&self, limit: Limit, command: &str) -> Call {
        Call::setup(limit, [command.to_owned(), self.name()])
    }

    /// `drbdsetup show RES`, or everything where the name would be taken for that of a minor.
    pub(crate) fn show(&self) -> Call {
        let name = self.view.name();
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let is_ambiguous = is_number || name.starts_with('/');
        let shown = if is_ambiguous { "all" } else { name };
        Call::setup(Limit::Short, ["show", shown])
    }

    /// `drbdsetup COMMAND N`.
    pub(crate) fn on_volume(&self, limit: Limit, command: &str, volume: &LocalVolume) -> Call {
        Call::setup(limit, [command.to_owned(), minor(volume)])
    }

    /// `drbdsetup new-resource RES` with the resource options.
    pub(crate) fn new_resource(&self) -> Call {
        self.on_resource(Limit::Short, "new-resource")
            .options(&self.resource().sections.options)
    }

    /// `drbdsetup resource-options RES --set-defaults` with the resource options.
    pub(crate) fn adjust_resource(&self) -> Call {
        self.on_resource(Limit::Short, "resource-options")
            .with(&["--set-defaults".to_owned()])
            .options(&self.resource().sections.options)
    }

    /// `drbdsetup new-minor RES N VNR`.
    pub(crate) fn new_minor(&self, volume: &LocalVolume) -> Call {
        let number = volume.number.to_string();
        Call::setup(
            Limit::Short,
            ["new-minor".to_owned(), self.name(), minor(volume), number],
        )
    }

    /// `drbdmeta … apply-al` and `drbdsetup attach …`.
    pub(crate) fn attach(&self, volume: &LocalVolume) -> [Call; 2] {
        let words = ["attach", &minor(volume), &volume.disk, &volume.meta_device];
        let words = words
            .map(str::to_owned)
            .into_iter()
            .chain([volume.meta_index.to_string()]);
        let attach = Call::setup(Limit::Medium, words).options(&self.disk_options(volume));
        [Call::meta(volume, "apply-al"), attach]
    }

    /// Returns the disk options with `resync-after` as a minor.
    ///
    /// A name that cannot be translated is left out; see [`Self::complaints`].
    pub(crate) fn disk_options(&self, volume: &LocalVolume) -> Settings {
        let mut options = volume.options.without_repetitions();
        options.0.retain_mut(|setting| {
            if setting.name() != "resync-after" {
                return true;
            }
            match check::resync_after(self.views, self.resource(), &setting.value) {
                Ok(minor) => {
                    setting.value = minor.to_string();
                    true
                }
                Err(_) => false,
            }
        });
        options
    }

    /// Returns what is wrong with the `resync-after` options of the resource.
    pub(crate) fn complaints(&self) -> Vec<Diagnostic> {
        let volumes = self.view.volumes();
        let named = volumes
            .iter()
            .filter_map(|volume| volume.options.get("resync-after"));
        let mut found: Vec<Diagnostic> = Vec::new();
        for setting in named {
            if let Err(error) = check::resync_after(self.views, self.resource(), &setting.value) {
                if !found.iter().any(|other| other.sentence == error.sentence) {
                    found.push(error);
                }
            }
        }
        found
    }

    /// `drbdsetup disk-options N --set-defaults` with everything that may change at run time.
    pub(crate) fn adjust_disk(&self, volume: &LocalVolume) -> Call {
        let mut options = self.disk_options(volume);
        options
            .0
            .retain(|setting| setting.spec.change == Change::Online);
        self.on_volume(Limit::Medium, "disk-options", volume)
            .with(&["--set-defaults".to_owned()])
            .options(&options)
    }

    /// `drbdsetup resize N` and `drbdsetup check-resize N`.
    pub(crate) fn resize(&self, volume: &LocalVolume) -> [Call; 2] {
        let mut size = volume.options.without_repetitions();
        size.0.retain(|setting| setting.name() == "size");
        [
            self.on_volume(Limit::Medium, "resize", volume)
                .options(&size),
            self.on_volume(Limit::Short, "check-resize", volume),
        ]
    }

    /// Returns both endpoints as arguments, `N/A` for one that is not known.
    pub(crate) fn endpoints(&self) -> [String; 2] {
        [self.view.my_address(), self.view.reached_at()]
            .map(|address| address.map_or_else(|| "N/A".to_owned(), |address| address.argument()))
    }

    /// Returns the net options with `discard-node-NAME` as seen from this node.
    pub(crate) fn net_options(&self) -> Settings {
        let mut options = self.resource().sections.net.without_repetitions();
        for setting in &mut options.0 {
            let own = setting.value.strip_prefix("discard-node-").map(|name| {
                let mine = self.view.mine();
                mine.is_some_and(|side| side.names.contains(&name)) || name == self.node
            });
            match own {
                Some(true) => setting.value = "discard-local".to_owned(),
                Some(false) => setting.value = "discard-remote".to_owned(),
                None => {}
            }
        }
        options
    }

    /// `drbdsetup connect RES LOCAL PEER` with the net options.
    pub(crate) fn connect(&self) -> Call {
        let words = ["connect".to_owned(), self.name()];
        let mut call = Call::setup(Limit::Short, words).with(&self.endpoints());
        let mine = self
            .view
            .mine()
            .and_then(|side| side.host.alternate.as_ref());
        let theirs = self
            .view
            .theirs()
            .and_then(|side| side.host.alternate.as_ref());
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            let words = ["--alternate-address", &mine.argument()].map(str::to_owned);
            call = call.with(&words);
            let words = ["--alternate-peer-address", &theirs.argument()].map(str::to_owned);
            call = call.with(&words);
        }
        call.options(&self.net_options())
    }

    /// `drbdsetup net-options LOCAL PEER`, without options.
    pub(crate) fn net_options_call(&self) -> Call {
        Call::setup(Limit::Short, ["net-options"]).with(&self.endpoints())
    }

    /// `drbdsetup disconnect LOCAL PEER`.
    pub(crate) fn disconnect(&self) -> Call {
        Call::setup(Limit::Short, ["disconnect"]).with(&self.endpoints())
    }

    /// `drbdsetup COMMAND N` with the timeouts of the `startup` section.
    pub(crate) fn wait(&self, command: &str, volume: &LocalVolume) -> Call {
        let startup = &self.resource().sections.startup;
        self.on_volume(Limit::Forever, command, volume)
            .options(&startup.settings)
    }

    /// Like [`Self::wait`]; a stacked resource waits briefly unless its timeouts were meant for it.
    pub(crate) fn wait_alone(&self, command: &str, volume: &LocalVolume) -> Call {
        let sections = &self.resource().sections;
        if !self.view.is_stacked() || sections.startup.stacked_timeouts {
            return self.wait(command, volume);
        }
        let seconds = sections
            .net
            .number("connect-int")
            .map_or(20, |seconds| 2 * seconds);
        self.on_volume(Limit::Forever, command, volume)
            .with(&["--wfc-timeout".to_owned(), seconds.to_string()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_shell_would_touch_is_escaped() {
        assert_eq!(escape("ipv6:[::1]:7790"), "ipv6:\\[::1\\]:7790");
        assert_eq!(
            escape("--shared-secret=s3 cr\"et"),
            "--shared-secret=s3\\ cr\\\"et"
        );
        assert_eq!(escape("%+-./:=@_aZ09"), "%+-./:=@_aZ09");
    }
}
