//! Prints the configuration as XML, for `drbdadm dump-xml`.
//!
//! The elements are those of `reference/userland.md 2.11`.

use std::fmt::Write as _;

use super::model::{Address, Config, Device, HostKind, MetaIndex, Sections, Settings, Startup};
use super::resolve::{Side, View};

/// Prints the whole configuration.
pub(crate) fn dump(config: &Config, views: &[View<'_>]) -> String {
    let mut page = Page::default();
    let file = config
        .sources
        .main()
        .map(|source| source.path.display().to_string());
    let file = file.unwrap_or_default();
    page.element("config", &[("file", &file)], |page| {
        page.global(config);
        if let Some(common) = &config.common {
            page.element("common", &[], |page| page.sections(common));
        }
        for view in views {
            page.resource(config, view);
        }
    });
    page.text
}

/// Replaces the characters that have a meaning of their own.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[derive(Default)]
struct Page {
    text: String,
    depth: usize,
}

type Attributes<'a> = &'a [(&'a str, &'a str)];

impl Page {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{:indent$}{text}", "", indent = 4 * self.depth);
    }

    fn element(&mut self, name: &str, attributes: Attributes<'_>, body: impl FnOnce(&mut Self)) {
        self.line(&format!("<{}>", opening(name, attributes)));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }

    fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.line(&format!("<{}/>", opening(name, attributes)));
    }

    fn leaf(&mut self, name: &str, attributes: Attributes<'_>, content: &str) {
        self.line(&format!(
            "<{}>{}</{name}>",
            opening(name, attributes),
            escape(content)
        ));
    }

    fn global(&mut self, config: &Config) {
        let global = &config.global;
        let number = |name: &str| {
            global
                .settings
                .get(name)
                .filter(|setting| !setting.is_default())
                .map(|s| &s.value)
        };
        let (minors, refresh) = (number("minor-count"), number("dialog-refresh"));
        let unverified = global.is_on("disable-ip-verification");
        if minors.is_none() && refresh.is_none() && !unverified {
            return;
        }
        self.element("global", &[], |page| {
            if unverified {
                page.empty("disable-ip-verification", &[]);
            }
            if let Some(count) = minors {
                page.empty("minor-count", &[("count", count)]);
            }
            if let Some(refresh) = refresh {
                page.empty("dialog-refresh", &[("refresh", refresh)]);
            }
        });
    }

    fn sections(&mut self, sections: &Sections) {
        self.settings("options", &sections.options);
        self.settings("net", &sections.net);
        self.settings("disk", &sections.disk);
        self.startup(&sections.startup);
        if !sections.proxy.is_empty() {
            self.element("section", &[("name", "proxy")], |page| {
                for (name, value) in &sections.proxy.options {
                    page.empty("option", &[("name", name), ("value", value)]);
                }
                if !sections.proxy.plugins.is_empty() {
                    page.element("section", &[("name", "plugin")], |page| {
                        for words in &sections.proxy.plugins {
                            page.empty("option", &[("name", &words.join(" "))]);
                        }
                    });
                }
            });
        }
        self.settings("handlers", &sections.handlers);
    }

    fn settings(&mut self, section: &str, settings: &Settings) {
        if settings.is_empty() {
            return;
        }
        self.element("section", &[("name", section)], |page| {
            for setting in &settings.0 {
                page.empty(
                    "option",
                    &[("name", setting.name()), ("value", &setting.value)],
                );
            }
        });
    }

    fn startup(&mut self, startup: &Startup) {
        if startup.is_empty() {
            return;
        }
        self.element("section", &[("name", "startup")], |page| {
            for setting in &startup.settings.0 {
                page.empty(
                    "option",
                    &[("name", setting.name()), ("value", &setting.value)],
                );
            }
            if startup.stacked_timeouts {
                page.empty("option", &[("name", "stacked-timeouts")]);
            }
            let hosts: Vec<&str> = startup
                .become_primary_on
                .iter()
                .map(|name| name.text.as_str())
                .collect();
            if !hosts.is_empty() {
                let hosts = hosts.join(" ");
                page.empty(
                    "option",
                    &[("name", "become-primary-on"), ("value", &hosts)],
                );
            }
        });
    }

    fn resource(&mut self, config: &Config, view: &View<'_>) {
        let place = config.sources.at_path(view.resource.place);
        let attributes = [("name", view.name()), ("conf-file-line", &place)];
        self.element("resource", &attributes, |page| {
            for side in &view.sides {
                page.side(side);
            }
            page.sections(&view.resource.sections);
        });
    }

    fn side(&mut self, side: &Side<'_>) {
        let names = side.names.join(" ");
        let attribute = match side.host.kind {
            HostKind::Floating => ("floating", "1"),
            HostKind::On(_) | HostKind::Stacked(_) => ("name", names.as_str()),
        };
        self.element("host", &[attribute], |page| {
            for volume in &side.host.volumes {
                page.volume(side, volume);
            }
            page.address("address", side.host.address.as_ref());
            page.address("alternate-link-address", side.host.alternate.as_ref());
            if let Some(proxy) = &side.host.proxy {
                let hosts = super::model::join(&proxy.hosts);
                page.element("proxy", &[("hostname", &hosts)], |page| {
                    page.address("inside", proxy.inside.as_ref());
                    page.address("outside", proxy.outside.as_ref());
                });
            }
        });
    }

    fn volume(&mut self, side: &Side<'_>, volume: &super::model::Volume) {
        let number = volume.number.to_string();
        self.element("volume", &[("vnr", &number)], |page| {
            page.settings("disk", &volume.options);
            if let Some(device) = &volume.device {
                let node = device.node.as_deref().unwrap_or("");
                page.leaf("device", &[("minor", &device.minor.to_string())], node);
            }
            if side.is_stacked() {
                let device = side.lower_device(volume.number);
                page.leaf("disk", &[], &device.map(Device::path).unwrap_or_default());
                page.leaf("meta-disk", &[], "internal");
                return;
            }
            if let Some(disk) = &volume.disk {
                page.leaf("disk", &[], &disk.text);
            }
            match &volume.meta_disk {
                Some(meta) if matches!(meta.index, MetaIndex::Slot(_)) => {
                    let index = meta.index.to_string();
                    page.leaf("meta-disk", &[("index", &index)], &meta.device);
                }
                Some(meta) => page.leaf("meta-disk", &[], &meta.device),
                None => {}
            }
        });
    }

    fn address(&mut self, element: &str, address: Option<&Address>) {
        if let Some(address) = address {
            let port = address.port.to_string();
            let attributes = [("family", address.family.name()), ("port", port.as_str())];
            self.leaf(element, &attributes, &address.host);
        }
    }
}

fn opening(name: &str, attributes: Attributes<'_>) -> String {
    let mut text = name.to_owned();
    for (key, value) in attributes {
        let _ = write!(text, " {key}=\"{}\"", escape(value));
    }
    text
}
