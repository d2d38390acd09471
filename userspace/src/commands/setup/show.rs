//! `show`: the configuration in effect, in the language of the configuration.

use super::cmdline::Call;
use super::device;
use super::query;
use super::table::Arg;
use crate::config::print;
use crate::netlink::address;
use crate::netlink::message::{DrbdMessage, Request};
use crate::netlink::request::Channel;
use crate::report::{check_answer, Failure, Outcome};
use drbd_format::netlink::ids::Command;
use drbd_format::netlink::info::Context;
use drbd_format::netlink::tlv::{Kind, Nest};
use drbd_format::options::{DiskConf, Domain, NetConf, OptionSpec, Parsed, ResourceOpts};
use std::fmt::Write;

/// Order in which disk options are shown, which is not that of their numbers.
const DISK_ORDER: &[&str] = &[
    "size",
    "max-bio-bvecs",
    "on-io-error",
    "fencing",
    "disk-barrier",
    "disk-flushes",
    "disk-drain",
    "md-flushes",
    "resync-rate",
    "resync-after",
    "al-extents",
    "al-updates",
    "discard-zeroes-if-aligned",
    "disable-write-same",
    "c-plan-ahead",
    "c-delay-target",
    "c-fill-target",
    "c-max-rate",
    "c-min-rate",
    "disk-timeout",
    "read-balancing",
    "rs-discard-granularity",
];

/// Order in which connection options are shown.
const NET_ORDER: &[&str] = &[
    "tentative",
    "discard-my-data",
    "protocol",
    "timeout",
    "max-epoch-size",
    "max-buffers",
    "unplug-watermark",
    "connect-int",
    "ping-int",
    "sndbuf-size",
    "rcvbuf-size",
    "ko-count",
    "allow-two-primaries",
    "cram-hmac-alg",
    "shared-secret",
    "after-sb-0pri",
    "after-sb-1pri",
    "after-sb-2pri",
    "always-asbp",
    "rr-conflict",
    "ping-timeout",
    "data-integrity-alg",
    "tcp-cork",
    "on-congestion",
    "congestion-fill",
    "congestion-extents",
    "csums-alg",
    "csums-after-crash-only",
    "verify-alg",
    "use-rle",
    "socket-check-timeout",
];

/// Order in which resource options are shown.
const RESOURCE_ORDER: &[&str] = &["cpu-mask", "on-no-data-accessible"];

/// Shows what the optional argument names: a minor, a resource, or everything.
pub(super) fn show(call: &Call<'_>) -> Outcome {
    let word = call.arg(Arg::Some).filter(|word| *word != "all");
    let mut channel = Channel::open()?;
    let messages = match word.map(device::minor_of) {
        Some(Ok(minor)) => {
            let answer = channel.command(Request::new(Command::GetStatus).minor(minor))?;
            check_answer(word.unwrap_or("??"), &answer)?;
            vec![answer]
        }
        _ => query::dump_status(&mut channel, word)?,
    };
    if messages.is_empty() && word.is_some() {
        return Err(Failure::local(
            "received netlink error reply: No such device",
        ));
    }
    crate::report::out(&configuration(&messages, call.has("show-defaults"))?);
    Ok(0)
}

/// Writes the configuration that the elements of a status dump describe.
fn configuration(messages: &[DrbdMessage], defaults: bool) -> Result<String, Failure> {
    let mut resources: Vec<(Vec<u8>, Vec<&DrbdMessage>)> = Vec::new();
    for message in messages {
        let name = message.context().and_then(|context| context.resource_name);
        let name = name.unwrap_or_default().as_bytes().to_vec();
        match resources.iter_mut().find(|(known, _)| *known == name) {
            Some((_, volumes)) => volumes.push(message),
            None => resources.push((name, vec![message])),
        }
    }
    let mut out = Printer {
        text: String::new(),
        depth: 0,
        defaults,
    };
    for (name, volumes) in &resources {
        if !out.text.is_empty() {
            out.text.push('\n');
        }
        out.resource(&String::from_utf8_lossy(name), volumes)?;
    }
    Ok(out.text)
}

struct Printer {
    text: String,
    depth: usize,
    defaults: bool,
}

impl Printer {
    fn resource(&mut self, name: &str, volumes: &[&DrbdMessage]) -> Result<(), Failure> {
        let first = volumes.first().copied();
        let Some(first) = first else { return Ok(()) };
        let context = first.context().unwrap_or_default();
        self.open(&format!("resource {}", print::name(name)));
        self.options(
            "options",
            first,
            ResourceOpts::TLA,
            ResourceOpts::OPTIONS,
            RESOURCE_ORDER,
        );
        self.options("net", first, NetConf::TLA, NetConf::OPTIONS, NET_ORDER);
        if let Some(peer) = context.peer_addr {
            self.open("_remote_host");
            self.statement("address", &address::show(peer.as_bytes()));
            self.close();
        }
        self.open("_this_host");
        if let Some(local) = context.my_addr {
            self.statement("address", &address::show(local.as_bytes()));
        }
        for volume in volumes.iter().filter(|volume| volume.minor().is_some()) {
            self.volume(volume)?;
        }
        self.close();
        self.close();
        Ok(())
    }

    fn volume(&mut self, message: &DrbdMessage) -> Result<(), Failure> {
        let context = Context::find(&message.read()?)?.unwrap_or_default();
        self.open(&format!("volume {}", context.volume.unwrap_or_default()));
        let minor = message.minor().unwrap_or_default();
        self.statement("device", &format!("minor {minor}"));
        if let Some(disk) = DiskConf::find(&message.read()?)? {
            self.statement("disk", &quoted(disk.backing_dev.as_bytes()));
            let meta = match disk.meta_dev_idx {
                -1 | -3 => "internal".to_owned(),
                -2 => quoted(disk.meta_dev.as_bytes()),
                index => format!("{} [ {index} ]", quoted(disk.meta_dev.as_bytes())),
            };
            self.statement("meta-disk", &meta);
            self.options(
                "disk",
                message,
                DiskConf::TLA,
                DiskConf::OPTIONS,
                DISK_ORDER,
            );
        }
        self.close();
        Ok(())
    }

    /// Writes a section; it is there as soon as the kernel speaks of it, even if empty.
    fn options(
        &mut self,
        section: &str,
        message: &DrbdMessage,
        tla: u16,
        options: &[OptionSpec],
        order: &[&str],
    ) {
        let fields: Vec<_> = options.iter().map(|option| option.field).collect();
        let Some(nest) = message.nest(tla, &fields) else {
            return;
        };
        self.open(section);
        let option_of = |name: &&str| options.iter().find(|option| option.name == *name);
        for option in order.iter().filter_map(option_of) {
            if let Some(line) = option_line(option, &nest, self.defaults) {
                self.line(&line);
            }
        }
        self.close();
    }

    fn statement(&mut self, name: &str, value: &str) {
        self.line(&format!("{name}\t\t\t{value};"));
    }

    fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:width$}{line}", "", width = self.depth * 4);
    }
}

/// Returns the line of one option, `None` if it is absent or default and defaults are hidden.
fn option_line(option: &OptionSpec, nest: &Nest<'_>, defaults: bool) -> Option<String> {
    let text = nest.text(&option.field).map(String::from_utf8_lossy);
    let value = match option.field.kind {
        Kind::U8 => Parsed::Switch(nest.u8(&option.field)? != 0),
        Kind::U32 => Parsed::Number(nest.u32(&option.field)?.into()),
        Kind::S32 => Parsed::Minor(nest.s32(&option.field)?),
        Kind::U64 => Parsed::Number(nest.u64(&option.field)?),
        Kind::Text(_) => Parsed::Text(text.as_deref()?),
        Kind::Binary(_) => return None,
    };
    let is_default = option.is_default(value);
    if is_default && (!defaults || option.domain == Domain::Flag) {
        return None;
    }
    let mut remarks = Vec::new();
    let shown = match (option.domain, value) {
        (Domain::Number { unit, .. }, Parsed::Number(number)) => {
            remarks.extend(unit.words());
            format!("{number}{}", unit.letter())
        }
        (Domain::Choice { choices, .. }, Parsed::Number(number)) => choices
            .iter()
            .find(|(_, known)| u64::from(*known) == number)
            .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned()),
        (_, Parsed::Switch(yes)) => (if yes { "yes" } else { "no" }).to_owned(),
        (_, Parsed::Minor(minor)) => minor.to_string(),
        (_, Parsed::Number(number)) => number.to_string(),
        (_, Parsed::Text(text)) => quoted(text.as_bytes()),
    };
    if is_default {
        remarks.push("default");
    }
    let mut line = format!("{:<16}\t{shown};", option.name);
    if !remarks.is_empty() {
        let _ = write!(line, " # {}", remarks.join(", "));
    }
    Some(line)
}

fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Config;
    use crate::config::parser;
    use drbd_format::netlink::record::Text;
    use drbd_format::netlink::tlv::Writer;
    use drbd_format::options::Section;
    use drbd_format::types::{OnIoError, Protocol};

    /// What the C driver answers, as far as it matters here.
    fn element() -> DrbdMessage {
        let my = address::parse("10.22.100.212:7789").unwrap();
        let peer = address::parse("10.22.100.215:7789").unwrap();
        let mut message = Request::new(Command::GetStatus)
            .context(Some("r0"), Some(0), Some((&my, &peer)))
            .unwrap()
            .minor(0)
            .into_message();
        let mut buf = [0; 4096];
        let mut writer = Writer::reply(&mut buf);
        ResourceOpts::default().emit(&mut writer).unwrap();
        let disk = DiskConf {
            backing_dev: Text::new(b"/dev/ubdb").unwrap(),
            meta_dev: Text::new(b"/dev/ubdb").unwrap(),
            meta_dev_idx: -3,
            on_io_error: OnIoError::PassOn,
            resync_rate: 10240,
            c_plan_ahead: 0,
            ..DiskConf::default()
        };
        disk.emit(&mut writer).unwrap();
        let net = NetConf {
            wire_protocol: Protocol::A,
            cram_hmac_alg: Text::new(b"sha1").unwrap(),
            shared_secret: Text::new(b"a \"b").unwrap(),
            ..NetConf::default()
        };
        net.emit(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
        message
    }

    #[test]
    fn output_is_that_of_the_reference() {
        // Recorded with drbd-utils 9.22 and the C driver 8.4.11.
        let wanted = "resource r0 {
    options {
    }
    net {
        protocol        \tA;
        cram-hmac-alg   \t\"sha1\";
        shared-secret   \t\"a \\\"b\";
    }
    _remote_host {
        address\t\t\tipv4 10.22.100.215:7789;
    }
    _this_host {
        address\t\t\tipv4 10.22.100.212:7789;
        volume 0 {
            device\t\t\tminor 0;
            disk\t\t\t\"/dev/ubdb\";
            meta-disk\t\t\tinternal;
            disk {
                on-io-error     \tpass_on;
                resync-rate     \t10240k; # bytes/second
                c-plan-ahead    \t0; # 1/10 seconds
            }
        }
    }
}
";
        assert_eq!(configuration(&[element()], false).unwrap(), wanted);
    }

    #[test]
    fn resources_are_separated_by_an_empty_line() {
        let other = Request::new(Command::GetStatus)
            .context(Some("r 1"), None, None)
            .unwrap()
            .into_message();
        let text = configuration(&[element(), other], false).unwrap();
        assert!(
            text.ends_with("    }\n}\n\nresource \"r 1\" {\n    _this_host {\n    }\n}\n"),
            "{text}"
        );
    }

    #[test]
    fn names_that_mean_something_else_can_be_read_back() {
        for name in [
            "disk", "resource", "5", "12M", "size", "10.0.0.1", "a\"b", "r0",
        ] {
            let message = Request::new(Command::GetStatus)
                .context(Some(name), None, None)
                .unwrap()
                .into_message();
            let text = configuration(&[message], false).unwrap();
            let mut config = Config::default();
            parser::parse_running(&mut config, name, text).expect(name);
            assert_eq!(config.resources[0].name.text, name);
        }
    }

    /// What the C driver 8.4.11 reports for everything that was not set.
    const DEFAULTS: &[&str] = &[
        "cpu-mask        \t\"\"; # default",
        "on-no-data-accessible\tio-error; # default",
        "timeout         \t60; # 1/10 seconds, default",
        "max-epoch-size  \t2048; # default",
        "max-buffers     \t2048; # default",
        "unplug-watermark\t128; # default",
        "connect-int     \t10; # seconds, default",
        "ping-int        \t10; # seconds, default",
        "sndbuf-size     \t0; # bytes, default",
        "rcvbuf-size     \t0; # bytes, default",
        "ko-count        \t7; # default",
        "allow-two-primaries\tno; # default",
        "after-sb-0pri   \tdisconnect; # default",
        "after-sb-1pri   \tdisconnect; # default",
        "after-sb-2pri   \tdisconnect; # default",
        "always-asbp     \tno; # default",
        "rr-conflict     \tdisconnect; # default",
        "ping-timeout    \t5; # 1/10 seconds, default",
        "data-integrity-alg\t\"\"; # default",
        "tcp-cork        \tyes; # default",
        "on-congestion   \tblock; # default",
        "congestion-fill \t0s; # bytes, default",
        "congestion-extents\t1237; # default",
        "csums-alg       \t\"\"; # default",
        "csums-after-crash-only\tno; # default",
        "verify-alg      \t\"\"; # default",
        "use-rle         \tyes; # default",
        "socket-check-timeout\t0; # default",
        "size            \t0s; # bytes, default",
        "max-bio-bvecs   \t0; # default",
        "fencing         \tdont-care; # default",
        "disk-barrier    \tno; # default",
        "disk-flushes    \tyes; # default",
        "disk-drain      \tyes; # default",
        "md-flushes      \tyes; # default",
        "resync-after    \t-1; # default",
        "al-extents      \t1237; # default",
        "al-updates      \tyes; # default",
        "discard-zeroes-if-aligned\tyes; # default",
        "disable-write-same\tno; # default",
        "c-delay-target  \t10; # 1/10 seconds, default",
        "c-fill-target   \t100s; # bytes, default",
        "c-max-rate      \t102400k; # bytes/second, default",
        "c-min-rate      \t250k; # bytes/second, default",
        "disk-timeout    \t0; # 1/10 seconds, default",
        "read-balancing  \tprefer-local; # default",
        "rs-discard-granularity\t0; # default",
    ];

    #[test]
    fn defaults_are_those_of_the_c_driver() {
        let mut message = element();
        let mut buf = [0; 4096];
        let mut writer = Writer::reply(&mut buf);
        ResourceOpts::default().emit(&mut writer).unwrap();
        DiskConf::default().emit(&mut writer).unwrap();
        NetConf::default().emit(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
        let text = configuration(&[message], true).unwrap();
        for line in DEFAULTS {
            assert!(
                text.contains(&format!("    {line}\n")),
                "{line} not in {text}"
            );
        }
        let marked = text.matches("default\n").count();
        // Six more were set when the list was recorded.
        assert_eq!(marked, DEFAULTS.len() + 6, "{text}");
    }

    #[test]
    fn every_option_has_its_place() {
        for (options, order) in [
            (DiskConf::OPTIONS, DISK_ORDER),
            (NetConf::OPTIONS, NET_ORDER),
            (ResourceOpts::OPTIONS, RESOURCE_ORDER),
        ] {
            for option in options {
                let hidden = matches!(option.domain, Domain::Argument | Domain::Address);
                assert_ne!(order.contains(&option.name), hidden, "{}", option.name);
            }
        }
    }

    /// Spells values of an option as they may stand in a configuration.
    fn spellings(option: &OptionSpec) -> Vec<String> {
        let all: Vec<String> = match option.domain {
            Domain::Number { min, max, .. } => {
                let beyond = [min, max, max / 2, min.saturating_sub(1), max + 1];
                let sizes = ["4M", "1025K", "1G", "8193s"].map(str::to_owned);
                sizes
                    .into_iter()
                    .chain(beyond.map(|n| n.to_string()))
                    .collect()
            }
            Domain::Choice { choices, .. } if option.name == "protocol" => choices
                .iter()
                .map(|(name, _)| name.to_lowercase())
                .collect(),
            Domain::Choice { choices, .. } => {
                choices.iter().map(|(name, _)| (*name).to_owned()).collect()
            }
            Domain::Switch { .. } => ["yes", "no", ""].map(str::to_owned).to_vec(),
            Domain::Minor => ["7", "-1"].map(str::to_owned).to_vec(),
            Domain::Text => [r#""""#, "sha1", r#""a b""#, r#""\"\\;#{}""#, "0f"]
                .map(str::to_owned)
                .to_vec(),
            Domain::Address | Domain::Argument | Domain::Flag | Domain::Words => Vec::new(),
        };
        let is_accepted = |value: &String| match option.domain {
            Domain::Number { .. } => option
                .parse(value)
                .is_ok_and(|value| !option.checked || option.check(value).is_ok()),
            _ => true,
        };
        all.into_iter().filter(is_accepted).collect()
    }

    /// What drbdadm changes about a resource that runs with just these options.
    fn adjusted(option: &OptionSpec, value: &str) -> Vec<String> {
        use crate::adjust::{call::Maker, diff::compare};
        use crate::config::{local::Node, resolve::resolve};
        let text = format!(
            "resource r0 {{ {} {{ {} {value}; }} device minor 0; disk /dev/ubdb; \
             meta-disk internal; floating 10.22.100.212:7789; floating 10.22.100.215:7789; }}",
            option.section.name(),
            option.name
        );
        let mut config = Config::default();
        let path = std::path::Path::new("/test.conf");
        parser::parse(&mut config, "test.conf", path, text).expect(option.name);
        let config = config.expanded();
        let node = Node::for_test("a", &["10.22.100.212"]);
        let views = resolve(&config, &node, None).expect("one resource");
        let maker = Maker {
            views: &views,
            view: &views[0],
            node: "a",
        };
        let mut running = Config::default();
        let shown = configuration(&[running_with(&maker)], false).unwrap();
        parser::parse_running(&mut running, "r0", shown).expect(option.name);
        let changes = compare(&maker, running.resources.first()).changes;
        changes
            .iter()
            .flat_map(|change| change.describe())
            .collect()
    }

    /// What the kernel reports after it got the options that drbdadm gives it.
    fn running_with(maker: &crate::adjust::call::Maker<'_>) -> DrbdMessage {
        let [_, attach] = maker.attach(&maker.view.volumes()[0]);
        let calls = [maker.new_resource(), maker.connect(), attach];
        let words = calls.iter().flat_map(|call| &call.args);
        let mut disk = DiskConf {
            backing_dev: Text::new(b"/dev/ubdb").unwrap(),
            meta_dev_idx: -3,
            ..DiskConf::default()
        };
        let (mut net, mut resource) = (NetConf::default(), ResourceOpts::default());
        for word in words.filter_map(|word| word.strip_prefix("--")) {
            let (name, value) = word.split_once('=').unwrap();
            let all = [DiskConf::OPTIONS, NetConf::OPTIONS, ResourceOpts::OPTIONS];
            let option = all.into_iter().flatten().find(|o| o.name == name).unwrap();
            let write = |w: &mut Writer<'_>| option.write(w, option.parse(value).unwrap());
            let request = Request::new(Command::GetStatus).nest(1, write).unwrap();
            let request = request.into_message();
            match option.section {
                Section::Disk => disk.apply(&request.nest(1, DiskConf::FIELDS).unwrap()),
                Section::Net => net.apply(&request.nest(1, NetConf::FIELDS).unwrap()),
                _ => resource.apply(&request.nest(1, ResourceOpts::FIELDS).unwrap()),
            }
            .unwrap();
        }
        let mut message = element();
        let mut buf = [0; 4096];
        let mut writer = Writer::reply(&mut buf);
        disk.emit(&mut writer).unwrap();
        net.emit(&mut writer).unwrap();
        resource.emit(&mut writer).unwrap();
        message.attrs.extend_from_slice(writer.written());
        message
    }

    #[test]
    fn what_was_set_up_as_configured_needs_no_adjusting() {
        for section in [Section::Disk, Section::Net, Section::Options] {
            for option in section.options() {
                for value in spellings(option) {
                    let changes = adjusted(option, &value);
                    assert!(changes.is_empty(), "{} {value}: {changes:?}", option.name);
                }
            }
        }
    }
}
