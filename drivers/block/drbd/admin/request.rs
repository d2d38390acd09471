// SPDX-License-Identifier: GPL-2.0-only

//! One request: its attributes, the object it is about, its answer.

use super::ANSWER_LEN;
use crate::{
    kabi::genl::Request,
    name::Name,
    registry::Registry,
    resource::{
        Expected,
        Life,
        Resource, //
    },
    volume::Volume, //
};
use drbd_core::input::AdminRequest;
use drbd_format::{
    netlink::{
        codes::RetCode,
        ids::{
            tla,
            Command,
            Message,
            Selector,
            INFO_TEXT,
            NO_MINOR,
            SET_DEFAULTS, //
        },
        info::Context,
        tlv::{
            NoSpace,
            TlvError,
            Writer, //
        }, //
    },
    options::OptionError, //
};
use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::{
        Arc,
        MutexGuard, //
    }, //
};

/// A refusal: the code and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Return code of reference/netlink.md 4.
    pub(crate) code: RetCode,
    /// Text for the administrator.
    pub(crate) text: Option<&'static str>,
}

impl Failure {
    pub(crate) const fn new(code: RetCode, text: Option<&'static str>) -> Self {
        Self { code, text }
    }

    /// A refusal that its code explains.
    pub(crate) const fn code(code: RetCode) -> Self {
        Self::new(code, None)
    }
}

impl From<OptionError> for Failure {
    fn from(error: OptionError) -> Self {
        Self::new(RetCode::MANDATORY_TAG, Some(error.info_text()))
    }
}

impl From<TlvError> for Failure {
    fn from(error: TlvError) -> Self {
        OptionError::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = if error == EINTR || error == ETIMEDOUT {
            RetCode::INTR
        } else {
            RetCode::NOMEM
        };
        Self::code(code)
    }
}

/// Takes the admin mutex of a resource. May sleep.
///
/// # Errors
///
/// The resource has been deleted since it was found.
pub(crate) fn lock(resource: &Resource) -> Result<MutexGuard<'_, Life>, Failure> {
    let guard = resource.admin.lock();
    match *guard {
        Life::Alive => Ok(guard),
        Life::Gone => Err(Failure::new(
            RetCode::RES_NOT_KNOWN,
            Some("unknown resource"),
        )),
    }
}

/// Takes the admin mutex of a volume's resource. May sleep.
///
/// # Errors
///
/// The volume has been deleted since it was found.
pub(crate) fn lock_volume(volume: &Arc<Volume>) -> Result<MutexGuard<'_, Life>, Failure> {
    let guard = lock(&volume.resource)?;
    check_there(volume)?;
    Ok(guard)
}

/// Refuses a volume that has been deleted since it was found.
///
/// # Errors
///
/// It has been.
pub(crate) fn check_there(volume: &Arc<Volume>) -> Result<(), Failure> {
    let there = volume.resource.volume(volume.index);
    if there.is_some_and(|there| Arc::ptr_eq(&there, volume)) {
        Ok(())
    } else {
        Err(Failure::new(RetCode::MINOR_INVALID, Some("unknown minor")))
    }
}

/// A request on its way through a command.
pub(crate) struct Job<'a> {
    request: &'a Request<'a>,
    registry: &'a Registry,
    pub(crate) command: Command,
    pub(crate) message: Message<'a>,
    pub(crate) context: Context,
    has_name: bool,
    volume: Option<Arc<Volume>>,
    resource: Option<Arc<Resource>>,
    answer: KVVec<u8>,
    answer_len: usize,
}

impl<'a> Job<'a> {
    /// Parses the context and prepares the answer (reference/netlink.md 2.2 steps 2 to 5).
    ///
    /// # Errors
    ///
    /// `EINVAL` or `ERANGE` for a malformed context, `ENOMEM`.
    pub(crate) fn new(
        registry: &'a Registry,
        request: &'a Request<'a>,
        command: Command,
        message: Message<'a>,
    ) -> Result<Self> {
        let nest = message
            .nest(Context::TLA, Context::FIELDS)
            .map_err(tlv_errno)?;
        let mut context = Context::default();
        if let Some(nest) = &nest {
            context.overlay(nest).map_err(|_| EINVAL)?;
        }
        let mut job = Self {
            request,
            registry,
            command,
            message,
            context,
            has_name: nest.is_some_and(|nest| nest.has(&Context::RESOURCE_NAME)),
            volume: None,
            resource: None,
            answer: KVVec::from_elem(0, ANSWER_LEN, GFP_KERNEL)?,
            answer_len: 0,
        };
        if let Some(raw) = message.raw(tla::CFG_CONTEXT) {
            job.write(|writer| writer.echo(&raw))
                .map_err(|NoSpace| EMSGSIZE)?;
        }
        Ok(job)
    }

    /// Finds the object (reference/netlink.md 2.2 steps 6 to 14).
    pub(crate) fn find_object(&mut self) -> Result<(), Failure> {
        let refuse = |text| Failure::new(RetCode::INVALID_REQUEST, Some(text));
        self.volume = match self.request.minor() {
            NO_MINOR => None,
            minor => self.registry.by_minor(minor),
        };
        self.resource = self.name().and_then(|name| self.registry.by_name(&name));
        match self.command.selector() {
            Selector::Minor if self.volume.is_none() => {
                return Err(Failure::new(RetCode::MINOR_INVALID, Some("unknown minor")));
            }
            Selector::Resource if self.resource.is_none() => {
                let code = if self.has_name {
                    RetCode::RES_NOT_KNOWN
                } else {
                    RetCode::INVALID_REQUEST
                };
                return Err(Failure::new(code, Some("unknown resource")));
            }
            Selector::Connection if self.resource.is_some() => {
                return Err(refuse("no resource name expected"));
            }
            Selector::Connection if self.volume.is_some() => {
                return Err(refuse("no minor number expected"));
            }
            Selector::Connection => {
                self.resource = self.by_addresses();
                if self.resource.is_none() {
                    return Err(refuse("unknown connection"));
                }
            }
            Selector::Minor | Selector::Resource | Selector::None => {}
        }
        self.check_volume()
    }

    fn check_volume(&mut self) -> Result<(), Failure> {
        let refuse = |text| Failure::new(RetCode::INVALID_REQUEST, Some(text));
        let Some(volume) = &self.volume else {
            return Ok(());
        };
        match &self.resource {
            Some(resource) if !Arc::ptr_eq(resource, &volume.resource) => {
                return Err(refuse("minor exists in different resource"));
            }
            Some(_) | None => {}
        }
        let number = u32::from(volume.number);
        if self.context.volume.is_some_and(|wanted| wanted != number) {
            return Err(refuse("minor exists as different volume"));
        }
        if self.resource.is_none() {
            self.resource = Some(volume.resource.clone());
        }
        Ok(())
    }

    fn by_addresses(&self) -> Option<Arc<Resource>> {
        let (local, peer) = (self.context.my_addr?, self.context.peer_addr?);
        self.registry
            .by_addresses(local.as_bytes(), peer.as_bytes())
    }

    /// Returns the resource name of the context, if it is one.
    pub(crate) fn name(&self) -> Option<Name> {
        Name::new(self.context.resource_name?.as_bytes()).ok()
    }

    /// Returns the volume that was found.
    pub(crate) fn volume(&self) -> Result<Arc<Volume>, Failure> {
        let volume = self.volume.clone();
        volume.ok_or(Failure::code(RetCode::MINOR_INVALID))
    }

    /// Returns all resources.
    pub(crate) fn registry(&self) -> &Registry {
        self.registry
    }

    /// Returns the resource that was found.
    pub(crate) fn resource(&self) -> Result<Arc<Resource>, Failure> {
        let resource = self.resource.clone();
        resource.ok_or(Failure::code(RetCode::RES_NOT_KNOWN))
    }

    /// Returns the minor in the request's header.
    pub(crate) fn minor(&self) -> u32 {
        self.request.minor()
    }

    /// Whether options start from their defaults instead of the values in force.
    pub(crate) fn set_defaults(&self) -> bool {
        self.request.flags() & SET_DEFAULTS != 0
    }

    /// Whether it is an error if the object exists already.
    pub(crate) fn exclusive(&self) -> bool {
        self.request.exclusive()
    }

    /// Whether the task may see secrets.
    pub(crate) fn may_see_secrets(&self) -> bool {
        self.request.may_admin_system()
    }

    /// Hands a command to the core and waits for its answer. The caller holds the admin mutex.
    pub(crate) fn command(
        &mut self,
        resource: &Resource,
        command: &AdminRequest,
    ) -> Result<RetCode, Failure> {
        let expected = resource.expect_answer()?;
        self.command_expected(resource, command, &expected)
    }

    /// As [`Job::command`], after [`Resource::expect_answer`].
    pub(crate) fn command_expected(
        &mut self,
        resource: &Resource,
        command: &AdminRequest,
        expected: &Expected<'_>,
    ) -> Result<RetCode, Failure> {
        let answer = resource.command(command, expected)?;
        if let Some(text) = answer.text {
            self.info(text);
        }
        Ok(RetCode(answer.code))
    }

    /// Adds a text for the administrator to the answer.
    pub(crate) fn info(&mut self, text: &str) {
        // An answer without its text is still the answer.
        let _ = self.write(|writer| {
            writer.nest(tla::CFG_REPLY, |writer| {
                writer.text(&INFO_TEXT, text.as_bytes())
            })
        });
    }

    /// Appends attributes to the answer.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
    ) -> Result<(), NoSpace> {
        let room = self.answer.get_mut(self.answer_len..).ok_or(NoSpace)?;
        let mut writer = Writer::reply(room);
        write(&mut writer)?;
        let len = writer.len();
        self.answer_len = self.answer_len.saturating_add(len);
        Ok(())
    }

    /// Sends the answer.
    pub(crate) fn reply(&self, code: RetCode) -> Result {
        let attrs = self.answer.get(..self.answer_len).unwrap_or(&[]);
        self.request.reply(self.request.minor(), code.0, attrs)
    }
}

/// Returns the error number of a request that is not well formed (reference/netlink.md 1.5).
fn tlv_errno(error: TlvError) -> Error {
    match error {
        TlvError::TooLong { .. } => ERANGE,
        TlvError::Malformed
        | TlvError::Length { .. }
        | TlvError::Missing { .. }
        | TlvError::NotNested { .. }
        | TlvError::NotTerminated { .. }
        | TlvError::Unknown { .. }
        | TlvError::Value { .. } => EINVAL,
    }
}
