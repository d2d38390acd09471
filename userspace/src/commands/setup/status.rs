//! `status`: collects what the kernel says about resources, volumes and connections.

use super::cmdline::Call;
use super::table::Arg;
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::Channel;
use crate::report::{outln, Failure, Outcome};
use crate::status::model::{Connection, Device, PeerDevice, Resource};
use crate::status::text::Style;
use crate::status::{json, text};
use drbd_format::netlink::codes::RetCode;
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::{
    ConnectionInfo, ConnectionStatistics, DeviceInfo, DeviceStatistics, PeerDeviceInfo,
    PeerDeviceStatistics, ResourceInfo, ResourceStatistics,
};
use std::io::IsTerminal;

/// Columns if the terminal does not tell.
const WIDTH: usize = 80;

/// Shows the status of one resource or all.
pub(super) fn status(call: &Call<'_>) -> Outcome {
    let wanted = call.arg(Arg::ResourceOrAll).filter(|word| *word != "all");
    if let Some(Some(word)) = call.local("color") {
        if !matches!(word, "auto" | "always" | "never") {
            return Err(Failure::local(format!("unknown --color argument '{word}'")));
        }
    }
    let mut channel = Channel::open()?;
    let resources = collect(&mut channel, wanted)?;
    if let (Some(name), true) = (wanted, resources.is_empty()) {
        return Err(Failure::new(10, format!("{name}: No such resource")));
    }
    if call.has("json") {
        outln!("{}", json::resources(&resources).trim_end());
        return Ok(0);
    }
    let style = Style {
        verbose: call.has("verbose"),
        statistics: call.has("statistics"),
        width: terminal_width().unwrap_or(WIDTH),
    };
    for resource in &resources {
        crate::report::out(&text::resource(resource, style));
    }
    Ok(0)
}

fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Asks for all resources, or one, sorted by name.
pub(super) fn collect(
    channel: &mut Channel,
    wanted: Option<&str>,
) -> Result<Vec<Resource>, Failure> {
    let mut resources = Vec::new();
    for element in dump(channel, Command::GetResources, None)? {
        let name = name_of(&element);
        if wanted.is_none_or(|wanted| wanted == name) {
            let attrs = element.read()?;
            resources.push(Resource {
                name,
                info: ResourceInfo::find(&attrs)?.unwrap_or_default(),
                statistics: ResourceStatistics::find(&attrs)?.unwrap_or_default(),
                ..Resource::default()
            });
        }
    }
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    for resource in &mut resources {
        fill(channel, resource)?;
    }
    Ok(resources)
}

fn fill(channel: &mut Channel, resource: &mut Resource) -> Result<(), Failure> {
    let name = resource.name.clone();
    for element in dump(channel, Command::GetDevices, Some(&name))? {
        let attrs = element.read()?;
        resource.devices.push(Device {
            volume: volume_of(&element),
            minor: element.minor().unwrap_or_default(),
            info: DeviceInfo::find(&attrs)?.unwrap_or_default(),
            statistics: DeviceStatistics::find(&attrs)?.unwrap_or_default(),
        });
    }
    resource.devices.sort_by_key(|device| device.volume);
    for element in dump(channel, Command::GetConnections, Some(&name))? {
        let attrs = element.read()?;
        resource.connections.push(Connection {
            info: ConnectionInfo::find(&attrs)?.unwrap_or_default(),
            statistics: ConnectionStatistics::find(&attrs)?.unwrap_or_default(),
            peer_devices: Vec::new(),
        });
    }
    // There is at most one connection, so the volumes at the peer need not be told apart.
    let Some(connection) = resource.connections.first_mut() else {
        return Ok(());
    };
    for element in dump(channel, Command::GetPeerDevices, Some(&name))? {
        let attrs = element.read()?;
        connection.peer_devices.push(PeerDevice {
            volume: volume_of(&element),
            info: PeerDeviceInfo::find(&attrs)?.unwrap_or_default(),
            statistics: PeerDeviceStatistics::find(&attrs)?.unwrap_or_default(),
        });
    }
    connection.peer_devices.sort_by_key(|device| device.volume);
    Ok(())
}

/// Returns the elements of a dump; a resource that vanished meanwhile has none.
///
/// The C driver repeats "unknown resource" without end: the first time ends the dump.
fn dump(
    channel: &mut Channel,
    command: Command,
    resource: Option<&str>,
) -> Result<Vec<DrbdMessage>, Failure> {
    let mut request = Request::new(command);
    if let Some(name) = resource {
        request = request.context(Some(name), None, None)?;
    }
    let mut dump = channel.start_dump(request)?;
    let mut elements = Vec::new();
    while let Some(element) = channel.next_of_dump(&mut dump)? {
        if element.message.ret_code() == RetCode::RES_NOT_KNOWN {
            *channel = Channel::open()?;
            break;
        }
        elements.push(element.message);
    }
    Ok(elements)
}

fn name_of(message: &DrbdMessage) -> String {
    let name = message
        .context()
        .and_then(|context| context.resource_name)
        .unwrap_or_default();
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

fn volume_of(message: &DrbdMessage) -> u32 {
    message
        .context()
        .and_then(|context| context.volume)
        .unwrap_or_default()
}
