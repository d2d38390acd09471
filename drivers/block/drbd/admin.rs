// SPDX-License-Identifier: GPL-2.0-only

//! The commands of the netlink family: who is meant, is the request well formed, whom to ask.
//!
//! What a command does to the state is decided by the core. Here a request is parsed, its object
//! found in the order of reference/netlink.md 2.2, and the answer written.

mod connection;
pub(crate) mod events;
mod objects;
pub(crate) mod request;
mod resource;
mod status;
mod volume;

use crate::{
    kabi::{
        genl::{
            Command as GenlCommand,
            Dump,
            FamilyLock,
            Handler,
            Request, //
        },
        thread::NoIo, //
    },
    registry::Registry, //
};
use drbd_format::netlink::{
    codes::RetCode,
    ids::{
        Command,
        Message, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use request::{
    Failure,
    Job, //
};

/// Bytes of the largest answer: every option of every section, the state, the context.
const ANSWER_LEN: usize = 8192;

/// Serves the family.
pub(crate) struct Admin {
    pub(crate) registry: Arc<Registry>,
}

const fn doit(command: Command) -> GenlCommand {
    GenlCommand {
        number: command.number(),
        doit: true,
        dump: false,
        admin: command.is_privileged(),
    }
}

const fn dump(command: Command) -> GenlCommand {
    GenlCommand {
        number: command.number(),
        doit: false,
        dump: true,
        admin: false,
    }
}

impl Handler for Admin {
    const COMMANDS: &'static [GenlCommand] = &[
        GenlCommand {
            number: Command::GetStatus.number(),
            doit: true,
            dump: true,
            admin: false,
        },
        doit(Command::NewMinor),
        doit(Command::DelMinor),
        doit(Command::NewResource),
        doit(Command::DelResource),
        doit(Command::ResourceOpts),
        doit(Command::Connect),
        doit(Command::Disconnect),
        doit(Command::Attach),
        doit(Command::Resize),
        doit(Command::Primary),
        doit(Command::Secondary),
        doit(Command::NewCurrentUuid),
        doit(Command::StartVerify),
        doit(Command::Detach),
        doit(Command::Invalidate),
        doit(Command::InvalidatePeer),
        doit(Command::PauseSync),
        doit(Command::ResumeSync),
        doit(Command::SuspendIo),
        doit(Command::ResumeIo),
        doit(Command::Outdate),
        doit(Command::GetTimeoutType),
        doit(Command::Down),
        doit(Command::ChangeDiskOpts),
        doit(Command::ChangeNetOpts),
        dump(Command::GetResources),
        dump(Command::GetDevices),
        dump(Command::GetConnections),
        dump(Command::GetPeerDevices),
        dump(Command::GetInitialState),
    ];

    #[inline(never)]
    fn doit(&self, request: &Request<'_>, mut lock: FamilyLock<'_>) -> Result {
        // What reclaim would wait for may go on only when a control thread does, which takes the
        // locks of events and of the registry, or when a command does, which needs the lock of the
        // netlink layer: the answer is made under that one.
        let _noio = NoIo::enter();
        let command = Command::from_number(request.command()).ok_or(EOPNOTSUPP)?;
        if command.is_privileged() && !request.may_admin_network() {
            return Err(EPERM);
        }
        let message = Message::request(command, request.attrs()).map_err(|_| EINVAL)?;
        let mut job = Job::new(&self.registry, request, command, message)?;
        // A command may take long, and a handler that it starts may ask for something itself: the
        // lock of the netlink layer is not held meanwhile. What must not change under a command
        // is kept by the admin mutex of its resource and by the registry.
        let result = lock.released(|| job.find_object().and_then(|()| self.run(&mut job)));
        let code = match result {
            Ok(code) => code,
            Err(Failure { code, text }) => {
                if let Some(text) = text {
                    job.info(text);
                }
                code
            }
        };
        job.reply(code)
    }

    fn dump(&self, request: &Request<'_>, out: &mut Dump<'_>) -> Result {
        // As above: the whole dump runs under the lock of the netlink layer.
        let _noio = NoIo::enter();
        match Command::from_number(request.command()).ok_or(EOPNOTSUPP)? {
            Command::GetStatus => status::dump(&self.registry, request, out),
            Command::GetInitialState => objects::dump_initial_state(&self.registry, request, out),
            command => objects::dump(&self.registry, command, request, out),
        }
    }
}

impl Admin {
    /// Carries out a command whose object has been found. May sleep.
    fn run(&self, job: &mut Job<'_>) -> Result<RetCode, Failure> {
        match job.command {
            Command::GetStatus => status::get(job),
            Command::GetTimeoutType => status::timeout_type(job),
            Command::NewResource => resource::create(&self.registry, job),
            Command::DelResource => resource::delete(&self.registry, job),
            Command::ResourceOpts => resource::options(job),
            Command::Down => resource::down(&self.registry, job),
            Command::NewMinor => volume::create(&self.registry, job),
            Command::DelMinor => volume::delete(job),
            Command::Attach => volume::attach(job),
            Command::ChangeDiskOpts => volume::options(job),
            Command::Resize => volume::resize(job),
            Command::Connect => connection::connect(&self.registry, job),
            Command::Disconnect => connection::disconnect(job),
            Command::ChangeNetOpts => connection::options(job),
            Command::Primary | Command::Secondary => volume::role(job),
            Command::Detach => volume::detach(job),
            Command::StartVerify => volume::verify(job),
            Command::NewCurrentUuid => volume::new_current_uuid(job),
            Command::Invalidate
            | Command::InvalidatePeer
            | Command::PauseSync
            | Command::ResumeSync
            | Command::SuspendIo
            | Command::ResumeIo
            | Command::Outdate => volume::simple(job),
            Command::Event
            | Command::GetResources
            | Command::GetDevices
            | Command::GetConnections
            | Command::GetPeerDevices
            | Command::ResourceState
            | Command::DeviceState
            | Command::ConnectionState
            | Command::PeerDeviceState
            | Command::GetInitialState
            | Command::Helper
            | Command::InitialStateDone => Err(Failure::new(RetCode::PACKET_NR, None)),
        }
    }
}
