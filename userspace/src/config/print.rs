//! Prints the configuration in the canonical form of `drbdadm dump`.
//!
//! The layout is that of `reference/userland.md 2.11`. What is printed can be read again with the
//! same result; names are therefore quoted wherever the grammar would take them for something else.

use std::fmt::Write as _;

use drbd_format::options::Domain;

use super::lexer::{self, Kind};
use super::model::{
    Address, Config, Global, Host, HostKind, MetaDisk, MetaIndex, Name, Proxy, ProxyOptions,
    Sections, Settings, Startup, Volume,
};
use super::parser::is_keyword;
use super::resolve::View;

/// Longest string that is printed without quotes.
const BARE_LEN_MAX: usize = 80;
/// Column of the values, counted from the left margin.
const VALUE_COLUMN: usize = 24;
/// Width of keywords in front of addresses and external metadata, at any depth.
const WIDE: usize = 16;

/// Prints everything but the resources: the name of the file, `global` and `common`.
pub(crate) fn header(config: &Config) -> String {
    let mut page = Page::default();
    if let Some(source) = config.sources.main() {
        page.line(&format!("# {}", source.path.display()));
    }
    page.global(&config.global);
    if let Some(common) = &config.common {
        page.block("common", |page| page.sections(common));
        page.text.push('\n');
    }
    page.text
}

/// Prints one resource with the comment in front of it.
///
/// `node` is the name of this host.
pub(crate) fn resource(config: &Config, view: &View<'_>, node: &str) -> String {
    let mut page = Page::default();
    let not = |is: bool| if is { "" } else { "not " };
    page.line(&format!(
        "# resource {} on {node}: {}ignored, {}stacked",
        name(view.name()),
        not(view.is_ignored()),
        not(view.is_stacked()),
    ));
    page.line(&format!(
        "# defined at {}",
        config.sources.at_path(view.resource.place)
    ));
    page.block(&format!("resource {}", name(view.name())), |page| {
        page.resource(view)
    });
    page.text.push('\n');
    page.text
}

/// Quotes `text` where it would not be read as one plain name.
pub(crate) fn name(text: &str) -> String {
    let is_plain = |kind: Kind| kind == Kind::Word && !is_keyword(text);
    quoted_unless(text, is_plain)
}

/// Quotes `text` where it would not be read as the value of an option.
fn value(text: &str) -> String {
    let is_plain = |kind: Kind| match kind {
        Kind::Number | Kind::Ipv4 => true,
        Kind::Word => text == "on" || !is_keyword(text),
        _ => false,
    };
    quoted_unless(text, is_plain)
}

fn quoted_unless(text: &str, is_plain: impl Fn(Kind) -> bool) -> String {
    let tokens = lexer::tokens(text);
    let is_bare = match tokens.as_slice() {
        [only] => only.text == text && only.range == (0..text.len()) && is_plain(only.kind),
        _ => false,
    };
    if is_bare && text.len() <= BARE_LEN_MAX {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn names(list: &[Name]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| name(&item.text)).collect();
    quoted.join(" ")
}

/// Text that grows line by line, indented by its depth.
#[derive(Default)]
struct Page {
    text: String,
    depth: usize,
}

impl Page {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{:indent$}{text}", "", indent = 4 * self.depth);
    }

    fn block(&mut self, heading: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{heading} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }

    /// Prints `keyword value;` with the value in its column.
    fn statement(&mut self, keyword: &str, value: &str) {
        let width = VALUE_COLUMN.saturating_sub(4 * self.depth);
        self.line(&format!("{keyword:width$} {value:>3};"));
    }

    /// Prints `keyword value;` with the keyword padded the same at any depth.
    fn wide(&mut self, keyword: &str, value: &str) {
        self.line(&format!("{keyword:WIDE$} {value};"));
    }

    fn global(&mut self, global: &Global) {
        const ORDER: [&str; 8] = [
            "disable-ip-verification",
            "minor-count",
            "dialog-refresh",
            "usage-count",
            "udev-always-use-vnr",
            "cmd-timeout-short",
            "cmd-timeout-medium",
            "cmd-timeout-long",
        ];
        let set = ORDER.iter().filter_map(|name| global.settings.get(name));
        let set: Vec<_> = set.filter(|setting| !setting.is_default()).collect();
        if set.is_empty() {
            return;
        }
        self.block("global", |page| {
            for setting in set {
                match setting.spec.domain {
                    Domain::Flag => page.line(&format!("{};", setting.name())),
                    _ => page.line(&format!("{} {};", setting.name(), setting.value)),
                }
            }
        });
        self.text.push('\n');
    }

    fn sections(&mut self, sections: &Sections) {
        self.settings("options", &sections.options);
        self.settings("net", &sections.net);
        self.settings("disk", &sections.disk);
        self.startup(&sections.startup);
        self.proxy_section(&sections.proxy);
        self.settings("handlers", &sections.handlers);
    }

    fn settings(&mut self, heading: &str, settings: &Settings) {
        if settings.is_empty() {
            return;
        }
        self.block(heading, |page| {
            for setting in &settings.0 {
                page.statement(setting.name(), &shown(setting.spec.domain, &setting.value));
            }
        });
    }

    fn startup(&mut self, startup: &Startup) {
        if startup.is_empty() {
            return;
        }
        self.block("startup", |page| {
            for setting in &startup.settings.0 {
                page.statement(setting.name(), &shown(setting.spec.domain, &setting.value));
            }
            if startup.stacked_timeouts {
                page.line("stacked-timeouts;");
            }
            if !startup.become_primary_on.is_empty() {
                page.statement("become-primary-on", &names(&startup.become_primary_on));
            }
        });
    }

    fn proxy_section(&mut self, proxy: &ProxyOptions) {
        if proxy.is_empty() {
            return;
        }
        self.block("proxy", |page| {
            for (keyword, text) in &proxy.options {
                page.statement(keyword, &value(text));
            }
            page.plugins(proxy);
        });
    }

    fn plugins(&mut self, proxy: &ProxyOptions) {
        if proxy.plugins.is_empty() {
            return;
        }
        self.block("plugin", |page| {
            for words in &proxy.plugins {
                let words: Vec<String> = words.iter().map(|word| value(word)).collect();
                page.line(&format!("{};", words.join(" ")));
            }
        });
    }

    fn resource(&mut self, view: &View<'_>) {
        for side in &view.sides {
            let heading = match &side.host.kind {
                HostKind::On(list) => format!("on {}", names(list)),
                HostKind::Floating => format!("floating {}", side.host.label()),
                HostKind::Stacked(lower) => format!("stacked-on-top-of {}", name(&lower.text)),
            };
            self.block(&heading, |page| {
                if side.is_stacked() {
                    page.line(&format!("# on {} ", side.names.join(" ")));
                }
                page.host(side.host);
            });
        }
        self.sections(&view.resource.sections);
    }

    fn host(&mut self, host: &Host) {
        self.settings("options", &host.options);
        for volume in &host.volumes {
            let is_stacked = matches!(host.kind, HostKind::Stacked(_));
            if volume.is_implicit {
                self.volume(volume, is_stacked);
            } else {
                let heading = format!("volume {}", volume.number);
                self.block(&heading, |page| page.volume(volume, is_stacked));
            }
        }
        if !matches!(host.kind, HostKind::Floating) {
            self.address("address", host.address.as_ref());
        }
        self.address("alternate-link-address", host.alternate.as_ref());
        if let Some(proxy) = &host.proxy {
            self.proxy_on(proxy);
        }
    }

    fn volume(&mut self, volume: &Volume, is_stacked: bool) {
        self.settings("disk", &volume.options);
        if let Some(device) = &volume.device {
            let node = device
                .node
                .as_deref()
                .map(|node| format!("{} ", name(node)));
            let text = format!("{}minor {}", node.unwrap_or_default(), device.minor);
            self.statement("device", &text);
        }
        if is_stacked {
            return;
        }
        if let Some(disk) = &volume.disk {
            self.statement("disk", &name(&disk.text));
        }
        if let Some(meta) = &volume.meta_disk {
            self.meta_disk(meta);
        }
    }

    fn meta_disk(&mut self, meta: &MetaDisk) {
        let device = name(&meta.device);
        match meta.index {
            MetaIndex::Internal => self.statement("meta-disk", "internal"),
            MetaIndex::Flexible => self.wide("meta-disk", &device),
            MetaIndex::Slot(slot) => self.wide("meta-disk", &format!("{device} [{slot}]")),
        }
    }

    fn address(&mut self, keyword: &str, address: Option<&Address>) {
        if let Some(address) = address {
            self.wide(
                keyword,
                &format!("{} {}", address.family.name(), address.endpoint()),
            );
        }
    }

    fn proxy_on(&mut self, proxy: &Proxy) {
        self.block(&format!("proxy on {}", names(&proxy.hosts)), |page| {
            page.address("inside", proxy.inside.as_ref());
            page.address("outside", proxy.outside.as_ref());
            if proxy.options.is_empty() {
                return;
            }
            page.block("options", |page| {
                for (keyword, text) in &proxy.options.options {
                    page.line(&format!("{keyword} {};", value(text)));
                }
                page.plugins(&proxy.options);
            });
        });
    }
}

/// Returns the value of a setting as the grammar wants it.
fn shown(domain: Domain, text: &str) -> String {
    match domain {
        Domain::Switch { .. } | Domain::Flag => text.to_owned(),
        _ => value(text),
    }
}
