//! The options of each section.

use super::{
    argument, choice, number, option, switch, Change, Choice, Domain, OptionError, OptionSpec,
    OptionValue, Section, Unit, AFTER_SB_POLICIES, FENCING_POLICIES, ON_CONGESTION_POLICIES,
    ON_IO_ERROR_POLICIES, ON_NO_DATA_POLICIES, PROTOCOLS, READ_BALANCING_POLICIES,
    RR_CONFLICT_POLICIES,
};
use crate::netlink::record::{record, Bytes, Text};
use crate::netlink::tlv::{Nest, TlvError};
use crate::types::{
    AfterSbPolicy, Fencing, OnCongestion, OnIoError, OnNoData, Protocol, ReadBalancing, RrConflict,
};

/// Describes a section: constant, number, mark, name, type, and the option.
macro_rules! options {
    (
        $(#[$doc:meta])*
        struct $name:ident = $tla:ident, $section:ident {
            $(
                $(#[$field_doc:meta])*
                $const:ident = $nr:literal $mark:ident $field:ident: $type:ty, $option:expr;
            )*
        }
    ) => {
        record! {
            $(#[$doc])*
            struct $name = $tla {
                $($(#[$field_doc])* $const = $nr $mark $field: $type;)*
            }
        }

        impl $name {
            /// The options of the section, in the order of their attribute numbers.
            pub const OPTIONS: &'static [OptionSpec] =
                &[$($option.placed(Section::$section, Self::$const)),*];

            /// Takes over every value that is present in `nest`, moved into its limits.
            ///
            /// # Errors
            ///
            /// A choice that does not exist. The structure is then as it was.
            pub fn apply(&mut self, nest: &Nest<'_>) -> Result<(), OptionError> {
                let mut changed = *self;
                changed.overlay(nest)?;
                let mut options = Self::OPTIONS.iter();
                $(
                    if let Some(option) = options.next() {
                        changed.$field.limit(&option.domain);
                    }
                )*
                *self = changed;
                Ok(())
            }

            /// Refuses attributes that cannot change after attach or connect.
            ///
            /// # Errors
            ///
            /// [`OptionError::Invariant`] for the first one.
            pub fn refuse_invariants(nest: &Nest<'_>) -> Result<(), OptionError> {
                let fixed = |option: &&OptionSpec| option.change != Change::Online;
                match Self::OPTIONS.iter().filter(fixed).find(|option| nest.has(&option.field)) {
                    Some(option) => Err(OptionError::Invariant { field: option.field.name }),
                    None => Ok(()),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $(const { assert!(is_described(&$name::$const, $name::OPTIONS)) };)*
                Self {
                    $($field: <$type>::default_of(
                        &const { $option.placed(Section::$section, $name::$const) }.domain,
                    ),)*
                }
            }
        }
    };
}

/// Whether exactly one option is sent as `field`; the table is checked while compiling.
const fn is_described(field: &crate::netlink::tlv::Field, options: &[OptionSpec]) -> bool {
    let (mut rest, mut found) = (options, 0u32);
    while let [option, tail @ ..] = rest {
        if option.field.number == field.number {
            found = found.saturating_add(1);
        }
        rest = tail;
    }
    found == 1
}

const AFTER_SB_0P: &[Choice] = AFTER_SB_POLICIES.split_at(7).0;

const AFTER_SB_1P: &[Choice] = &[
    ("disconnect", 0),
    ("consensus", 7),
    ("discard-secondary", 8),
    ("call-pri-lost-after-sb", 9),
    ("violently-as0p", 10),
];

const AFTER_SB_2P: &[Choice] = &[
    ("disconnect", 0),
    ("call-pri-lost-after-sb", 9),
    ("violently-as0p", 10),
];

options! {
    /// Options of a backing disk.
    struct DiskConf = DISK_CONF, Disk {
        /// Path of the backing device.
        BACKING_DEV = 1 optional backing_dev: Text<128>, argument("backing_dev");
        /// Path of the metadata device.
        META_DEV = 2 optional meta_dev: Text<128>, argument("meta_dev");
        /// Where the metadata lies: -1 and -3 internal, -2 flexible external, otherwise a slot.
        META_DEV_IDX = 3 optional meta_dev_idx: i32, argument("meta_dev_idx");
        /// Wanted size in sectors, 0 for as large as possible.
        DISK_SIZE = 4 mandatory disk_size: u64,
            number("size", 0, 0, 1 << 41, Unit::Sectors).checked().change(Change::Attach);
        /// Limit for the segments of a request, 0 for none.
        MAX_BIO_BVECS = 5 mandatory max_bio_bvecs: u32,
            number("max-bio-bvecs", 0, 0, 128, Unit::Plain).change(Change::Attach);
        /// What happens when the disk fails.
        ON_IO_ERROR = 6 mandatory on_io_error: OnIoError,
            choice("on-io-error", ON_IO_ERROR_POLICIES, 2);
        /// Whether a lost peer must be fenced.
        FENCING = 7 mandatory fencing: Fencing, choice("fencing", FENCING_POLICIES, 0);
        /// Resync rate in KiB/s while the controller is off.
        RESYNC_RATE = 8 mandatory resync_rate: u32,
            number("resync-rate", 250, 1, 4_194_304, Unit::KibPerSecond)
                .aliases(&["rate"]).in_syncer().checked();
        /// Minor of the volume that is to be resynced before, -1 for none. Not yet checked.
        RESYNC_AFTER = 9 mandatory resync_after: i32,
            option("resync-after", Domain::Minor).aliases(&["after"]).in_syncer();
        /// Slots of the activity log.
        AL_EXTENTS = 10 mandatory al_extents: u32,
            number("al-extents", 1237, 67, 65534, Unit::Plain).in_syncer();
        /// Planning horizon of the rate controller in 0.1 s, 0 for a fixed rate.
        C_PLAN_AHEAD = 11 mandatory c_plan_ahead: u32,
            number("c-plan-ahead", 20, 0, 300, Unit::TenthSeconds).in_syncer().checked();
        /// Wanted delay on the link in 0.1 s.
        C_DELAY_TARGET = 12 mandatory c_delay_target: u32,
            number("c-delay-target", 10, 1, 100, Unit::TenthSeconds).in_syncer().checked();
        /// Wanted data in flight in sectors, 0 to go by the delay.
        C_FILL_TARGET = 13 mandatory c_fill_target: u32,
            number("c-fill-target", 100, 0, 1 << 20, Unit::Sectors).in_syncer().checked();
        /// Upper limit of the controlled rate in KiB/s.
        C_MAX_RATE = 14 mandatory c_max_rate: u32,
            number("c-max-rate", 102_400, 250, 4_194_304, Unit::KibPerSecond)
                .in_syncer().checked();
        /// Rate below which application requests do not slow the resync, in KiB/s.
        C_MIN_RATE = 15 mandatory c_min_rate: u32,
            number("c-min-rate", 250, 0, 4_194_304, Unit::KibPerSecond).in_syncer().checked();
        /// Accepted for compatibility; barriers no longer exist.
        DISK_BARRIER = 16 mandatory disk_barrier: bool,
            switch("disk-barrier", false).negatable();
        /// Whether epochs are separated by flushes.
        DISK_FLUSHES = 17 mandatory disk_flushes: bool,
            switch("disk-flushes", true).negatable();
        /// Whether epochs are separated by waiting for completion.
        DISK_DRAIN = 18 mandatory disk_drain: bool, switch("disk-drain", true).negatable();
        /// Whether metadata writes are flushed.
        MD_FLUSHES = 19 mandatory md_flushes: bool, switch("md-flushes", true).negatable();
        /// How long a request may take on the disk in 0.1 s, 0 for as long as it likes.
        DISK_TIMEOUT = 20 mandatory disk_timeout: u32,
            number("disk-timeout", 0, 0, 6000, Unit::TenthSeconds);
        /// Which node serves reads.
        READ_BALANCING = 21 optional read_balancing: ReadBalancing,
            choice("read-balancing", READ_BALANCING_POLICIES, 0);
        /// Whether the activity log is kept.
        AL_UPDATES = 23 optional al_updates: bool, switch("al-updates", true);
        /// Whether unaligned ends of a discard may be zeroed instead.
        DISCARD_ZEROES_IF_ALIGNED = 24 optional discard_zeroes_if_aligned: bool,
            switch("discard-zeroes-if-aligned", true);
        /// Granularity in bytes at which the resync turns zeroes into discards, 0 for never.
        RS_DISCARD_GRANULARITY = 25 optional rs_discard_granularity: u32,
            number("rs-discard-granularity", 0, 0, 1 << 20, Unit::Plain);
        /// Stored and reported, without further meaning.
        DISABLE_WRITE_SAME = 26 optional disable_write_same: bool,
            switch("disable-write-same", false);
    }
}

impl DiskConf {
    /// Reads the options of an attach request on top of the default values.
    ///
    /// # Errors
    ///
    /// A missing device or index, or a choice that does not exist.
    pub fn for_attach(nest: &Nest<'_>) -> Result<Self, OptionError> {
        for field in [Self::BACKING_DEV, Self::META_DEV, Self::META_DEV_IDX] {
            if !nest.has(&field) {
                return Err(TlvError::Missing { field: field.name }.into());
            }
        }
        let mut conf = Self::default();
        conf.apply(nest)?;
        Ok(conf)
    }
}

options! {
    /// Options of a resource.
    struct ResourceOpts = RESOURCE_OPTS, Options {
        /// Processors that may run the threads, as hexadecimal digits; empty to choose freely.
        CPU_MASK = 1 mandatory cpu_mask: Text<32>, option("cpu-mask", Domain::Text).in_syncer();
        /// What happens to requests when no node has usable data.
        ON_NO_DATA = 2 mandatory on_no_data: OnNoData,
            choice("on-no-data-accessible", ON_NO_DATA_POLICIES, 0).in_syncer();
    }
}

options! {
    /// Options of a connection.
    struct NetConf = NET_CONF, Net {
        /// Shared secret of the authentication.
        SHARED_SECRET = 1 mandatory shared_secret: Text<64>,
            option("shared-secret", Domain::Text).sensitive();
        /// Digest of the authentication, empty for none.
        CRAM_HMAC_ALG = 2 mandatory cram_hmac_alg: Text<64>,
            option("cram-hmac-alg", Domain::Text);
        /// Digest over data packets, empty for none.
        INTEGRITY_ALG = 3 mandatory integrity_alg: Text<64>,
            option("data-integrity-alg", Domain::Text);
        /// Digest of online verify, empty for none.
        VERIFY_ALG = 4 mandatory verify_alg: Text<64>,
            option("verify-alg", Domain::Text).in_syncer();
        /// Digest of the checksum-based resync, empty for none.
        CSUMS_ALG = 5 mandatory csums_alg: Text<64>,
            option("csums-alg", Domain::Text).in_syncer();
        /// When a write counts as done.
        WIRE_PROTOCOL = 6 mandatory wire_protocol: Protocol,
            choice("protocol", PROTOCOLS, 3).checked();
        /// Seconds between attempts to connect.
        CONNECT_INT = 7 mandatory connect_int: u32,
            number("connect-int", 10, 1, 120, Unit::Seconds).checked();
        /// How long an answer may take, in 0.1 s.
        TIMEOUT = 8 mandatory timeout: u32,
            number("timeout", 60, 1, 600, Unit::TenthSeconds).checked();
        /// Seconds of silence before a ping.
        PING_INT = 9 mandatory ping_int: u32,
            number("ping-int", 10, 1, 120, Unit::Seconds).checked();
        /// How long the answer to a ping may take, in 0.1 s.
        PING_TIMEO = 10 mandatory ping_timeo: u32,
            number("ping-timeout", 5, 1, 300, Unit::TenthSeconds);
        /// Size of the send buffer in bytes, 0 to let the kernel choose.
        SNDBUF_SIZE = 11 mandatory sndbuf_size: u32,
            number("sndbuf-size", 0, 0, 10 << 20, Unit::Bytes).checked();
        /// Size of the receive buffer in bytes, 0 to let the kernel choose.
        RCVBUF_SIZE = 12 mandatory rcvbuf_size: u32,
            number("rcvbuf-size", 0, 0, 10 << 20, Unit::Bytes).checked();
        /// Timeouts without progress before the peer is given up, 0 for never.
        KO_COUNT = 13 mandatory ko_count: u32,
            number("ko-count", 7, 0, 200, Unit::Plain).checked();
        /// Pages for data of the peer.
        MAX_BUFFERS = 14 mandatory max_buffers: u32,
            number("max-buffers", 2048, 32, 131_072, Unit::Plain).checked();
        /// Writes between two barriers.
        MAX_EPOCH_SIZE = 15 mandatory max_epoch_size: u32,
            number("max-epoch-size", 2048, 1, 20_000, Unit::Plain).checked();
        /// Without effect.
        UNPLUG_WATERMARK = 16 mandatory unplug_watermark: u32,
            number("unplug-watermark", 128, 1, 131_072, Unit::Plain);
        /// Split brain while nobody is Primary.
        AFTER_SB_0P = 17 mandatory after_sb_0p: AfterSbPolicy,
            choice("after-sb-0pri", AFTER_SB_0P, 0);
        /// Split brain while one node is Primary.
        AFTER_SB_1P = 18 mandatory after_sb_1p: AfterSbPolicy,
            choice("after-sb-1pri", AFTER_SB_1P, 0);
        /// Split brain while both nodes are Primary.
        AFTER_SB_2P = 19 mandatory after_sb_2p: AfterSbPolicy,
            choice("after-sb-2pri", AFTER_SB_2P, 0);
        /// A Primary should become sync target.
        RR_CONFLICT = 20 mandatory rr_conflict: RrConflict,
            choice("rr-conflict", RR_CONFLICT_POLICIES, 0);
        /// The link is too slow.
        ON_CONGESTION = 21 mandatory on_congestion: OnCongestion,
            choice("on-congestion", ON_CONGESTION_POLICIES, 0);
        /// Sectors in flight that count as congestion, 0 for no limit.
        CONG_FILL = 22 mandatory cong_fill: u32,
            number("congestion-fill", 0, 0, 20_971_520, Unit::Sectors).checked();
        /// Active extents that count as congestion.
        CONG_EXTENTS = 23 mandatory cong_extents: u32,
            number("congestion-extents", 1237, 67, 65534, Unit::Plain).checked();
        /// Whether both nodes may be Primary.
        TWO_PRIMARIES = 24 mandatory two_primaries: bool, switch("allow-two-primaries", false);
        /// Whether the own data may be discarded in a split brain, once.
        DISCARD_MY_DATA = 25 mandatory discard_my_data: bool,
            option("discard-my-data", Domain::Flag).change(Change::Connect);
        /// Whether the socket is corked.
        TCP_CORK = 26 mandatory tcp_cork: bool, switch("tcp-cork", true).negatable();
        /// Whether split brain policies apply without a usable bitmap.
        ALWAYS_ASBP = 27 mandatory always_asbp: bool, switch("always-asbp", false);
        /// Whether this is only a trial.
        TENTATIVE = 28 mandatory tentative: bool,
            option("tentative", Domain::Flag).aliases(&["dry-run"]).change(Change::Connect);
        /// Whether bitmaps are sent compressed.
        USE_RLE = 29 mandatory use_rle: bool, switch("use-rle", true).in_syncer();
        /// Whether checksum-based resync is used only after a Primary crashed.
        CSUMS_AFTER_CRASH_ONLY = 33 optional csums_after_crash_only: bool,
            switch("csums-after-crash-only", false);
        /// How long a new socket is given to prove itself in 0.1 s, 0 for `ping-timeout`.
        SOCK_CHECK_TIMEO = 34 optional sock_check_timeo: u32,
            number("socket-check-timeout", 0, 0, 300, Unit::Plain);
        /// A second local address. The C driver refuses it.
        MY_ADDR2 = 35 optional my_addr2: Option<Bytes<128>>,
            option("alternate-address", Domain::Address).change(Change::Connect);
        /// A second address of the peer. The C driver refuses it.
        PEER_ADDR2 = 36 optional peer_addr2: Option<Bytes<128>>,
            option("alternate-peer-address", Domain::Address).change(Change::Connect);
    }
}

impl NetConf {
    /// Returns the defaults for "set defaults": one-shot flags stay as they are.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self {
            discard_my_data: self.discard_my_data,
            tentative: self.tentative,
            ..Self::default()
        }
    }
}

const fn in_startup(option: OptionSpec) -> OptionSpec {
    option.placed(Section::Startup, super::UNSENT)
}

const fn wait(name: &'static str) -> OptionSpec {
    in_startup(number(name, 0, 0, 300_000, Unit::Seconds).checked())
}

/// Options of `startup { }`.
pub const STARTUP: &[OptionSpec] = &[
    wait("wfc-timeout"),
    wait("degr-wfc-timeout"),
    wait("outdated-wfc-timeout"),
    in_startup(switch("wait-after-sb", false)),
    in_startup(option("stacked-timeouts", Domain::Flag)),
    in_startup(option("become-primary-on", Domain::Words)),
];

const fn handler(name: &'static str) -> OptionSpec {
    option(name, Domain::Words).placed(Section::Handlers, super::UNSENT)
}

/// Options of `handlers { }`: each value is one shell command.
pub const HANDLERS: &[OptionSpec] = &[
    handler("pri-on-incon-degr"),
    handler("pri-lost-after-sb"),
    handler("pri-lost"),
    handler("fence-peer").aliases(&["outdate-peer"]),
    handler("unfence-peer"),
    handler("local-io-error"),
    handler("initial-split-brain"),
    handler("split-brain"),
    handler("before-resync-target"),
    handler("after-resync-target"),
    handler("before-resync-source"),
    handler("out-of-sync"),
];

const fn in_global(option: OptionSpec) -> OptionSpec {
    option.placed(Section::Global, super::UNSENT)
}

/// Options of `global { }`.
pub const GLOBAL: &[OptionSpec] = &[
    in_global(choice(
        "usage-count",
        &[("yes", 0), ("no", 1), ("ask", 2)],
        2,
    )),
    in_global(number("minor-count", 0, 1, 255, Unit::Plain).checked()),
    in_global(number("dialog-refresh", 1, 0, 600, Unit::Seconds).checked()),
    in_global(option("disable-ip-verification", Domain::Flag)),
    in_global(option("udev-always-use-vnr", Domain::Flag)),
    in_global(number("cmd-timeout-short", 5, 0, 900, Unit::Seconds).checked()),
    in_global(number("cmd-timeout-medium", 121, 0, 900, Unit::Seconds).checked()),
    in_global(number("cmd-timeout-long", 600, 0, 900, Unit::Seconds).checked()),
];

/// Options of `disk { }` that are accepted and ignored.
pub const IGNORED_DISK_OPTIONS: &[&str] = &[
    "use-bmbv",
    "delay-probe-volume",
    "delay-probe-interval",
    "throttle-threshold",
    "hold-off-threshold",
];

#[cfg(test)]
mod tests {
    use super::super::{find_in_syncer, Parsed};
    use super::*;
    use crate::netlink::ids::{tla, Message};
    use crate::netlink::tlv::{Unknown, Writer};

    const SENT: [Section; 3] = [Section::Disk, Section::Net, Section::Options];

    #[test]
    fn structures_survive_the_way_through_a_message() {
        let disk = DiskConf {
            backing_dev: Text::new(b"/dev/sda2").unwrap(),
            meta_dev_idx: -3,
            resync_after: 7,
            disk_size: 1 << 33,
            fencing: Fencing::ResourceOnly,
            md_flushes: false,
            ..DiskConf::default()
        };
        let net = NetConf {
            shared_secret: Text::new(b"s3cr\"et").unwrap(),
            wire_protocol: Protocol::A,
            tcp_cork: false,
            my_addr2: Bytes::new(&[2, 0, 1]),
            ..NetConf::default()
        };
        let mut buf = [0; 2048];
        let mut writer = Writer::reply(&mut buf);
        disk.emit(&mut writer).unwrap();
        net.emit(&mut writer).unwrap();
        let message = Message::answer(writer.written()).unwrap();
        assert_eq!(DiskConf::find(&message), Ok(Some(disk)));
        assert_eq!(NetConf::find(&message), Ok(Some(net)));
        assert_eq!(ResourceOpts::find(&message), Ok(None));
    }

    #[test]
    fn a_reply_names_every_option_even_the_default_ones() {
        let mut buf = [0; 2048];
        let mut writer = Writer::reply(&mut buf);
        NetConf::default().emit(&mut writer).unwrap();
        let message = Message::answer(writer.written()).unwrap();
        let nest = message
            .nest(tla::NET_CONF, NetConf::FIELDS)
            .unwrap()
            .unwrap();
        for option in NetConf::OPTIONS {
            let is_there = nest.has(&option.field);
            assert_eq!(
                is_there,
                option.domain != Domain::Address,
                "{}",
                option.name
            );
        }
    }

    #[test]
    fn numbers_outside_the_limits_are_moved_inside() {
        let mut buf = [0; 256];
        let mut writer = Writer::request(&mut buf);
        writer.u32(&DiskConf::RESYNC_RATE, 0).unwrap();
        writer.u32(&DiskConf::AL_EXTENTS, 7).unwrap();
        writer.u32(&DiskConf::C_PLAN_AHEAD, 1000).unwrap();
        writer.s32(&DiskConf::RESYNC_AFTER, -5).unwrap();
        let nest = Nest::checked(writer.written(), DiskConf::FIELDS, Unknown::Refuse).unwrap();
        let mut disk = DiskConf::default();
        disk.apply(&nest).unwrap();
        assert_eq!(
            (disk.resync_rate, disk.al_extents, disk.c_plan_ahead),
            (1, 67, 300)
        );
        assert_eq!(disk.resync_after, -5);
    }

    #[test]
    fn a_choice_that_does_not_exist_changes_nothing() {
        let mut buf = [0; 256];
        let mut writer = Writer::request(&mut buf);
        writer.u32(&NetConf::CONNECT_INT, 3).unwrap();
        writer.u32(&NetConf::RR_CONFLICT, 5).unwrap();
        let nest = Nest::checked(writer.written(), NetConf::FIELDS, Unknown::Refuse).unwrap();
        let mut net = NetConf::default();
        let error = net.apply(&nest).unwrap_err();
        assert_eq!(error.info_text(), "invalid attribute value");
        assert_eq!(net, NetConf::default());
    }

    #[test]
    fn attach_needs_its_three_arguments() {
        let error = DiskConf::for_attach(&Nest::EMPTY).unwrap_err();
        assert_eq!(error.info_text(), "required attribute missing");
    }

    #[test]
    fn invariants_are_those_of_the_specification() {
        let fixed = |options: &[OptionSpec]| -> Vec<u16> {
            options
                .iter()
                .filter(|option| option.change != Change::Online)
                .map(|option| option.field.number)
                .collect()
        };
        assert_eq!(fixed(DiskConf::OPTIONS), [1, 2, 3, 4, 5]);
        assert_eq!(fixed(NetConf::OPTIONS), [25, 28, 35, 36]);
        assert_eq!(fixed(ResourceOpts::OPTIONS), []);
    }

    #[test]
    fn defaults_lie_within_the_limits() {
        for option in SENT.iter().flat_map(|section| section.options()) {
            match option.domain {
                Domain::Number {
                    min, max, default, ..
                } => {
                    assert!(min <= default && default <= max, "{}", option.name);
                }
                Domain::Choice { choices, default } => {
                    assert!(choices.iter().any(|(_, number)| *number == default));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn old_names_are_found() {
        assert_eq!(find_in_syncer("rate").unwrap().name, "resync-rate");
        assert_eq!(
            find_in_syncer("cpu-mask").unwrap().section,
            Section::Options
        );
        assert!(find_in_syncer("fencing").is_none());
        assert_eq!(
            Section::Handlers.find("outdate-peer").unwrap().name,
            "fence-peer"
        );
        assert!(Section::Disk.find("backing_dev").is_none());
    }

    #[test]
    fn what_the_tool_sends_is_what_the_module_reads() {
        let mut buf = [0; 256];
        let mut writer = Writer::request(&mut buf);
        for (name, value) in [
            ("protocol", "a"),
            ("congestion-fill", "1M"),
            ("tcp-cork", "no"),
            ("verify-alg", "sha1"),
            ("after-sb-1pri", "consensus"),
            ("discard-my-data", "yes"),
        ] {
            let option = Section::Net.find(name).unwrap();
            option
                .write(&mut writer, option.parse(value).unwrap())
                .unwrap();
        }
        let nest = Nest::checked(writer.written(), NetConf::FIELDS, Unknown::Refuse).unwrap();
        let mut net = NetConf::default();
        net.apply(&nest).unwrap();
        let wanted = NetConf {
            wire_protocol: Protocol::A,
            cong_fill: 2048,
            tcp_cork: false,
            verify_alg: Text::new(b"sha1").unwrap(),
            after_sb_1p: AfterSbPolicy::Consensus,
            discard_my_data: true,
            ..NetConf::default()
        };
        assert_eq!(net, wanted);
        assert!(Section::Net
            .find("ko-count")
            .unwrap()
            .is_default(Parsed::Number(7)));
    }

    #[test]
    fn what_is_fixed_at_attach_or_connect_can_not_be_changed_later() {
        let mut buf = [0; 256];
        let mut writer = Writer::request(&mut buf);
        writer.u32(&NetConf::PING_INT, 3).unwrap();
        let nest = Nest::checked(writer.written(), NetConf::FIELDS, Unknown::Refuse).unwrap();
        assert_eq!(NetConf::refuse_invariants(&nest), Ok(()));
        writer.u8(&NetConf::TENTATIVE, 1).unwrap();
        let nest = Nest::checked(writer.written(), NetConf::FIELDS, Unknown::Refuse).unwrap();
        let error = OptionError::Invariant { field: "tentative" };
        assert_eq!(NetConf::refuse_invariants(&nest), Err(error));

        let mut writer = Writer::request(&mut buf);
        writer.u64(&DiskConf::DISK_SIZE, 8).unwrap();
        let nest = Nest::checked(writer.written(), DiskConf::FIELDS, Unknown::Refuse).unwrap();
        let error = OptionError::Invariant { field: "disk_size" };
        assert_eq!(DiskConf::refuse_invariants(&nest), Err(error));
        assert_eq!(ResourceOpts::refuse_invariants(&Nest::EMPTY), Ok(()));
    }

    #[test]
    fn set_defaults_leaves_what_holds_for_one_connection() {
        let net = NetConf {
            discard_my_data: true,
            tentative: true,
            ping_int: 3,
            ..NetConf::default()
        };
        let reset = net.reset();
        assert!(reset.discard_my_data && reset.tentative);
        assert_eq!(reset.ping_int, NetConf::default().ping_int);
    }

    #[test]
    fn options_of_the_tools_are_never_sent() {
        for option in [
            wait("w"),
            handler("h"),
            in_global(switch("s", true)),
            in_startup(switch("s", true)),
        ] {
            assert_eq!(option.field.number, 0);
        }
        assert!(is_described(&NetConf::PING_INT, NetConf::OPTIONS));
        assert!(!is_described(&NetConf::PING_INT, GLOBAL));
    }
}
