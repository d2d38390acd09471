//! The commands of drbdadm: what each one works on and what it needs.

use drbd_format::options::{Change, Domain, Section};

/// What a command works on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// The whole configuration; resource names are ignored.
    Nothing,
    /// Whole resources; one volume cannot be chosen.
    Resource,
    /// Whole resources, of which one volume may be chosen.
    ResourceOrVolume,
    /// Each volume by itself.
    Volume,
    /// One volume, which must be named if the resource has several.
    OneVolume,
    /// A handler: a minor or a resource.
    Handler,
}

/// Where a command is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listed {
    /// In the normal help.
    Help,
    /// Among the commands for scripts.
    Script,
    /// Among the commands that the kernel calls.
    Handler,
    /// Among the commands for experts.
    Expert,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Its name.
    pub(super) name: &'static str,
    /// What it works on.
    pub(super) scope: Scope,
    /// Where it is listed.
    pub(super) listed: Listed,
    /// Whether the address of this node must exist.
    pub(super) checks_ip: bool,
    /// Whether there must be a peer.
    pub(super) needs_peer: bool,
    /// Whether `all` is meant if no resource is named.
    pub(super) defaults_to_all: bool,
    /// The options that are passed on to the helper.
    options: Passed,
}

/// Options that a command passes on.
#[derive(Clone, Copy, Debug)]
enum Passed {
    /// Those of a section of the table of options, and these.
    Section(Section, &'static [&'static str]),
    /// These; the ones that take a value end in `=`.
    These(&'static [&'static str]),
}

impl Command {
    /// Returns the options that are passed on: name, and whether a value must follow.
    pub(super) fn options(&self) -> Vec<(&'static str, Value)> {
        let (section, more) = match self.options {
            Passed::Section(section, more) => (Some(section), more),
            Passed::These(more) => (None, more),
        };
        let of_section = section
            .into_iter()
            .flat_map(Section::options)
            .filter(|spec| {
                let by_connect = spec.change == Change::Connect && self.name != "connect";
                !matches!(
                    spec.domain,
                    Domain::Argument | Domain::Address | Domain::Words
                ) && !by_connect
                    && spec.name != "stacked-timeouts"
            });
        let of_section = of_section.map(|spec| match spec.domain {
            Domain::Switch { .. } | Domain::Flag => (spec.name, Value::Optional),
            _ => (spec.name, Value::Required),
        });
        let more = more.iter().map(|name| match name.strip_suffix('=') {
            Some(name) => (name, Value::Required),
            None => (*name, Value::Optional),
        });
        of_section.chain(more).collect()
    }
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// `--name` or `--name=value`.
    Optional,
    /// `--name=value` or `--name value`.
    Required,
}

const fn command(name: &'static str, scope: Scope, listed: Listed) -> Command {
    Command {
        name,
        scope,
        listed,
        checks_ip: false,
        needs_peer: false,
        defaults_to_all: false,
        options: Passed::These(&[]),
    }
}

const fn help(name: &'static str, scope: Scope) -> Command {
    command(name, scope, Listed::Help)
}

const fn script(name: &'static str, scope: Scope) -> Command {
    command(name, scope, Listed::Script)
}

const fn expert(name: &'static str, scope: Scope) -> Command {
    command(name, scope, Listed::Expert)
}

const fn handler(name: &'static str) -> Command {
    command(name, Scope::Handler, Listed::Handler)
}

impl Command {
    const fn with_ip(self) -> Self {
        Self {
            checks_ip: true,
            ..self
        }
    }

    const fn with_peer(self) -> Self {
        Self {
            needs_peer: true,
            ..self
        }
    }

    const fn for_all(self) -> Self {
        Self {
            defaults_to_all: true,
            ..self
        }
    }

    const fn passing(self, names: &'static [&'static str]) -> Self {
        Self {
            options: Passed::These(names),
            ..self
        }
    }

    const fn passing_section(self, section: Section, more: &'static [&'static str]) -> Self {
        Self {
            options: Passed::Section(section, more),
            ..self
        }
    }
}

const MD_OPTIONS: &[&str] = &[
    "force",
    "quiet",
    "ignore-sanity-checks",
    "peer-max-bio-size=",
    "al-stripes=",
    "al-stripe-size-kB=",
    "effective-size=",
    "initialize-bitmap=",
];

/// All commands, in the order in which they are listed.
pub(super) const COMMANDS: &[Command] = &[
    help("attach", Scope::Volume).passing_section(Section::Disk, &[]),
    help("status", Scope::Resource)
        .for_all()
        .passing(&["statistics", "json", "color"]),
    help("disk-options", Scope::Volume).passing_section(Section::Disk, &["set-defaults"]),
    help("detach", Scope::Volume).passing(&["force"]),
    help("connect", Scope::Resource)
        .with_ip()
        .with_peer()
        .passing_section(Section::Net, &[]),
    help("net-options", Scope::Resource)
        .with_ip()
        .with_peer()
        .passing_section(Section::Net, &["set-defaults"]),
    help("disconnect", Scope::Resource)
        .with_peer()
        .passing(&["force"]),
    help("up", Scope::ResourceOrVolume).with_ip().with_peer(),
    help("resource-options", Scope::Resource).passing_section(Section::Options, &["set-defaults"]),
    help("down", Scope::Resource),
    help("primary", Scope::Volume).passing(&["force", "overwrite-data-of-peer"]),
    help("secondary", Scope::Volume),
    help("invalidate", Scope::Volume),
    help("invalidate-remote", Scope::Volume).with_ip(),
    help("outdate", Scope::Volume),
    help("resize", Scope::Volume).with_ip().passing(&[
        "size=",
        "assume-peer-has-space",
        "assume-clean",
        "al-stripes=",
        "al-stripe-size-kB=",
    ]),
    help("verify", Scope::Volume)
        .with_ip()
        .passing(&["start=", "stop="]),
    help("pause-sync", Scope::Volume).with_ip(),
    help("resume-sync", Scope::Volume).with_ip(),
    help("adjust", Scope::Resource)
        .with_ip()
        .with_peer()
        .passing(&["diff"]),
    help("adjust-with-progress", Scope::Resource)
        .with_ip()
        .with_peer(),
    help("wait-connect", Scope::Volume).passing_section(Section::Startup, &[]),
    help("wait-con-int", Scope::Nothing),
    help("wait-sync", Scope::Volume).passing_section(Section::Startup, &[]),
    help("role", Scope::Volume),
    help("cstate", Scope::Volume),
    help("dstate", Scope::Volume),
    help("dump", Scope::Resource).for_all().with_ip(),
    help("dump-xml", Scope::Resource).for_all().with_ip(),
    help("create-md", Scope::Volume).passing(MD_OPTIONS),
    help("show-gi", Scope::Volume),
    help("get-gi", Scope::Volume),
    help("dump-md", Scope::Volume),
    help("wipe-md", Scope::Volume).passing(&["force"]),
    help("apply-al", Scope::Volume),
    help("hidden-commands", Scope::Nothing),
    script("sh-nop", Scope::Nothing),
    script("sh-resources", Scope::Nothing),
    script("sh-resource", Scope::ResourceOrVolume),
    script("sh-mod-parms", Scope::Nothing),
    script("sh-dev", Scope::Volume),
    script("sh-udev", Scope::OneVolume),
    script("sh-minor", Scope::Volume),
    script("sh-ll-dev", Scope::Volume),
    script("sh-md-dev", Scope::Volume),
    script("sh-md-idx", Scope::Volume),
    script("sh-ip", Scope::Volume),
    script("sh-lr-of", Scope::Resource),
    script("sh-b-pri", Scope::Volume),
    script("sh-status", Scope::Nothing),
    script("proxy-up", Scope::Resource),
    script("proxy-down", Scope::Resource),
    script("new-resource", Scope::Resource).passing_section(Section::Options, &[]),
    handler("before-resync-target"),
    handler("after-resync-target"),
    handler("before-resync-source"),
    handler("pri-on-incon-degr"),
    handler("pri-lost-after-sb"),
    handler("fence-peer"),
    handler("unfence-peer"),
    handler("local-io-error"),
    handler("pri-lost"),
    handler("initial-split-brain"),
    handler("split-brain"),
    handler("out-of-sync"),
    expert("sh-new-minor", Scope::Volume),
    expert("new-minor", Scope::Volume),
    expert("suspend-io", Scope::Volume),
    expert("resume-io", Scope::Volume),
    expert("set-gi", Scope::OneVolume).passing(&["force"]),
    expert("new-current-uuid", Scope::OneVolume).passing(&["clear-bitmap"]),
    expert("check-resize", Scope::Volume),
];

/// Words of older versions and what they are called now.
const OLD_NAMES: &[(&str, &str)] = &[("outdate-peer", "fence-peer"), ("state", "role")];

/// Finds a command by its name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Returns today's name of a command that was renamed.
pub(super) fn renamed(name: &str) -> Option<&'static str> {
    OLD_NAMES
        .iter()
        .find(|(old, _)| *old == name)
        .map(|&(_, new)| new)
}

/// Finds an option that some command passes on; a unique beginning of its name is enough.
pub(super) fn passed_option(name: &str) -> Option<(&'static str, Value)> {
    let all: Vec<(&str, Value)> = COMMANDS.iter().flat_map(Command::options).collect();
    if let Some(exact) = all.iter().find(|(known, _)| *known == name) {
        return Some(*exact);
    }
    let mut close: Vec<_> = all
        .into_iter()
        .filter(|(known, _)| known.starts_with(name))
        .collect();
    close.sort_by_key(|&(known, _)| known);
    close.dedup_by_key(|&mut (known, _)| known);
    match close.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_handler_of_the_configuration_is_a_command() {
        for option in Section::Handlers.options() {
            let found = find(option.name).map(|command| command.listed);
            assert_eq!(found, Some(Listed::Handler), "{}", option.name);
        }
    }

    #[test]
    fn a_unique_beginning_of_an_option_is_enough() {
        assert_eq!(passed_option("forc"), Some(("force", Value::Optional)));
        assert_eq!(
            passed_option("overwrite"),
            Some(("overwrite-data-of-peer", Value::Optional))
        );
        assert_eq!(passed_option("c-"), None, "ambiguous");
        assert_eq!(passed_option("zork"), None);
    }

    #[test]
    fn connection_only_options_belong_to_connect() {
        let of = |name: &str| find(name).unwrap().options();
        assert!(of("connect")
            .iter()
            .any(|(name, _)| *name == "discard-my-data"));
        assert!(!of("net-options")
            .iter()
            .any(|(name, _)| *name == "discard-my-data"));
        assert!(!of("connect")
            .iter()
            .any(|(name, _)| name.contains("alternate")));
    }
}
