//! The table of commands.

use super::cmdline::Call;
use super::{configure, events, query, show, status, wait};
use crate::report::Outcome;
use drbd_format::netlink::ids::{tla, Command};
use drbd_format::options::{arguments, Change, DiskConf, NetConf, OptionSpec, ResourceOpts};

/// What a positional argument is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arg {
    /// Path of the backing device.
    LowerDev,
    /// Local endpoint.
    LocalAddr,
    /// Path of the metadata device.
    MetaDev,
    /// `internal`, `flexible` or the number of a slot.
    MetaIndex,
    /// An existing minor, as number or device node.
    Minor,
    /// Endpoint of the peer.
    RemoteAddr,
    /// Name of a resource.
    Resource,
    /// Optional: a resource, or `all`.
    ResourceOrAll,
    /// Optional: a resource, a minor, or `all`.
    Some,
    /// Number of a volume.
    Volume,
}

/// An option of a query command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    /// Name without dashes.
    pub(super) name: &'static str,
    /// Letter, or 0 if there is none.
    pub(super) letter: char,
    /// Whether it takes a value.
    pub(super) value: Value,
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value {
    None,
    Optional,
    Required,
}

/// One command.
pub(super) struct Spec {
    /// Its name.
    pub(super) name: &'static str,
    /// What is sent.
    pub(super) command: Option<Command>,
    /// Positional arguments.
    pub(super) args: &'static [Arg],
    /// Top-level attribute that takes the options.
    pub(super) tla: u16,
    /// Options that are sent.
    pub(super) options: &'static [OptionSpec],
    /// Whether only options are taken that may change at any time, and `--set-defaults`.
    pub(super) online: bool,
    /// Options that are not sent.
    pub(super) locals: &'static [Local],
    /// Whether the command changes something and, for a minor, takes its lock.
    pub(super) modifies: bool,
    /// Whether it is left out of the overview.
    pub(super) hidden: bool,
    /// Carries it out.
    pub(super) run: fn(&Call<'_>) -> Outcome,
}

impl Spec {
    /// Returns the options that the command takes.
    pub(super) fn options(&self) -> impl Iterator<Item = &'static OptionSpec> + '_ {
        self.options.iter().filter(|option| {
            option.domain != drbd_format::options::Domain::Argument
                && (!self.online || option.change == Change::Online)
        })
    }
}

const BASE: Spec = Spec {
    name: "",
    command: None,
    args: &[],
    tla: 0,
    options: &[],
    online: false,
    locals: &[],
    modifies: false,
    hidden: false,
    run: configure::run,
};

const fn minor(name: &'static str, command: Command) -> Spec {
    Spec {
        name,
        command: Some(command),
        args: &[Arg::Minor],
        modifies: true,
        ..BASE
    }
}

const fn with(spec: Spec, tla: u16, options: &'static [OptionSpec]) -> Spec {
    Spec {
        tla,
        options,
        ..spec
    }
}

const fn online(spec: Spec) -> Spec {
    Spec {
        online: true,
        ..spec
    }
}

const fn object(name: &'static str, command: Command, args: &'static [Arg]) -> Spec {
    Spec {
        args,
        ..minor(name, command)
    }
}

const fn ask(name: &'static str, args: &'static [Arg], run: fn(&Call<'_>) -> Outcome) -> Spec {
    Spec {
        name,
        args,
        run,
        ..BASE
    }
}

const fn waiting(name: &'static str, run: fn(&Call<'_>) -> Outcome) -> Spec {
    Spec {
        locals: &[
            Local {
                name: "wfc-timeout",
                letter: 't',
                value: Value::Required,
            },
            Local {
                name: "degr-wfc-timeout",
                letter: 'd',
                value: Value::Required,
            },
            Local {
                name: "outdated-wfc-timeout",
                letter: 'o',
                value: Value::Required,
            },
            Local {
                name: "wait-after-sb",
                letter: 'w',
                value: Value::Optional,
            },
        ],
        ..ask(name, &[Arg::Minor], run)
    }
}

/// All commands, in the order of the overview.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        run: configure::role_change,
        ..with(
            minor("primary", Command::Primary),
            tla::SET_ROLE_PARMS,
            arguments::PRIMARY,
        )
    },
    Spec {
        run: configure::role_change,
        ..minor("secondary", Command::Secondary)
    },
    with(
        object(
            "attach",
            Command::Attach,
            &[Arg::Minor, Arg::LowerDev, Arg::MetaDev, Arg::MetaIndex],
        ),
        tla::DISK_CONF,
        DiskConf::OPTIONS,
    ),
    online(with(
        minor("disk-options", Command::ChangeDiskOpts),
        tla::DISK_CONF,
        DiskConf::OPTIONS,
    )),
    with(
        minor("detach", Command::Detach),
        tla::DETACH_PARMS,
        arguments::DETACH,
    ),
    with(
        object(
            "connect",
            Command::Connect,
            &[Arg::Resource, Arg::LocalAddr, Arg::RemoteAddr],
        ),
        tla::NET_CONF,
        NetConf::OPTIONS,
    ),
    online(with(
        object(
            "net-options",
            Command::ChangeNetOpts,
            &[Arg::LocalAddr, Arg::RemoteAddr],
        ),
        tla::NET_CONF,
        NetConf::OPTIONS,
    )),
    with(
        object(
            "disconnect",
            Command::Disconnect,
            &[Arg::LocalAddr, Arg::RemoteAddr],
        ),
        tla::DISCONNECT_PARMS,
        arguments::DISCONNECT,
    ),
    with(
        minor("resize", Command::Resize),
        tla::RESIZE_PARMS,
        arguments::RESIZE,
    ),
    online(with(
        object("resource-options", Command::ResourceOpts, &[Arg::Resource]),
        tla::RESOURCE_OPTS,
        ResourceOpts::OPTIONS,
    )),
    with(
        minor("new-current-uuid", Command::NewCurrentUuid),
        tla::NEW_C_UUID_PARMS,
        arguments::NEW_CURRENT_UUID,
    ),
    minor("invalidate", Command::Invalidate),
    minor("invalidate-remote", Command::InvalidatePeer),
    minor("pause-sync", Command::PauseSync),
    minor("resume-sync", Command::ResumeSync),
    minor("suspend-io", Command::SuspendIo),
    minor("resume-io", Command::ResumeIo),
    minor("outdate", Command::Outdate),
    with(
        minor("verify", Command::StartVerify),
        tla::START_OV_PARMS,
        arguments::VERIFY,
    ),
    Spec {
        run: configure::down,
        ..object("down", Command::Down, &[Arg::Resource])
    },
    Spec {
        hidden: true,
        ..ask("state", &[Arg::Minor], query::role)
    },
    ask("role", &[Arg::Minor], query::role),
    ask("sh-status", &[Arg::Some], query::sh_status),
    ask("cstate", &[Arg::Minor], query::cstate),
    ask("dstate", &[Arg::Minor], query::dstate),
    ask("show-gi", &[Arg::Minor], query::show_gi),
    ask("get-gi", &[Arg::Minor], query::get_gi),
    Spec {
        locals: &[Local {
            name: "show-defaults",
            letter: 'D',
            value: Value::None,
        }],
        ..ask("show", &[Arg::Some], show::show)
    },
    Spec {
        locals: &[
            Local {
                name: "verbose",
                letter: 'v',
                value: Value::None,
            },
            Local {
                name: "statistics",
                letter: 's',
                value: Value::None,
            },
            Local {
                name: "color",
                letter: 'c',
                value: Value::Optional,
            },
            Local {
                name: "json",
                letter: 'j',
                value: Value::None,
            },
        ],
        ..ask("status", &[Arg::ResourceOrAll], status::status)
    },
    ask("check-resize", &[Arg::Minor], query::check_resize),
    ask("events", &[Arg::Some], events::events),
    Spec {
        locals: &[
            Local {
                name: "timestamps",
                letter: 'T',
                value: Value::None,
            },
            Local {
                name: "statistics",
                letter: 's',
                value: Value::None,
            },
            Local {
                name: "now",
                letter: 'n',
                value: Value::None,
            },
            Local {
                name: "full",
                letter: '\0',
                value: Value::None,
            },
        ],
        ..ask("events2", &[Arg::ResourceOrAll], events::events2)
    },
    waiting("wait-connect", wait::wait_connect),
    waiting("wait-sync", wait::wait_sync),
    with(
        object("new-resource", Command::NewResource, &[Arg::Resource]),
        tla::RESOURCE_OPTS,
        ResourceOpts::OPTIONS,
    ),
    Spec {
        modifies: false,
        ..object(
            "new-minor",
            Command::NewMinor,
            &[Arg::Resource, Arg::Minor, Arg::Volume],
        )
    },
    Spec {
        run: configure::del_minor,
        ..minor("del-minor", Command::DelMinor)
    },
    Spec {
        run: configure::del_resource,
        ..object("del-resource", Command::DelResource, &[Arg::Resource])
    },
    Spec {
        hidden: true,
        ..ask("udev", &[Arg::Minor], query::udev)
    },
];
