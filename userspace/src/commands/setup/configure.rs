//! Commands that change something.

use super::cmdline::{Call, OptionArg};
use super::device;
use super::table::Arg;
use crate::netlink::address;
use crate::netlink::message::Request;
use crate::netlink::request::{strerror, Channel};
use crate::report::{check_answer, no_answer, Failure, Outcome};
use drbd_format::netlink::codes::RetCode;
use drbd_format::netlink::ids::{Command, SET_DEFAULTS};
use drbd_format::netlink::tlv::{NoSpace, Writer};
use drbd_format::options::DiskConf;
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;

/// Index of flexible internal metadata.
const FLEX_INTERNAL: i32 = -3;

/// Index of flexible external metadata.
const FLEX_EXTERNAL: i32 = -2;

/// Sends the command and reports the answer.
pub(super) fn run(call: &Call<'_>) -> Outcome {
    let request = request_of(call)?;
    let object = object_of(call);
    let answer = Channel::open()?
        .command(request)
        .map_err(|error| no_answer(object, error))?;
    check_answer(object, &answer)?;
    Ok(0)
}

/// `primary` and `secondary`: also for all volumes of a resource at once.
pub(super) fn role_change(call: &Call<'_>) -> Outcome {
    let word = call.args.first().copied().unwrap_or_default();
    let Err(not_a_minor) = device::minor_of(word) else {
        return run(call);
    };
    let mut channel = Channel::open()?;
    let minors = super::query::minors_of(&mut channel, word)?;
    if minors.is_empty() {
        return Err(not_a_minor);
    }
    for minor in minors {
        let _lock = device::MinorLock::take(minor)?;
        let request = Request::new(command_of(call)?).minor(minor);
        let object = minor.to_string();
        let answer = channel
            .command(with_payload(call, request)?)
            .map_err(|error| no_answer(&object, error))?;
        check_answer(&object, &answer)?;
    }
    Ok(0)
}

/// `down`: takes a resource down, or all of them.
pub(super) fn down(call: &Call<'_>) -> Outcome {
    let name = call.arg(Arg::Resource).unwrap_or_default();
    let mut channel = Channel::open()?;
    if name == "all" {
        let mut worst = 0;
        for resource in super::query::resource_names(&mut channel)? {
            worst = match down_one(&mut channel, &resource) {
                Ok(code) => worst.max(code),
                Err(failure) => worst.max(failure.report()),
            };
        }
        return Ok(worst);
    }
    down_one(&mut channel, name)
}

fn down_one(channel: &mut Channel, name: &str) -> Outcome {
    let minors = super::query::minors_of(channel, name)?;
    let request = Request::new(Command::Down).context(Some(name), None, None)?;
    let answer = channel
        .command(request)
        .map_err(|error| no_answer(name, error))?;
    if answer.ret_code() == RetCode::RES_NOT_KNOWN {
        if std::io::stderr().is_terminal() {
            eprintln!("Resource unknown");
        }
        return Ok(0);
    }
    check_answer(name, &answer)?;
    for minor in minors {
        device::unregister_minor(minor);
    }
    device::unregister_resource(name);
    Ok(0)
}

/// `del-minor`.
pub(super) fn del_minor(call: &Call<'_>) -> Outcome {
    let code = run(call)?;
    if let Some(minor) = call.minor()? {
        device::unregister_minor(minor);
    }
    Ok(code)
}

/// `del-resource`.
pub(super) fn del_resource(call: &Call<'_>) -> Outcome {
    let code = run(call)?;
    device::unregister_resource(call.arg(Arg::Resource).unwrap_or_default());
    Ok(code)
}

fn command_of(call: &Call<'_>) -> Result<Command, Failure> {
    call.spec
        .command
        .ok_or_else(|| Failure::local("nothing to send"))
}

/// Name of the object in messages: the first argument, except where it does not name the object.
fn object_of<'a>(call: &Call<'a>) -> &'a str {
    match call.spec.args.first() {
        Some(Arg::Minor) => call.args.first().copied().unwrap_or("??"),
        Some(Arg::Resource) if !call.spec.args.contains(&Arg::Minor) => {
            call.args.first().copied().unwrap_or("??")
        }
        _ => "??",
    }
}

/// Puts the request together.
fn request_of(call: &Call<'_>) -> Result<Request, Failure> {
    let mut request = Request::new(command_of(call)?);
    if call.set_defaults {
        request = request.flags(SET_DEFAULTS);
    }
    if let Some(minor) = call.minor()? {
        request = request.minor(minor);
    }
    let volume = match call.arg(Arg::Volume) {
        Some(word) => Some(volume_of(word)?),
        None => None,
    };
    let resource = call.arg(Arg::Resource);
    let endpoints = match (call.arg(Arg::LocalAddr), call.arg(Arg::RemoteAddr)) {
        (Some(local), Some(remote)) => Some((endpoint(local)?, endpoint(remote)?)),
        _ => None,
    };
    if resource.is_some() || endpoints.is_some() {
        if let Some(name) = resource {
            check_name(name)?;
        }
        let endpoints = endpoints.as_ref().map(|(my, peer)| (&my[..], &peer[..]));
        request = request.context(resource, volume, endpoints)?;
    }
    with_payload(call, request)
}

/// Adds options and the positional arguments that travel with them.
fn with_payload(call: &Call<'_>, request: Request) -> Result<Request, Failure> {
    let disk = match (
        call.arg(Arg::LowerDev),
        call.arg(Arg::MetaDev),
        call.arg(Arg::MetaIndex),
    ) {
        (Some(lower), Some(meta), Some(index)) => Some(Backing::new(lower, meta, index)?),
        _ => None,
    };
    if disk.is_none() && call.options.is_empty() {
        return Ok(request);
    }
    Ok(request.nest(call.spec.tla, |writer| {
        if let Some(disk) = &disk {
            disk.write(writer)?;
        }
        for (option, value) in &call.options {
            match value {
                OptionArg::Address(address) => writer.put(&option.field, address)?,
                OptionArg::Value(value) => option.write(writer, *value)?,
            }
        }
        Ok(())
    })?)
}

/// Devices of an attach.
struct Backing<'a> {
    lower: &'a str,
    meta: &'a str,
    index: i32,
}

impl<'a> Backing<'a> {
    fn new(lower: &'a str, meta: &'a str, index: &str) -> Result<Self, Failure> {
        check_block_device(lower)?;
        check_block_device(meta)?;
        let index = match index {
            "internal" | "flex-internal" => FLEX_INTERNAL,
            "flexible" | "flex-external" => FLEX_EXTERNAL,
            number => number
                .parse()
                .map_err(|_| Failure::local(format!("{number} is not a valid number")))?,
        };
        Ok(Self { lower, meta, index })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), NoSpace> {
        writer.text(&DiskConf::BACKING_DEV, self.lower.as_bytes())?;
        writer.text(&DiskConf::META_DEV, self.meta.as_bytes())?;
        writer.s32(&DiskConf::META_DEV_IDX, self.index)
    }
}

fn check_block_device(path: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::local(format!(
            "Can not open device '{path}': {}",
            strerror(&error)
        ))
    };
    let node = std::fs::metadata(path).map_err(failed)?;
    if !node.file_type().is_block_device() {
        return Err(Failure::local(format!("{path} is not a block device!")));
    }
    std::fs::File::open(path).map(drop).map_err(failed)
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::new(1, "Resource name is empty."));
    }
    if name
        .chars()
        .any(|letter| letter.is_control() || letter == '/')
    {
        return Err(Failure::local(format!(
            "Invalid resource name '{}'",
            name.escape_debug()
        )));
    }
    Ok(())
}

fn volume_of(word: &str) -> Result<u32, Failure> {
    match word.parse() {
        Ok(volume) => Ok(volume),
        Err(_) => Err(Failure::local(format!(
            "{word} is not a valid volume number"
        ))),
    }
}

fn endpoint(word: &str) -> Result<Vec<u8>, Failure> {
    address::parse(word).map_err(|error| Failure::local(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;
    use drbd_format::netlink::ids::{tla, Message, NO_MINOR};

    fn message(words: &[&'static str]) -> crate::netlink::message::DrbdMessage {
        let spec = COMMANDS.iter().find(|spec| spec.name == words[0]).unwrap();
        request_of(&Call::parse("drbdsetup", spec, &words[1..]).unwrap())
            .unwrap()
            .into_message()
    }

    #[test]
    fn minor_commands_carry_no_context_and_no_empty_payload() {
        let message = message(&["secondary", "3"]);
        assert_eq!(message.header.minor, 3);
        assert!(message.attrs.is_empty());
    }

    #[test]
    fn disconnect_names_the_connection_but_not_the_resource() {
        let message = message(&["disconnect", "1.2.3.4:1", "1.2.3.5:1", "--force"]);
        assert_eq!(message.header.minor, NO_MINOR);
        let context = message.context().unwrap();
        assert!(context.resource_name.is_none() && context.my_addr.is_some());
        assert!(message.has(tla::DISCONNECT_PARMS));
        assert!(Message::request(Command::Disconnect, &message.attrs).is_ok());
    }

    #[test]
    fn set_defaults_is_a_flag_of_the_header() {
        let message = message(&["disk-options", "0", "--set-defaults"]);
        assert_eq!(message.header.word, SET_DEFAULTS);
        assert!(message.attrs.is_empty());
    }

    #[test]
    fn every_request_is_acceptable_to_the_strict_kernel() {
        for words in [
            &["new-resource", "r0", "--on-no-data-accessible=suspend-io"][..],
            &["new-minor", "r0", "0", "0"],
            &[
                "connect",
                "r0",
                "1.2.3.4:1",
                "1.2.3.5:1",
                "--protocol=C",
                "--tentative",
            ],
            &["verify", "0", "--start=8"],
            &["resize", "0", "--size=1G", "--assume-clean"],
            &["down", "r0"],
        ] {
            let message = message(words);
            let command = Command::from_number(message.command).unwrap();
            assert!(
                Message::request(command, &message.attrs).is_ok(),
                "{words:?}"
            );
        }
    }
}
