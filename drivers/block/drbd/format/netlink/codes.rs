//! Answers of the kernel to a command, and the texts users see for them.
//!
//! Two families share one number space: 101 and above say that a request was refused, small
//! numbers say how a state change went (`reference/netlink.md` 4). The texts are part of the
//! interface: scripts and people look for them in the output of the tools and in the kernel log.

/// The number in an answer of the kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RetCode(pub i32);

impl RetCode {
    /// The request was carried out.
    pub const NO_ERROR: Self = Self(101);
    /// The local address is in use.
    pub const LOCAL_ADDR: Self = Self(102);
    /// The peer address is in use.
    pub const PEER_ADDR: Self = Self(103);
    /// The backing device cannot be opened.
    pub const OPEN_DISK: Self = Self(104);
    /// The metadata device cannot be opened.
    pub const OPEN_MD_DISK: Self = Self(105);
    /// The backing device is no block device.
    pub const DISK_NOT_BDEV: Self = Self(107);
    /// The metadata device is no block device.
    pub const MD_NOT_BDEV: Self = Self(108);
    /// The backing device is smaller than the size asked for.
    pub const DISK_TOO_SMALL: Self = Self(111);
    /// The metadata device is too small.
    pub const MD_DISK_TOO_SMALL: Self = Self(112);
    /// The backing device is claimed by another user.
    pub const BDCLAIM_DISK: Self = Self(114);
    /// The metadata device is claimed by another user.
    pub const BDCLAIM_MD_DISK: Self = Self(115);
    /// Backing device, metadata device and index do not fit together.
    pub const MD_IDX_INVALID: Self = Self(116);
    /// The metadata could not be read or written.
    pub const IO_MD_DISK: Self = Self(118);
    /// There is no valid metadata.
    pub const MD_INVALID: Self = Self(119);
    /// The kernel lacks the `cram-hmac-alg`.
    pub const AUTH_ALG: Self = Self(120);
    /// The `cram-hmac-alg` is not a digest.
    pub const AUTH_ALG_ND: Self = Self(121);
    /// Memory is short.
    pub const NOMEM: Self = Self(122);
    /// A Primary cannot discard its data.
    pub const DISCARD_IMPOSSIBLE: Self = Self(123);
    /// The volume has a disk already.
    pub const DISK_CONFIGURED: Self = Self(124);
    /// The connection is configured already.
    pub const NET_CONFIGURED: Self = Self(125);
    /// An attribute is unknown or its value is invalid.
    pub const MANDATORY_TAG: Self = Self(126);
    /// There is no such minor.
    pub const MINOR_INVALID: Self = Self(127);
    /// A signal interrupted the command.
    pub const INTR: Self = Self(129);
    /// The size cannot change during a resync.
    pub const RESIZE_RESYNC: Self = Self(130);
    /// A resize needs a Primary.
    pub const NO_PRIMARY: Self = Self(131);
    /// `resync-after` names no possible minor.
    pub const RESYNC_AFTER: Self = Self(132);
    /// `resync-after` would form a cycle.
    pub const RESYNC_AFTER_CYCLE: Self = Self(133);
    /// The resync is paused already.
    pub const PAUSE_IS_SET: Self = Self(134);
    /// The resync is not paused.
    pub const PAUSE_IS_CLEAR: Self = Self(135);
    /// The command is unknown.
    pub const PACKET_NR: Self = Self(137);
    /// The volume has no disk.
    pub const NO_DISK: Self = Self(138);
    /// Protocol C is required.
    pub const NOT_PROTO_C: Self = Self(139);
    /// Memory for the bitmap is short, or the bitmap does not fit on disk.
    pub const NOMEM_BITMAP: Self = Self(140);
    /// The kernel lacks the `data-integrity-alg`.
    pub const INTEGRITY_ALG: Self = Self(141);
    /// The `data-integrity-alg` is not a digest.
    pub const INTEGRITY_ALG_ND: Self = Self(142);
    /// The `cpu-mask` is unreadable.
    pub const CPU_MASK_PARSE: Self = Self(143);
    /// The kernel lacks the `csums-alg`.
    pub const CSUMS_ALG: Self = Self(144);
    /// The `csums-alg` is not a digest.
    pub const CSUMS_ALG_ND: Self = Self(145);
    /// The kernel lacks the `verify-alg`.
    pub const VERIFY_ALG: Self = Self(146);
    /// The `verify-alg` is not a digest.
    pub const VERIFY_ALG_ND: Self = Self(147);
    /// `csums-alg` cannot change during a resync.
    pub const CSUMS_RESYNC_RUNNING: Self = Self(148);
    /// `verify-alg` cannot change during a verify run.
    pub const VERIFY_RUNNING: Self = Self(149);
    /// The data on this disk is not what was lost last.
    pub const DATA_NOT_CURRENT: Self = Self(150);
    /// The volume must be StandAlone.
    pub const CONNECTED: Self = Self(151);
    /// A capability is lacking.
    pub const PERM: Self = Self(152);
    /// `--assume-clean` needs protocol version 93.
    pub const NEED_APV_93: Self = Self(153);
    /// Fencing `resource-and-stonith` needs protocol B or C.
    pub const STONITH_AND_PROT_A: Self = Self(154);
    /// `pull-ahead` needs protocol A.
    pub const CONG_NOT_PROTO_A: Self = Self(155);
    /// Not paused by the user, but by `resync-after`.
    pub const PIC_AFTER_DEP: Self = Self(156);
    /// Not paused by the user, but by the peer.
    pub const PIC_PEER_DEP: Self = Self(157);
    /// There is no such resource.
    pub const RES_NOT_KNOWN: Self = Self(158);
    /// The resource still has volumes.
    pub const RES_IN_USE: Self = Self(159);
    /// The minor still has a disk or is Primary.
    pub const MINOR_CONFIGURED: Self = Self(160);
    /// The minor or volume number is taken.
    pub const MINOR_OR_VOLUME_EXISTS: Self = Self(161);
    /// The request makes no sense in this configuration.
    pub const INVALID_REQUEST: Self = Self(162);
    /// These options cannot change online below protocol version 100.
    pub const NEED_APV_100: Self = Self(163);
    /// `allow-two-primaries` is in use.
    pub const NEED_ALLOW_TWO_PRI: Self = Self(164);
    /// The activity log was not applied.
    pub const MD_UNCLEAN: Self = Self(165);
    /// A layout change of the metadata needs a connection.
    pub const MD_LAYOUT_CONNECTED: Self = Self(166);
    /// The activity log would be too big.
    pub const MD_LAYOUT_TOO_BIG: Self = Self(167);
    /// The activity log would be too small.
    pub const MD_LAYOUT_TOO_SMALL: Self = Self(168);
    /// The activity log would not fit.
    pub const MD_LAYOUT_NO_FIT: Self = Self(169);
    /// The device would shrink without being asked to.
    pub const IMPLICIT_SHRINK: Self = Self(170);
    /// The state was changed without asking the peer.
    pub const SS_CW_NO_NEED: Self = Self(4);
    /// The state was changed after the peer agreed.
    pub const SS_CW_SUCCESS: Self = Self(3);
    /// The state is already as requested.
    pub const SS_NOTHING_TO_DO: Self = Self(2);
    /// The state was changed.
    pub const SS_SUCCESS: Self = Self(1);
    /// The state change failed without a reason.
    pub const SS_UNKNOWN_ERROR: Self = Self(0);
    /// Both nodes would be Primary.
    pub const SS_TWO_PRIMARIES: Self = Self(-1);
    /// No UpToDate data would be reachable.
    pub const SS_NO_UP_TO_DATE_DISK: Self = Self(-2);
    /// A resync needs a local disk.
    pub const SS_NO_LOCAL_DISK: Self = Self(-4);
    /// A resync needs a disk at the peer.
    pub const SS_NO_REMOTE_DISK: Self = Self(-5);
    /// A connected disk cannot become Outdated.
    pub const SS_CONNECTED_OUTDATES: Self = Self(-6);
    /// The peer would have to be outdated first.
    pub const SS_PRIMARY_NOP: Self = Self(-7);
    /// A resync or verify run is active.
    pub const SS_RESYNC_RUNNING: Self = Self(-8);
    /// The connection is StandAlone already.
    pub const SS_ALREADY_STANDALONE: Self = Self(-9);
    /// The peer refused.
    pub const SS_CW_FAILED_BY_PEER: Self = Self(-10);
    /// There is no disk.
    pub const SS_IS_DISKLESS: Self = Self(-11);
    /// The device is open.
    pub const SS_DEVICE_IN_USE: Self = Self(-12);
    /// The connection is not configured.
    pub const SS_NO_NET_CONFIG: Self = Self(-13);
    /// `verify-alg` is not set.
    pub const SS_NO_VERIFY_ALG: Self = Self(-14);
    /// A connection is needed.
    pub const SS_NEED_CONNECTION: Self = Self(-15);
    /// The disk is worse than Outdated.
    pub const SS_LOWER_THAN_OUTDATED: Self = Self(-16);
    /// The peer speaks too old a protocol.
    pub const SS_NOT_SUPPORTED: Self = Self(-17);
    /// Another change has to finish first.
    pub const SS_IN_TRANSIENT_STATE: Self = Self(-18);
    /// Another change came in between.
    pub const SS_CONCURRENT_ST_CHG: Self = Self(-19);
    /// Another volume is Primary at the peer.
    pub const SS_O_VOL_PEER_PRI: Self = Self(-20);
    /// Outdating the peer needs a connection.
    pub const SS_OUTDATE_WO_CONN: Self = Self(-21);

    /// Whether the command did what it was asked for.
    pub const fn is_success(self) -> bool {
        self.0 == Self::NO_ERROR.0
            || (self.0 >= Self::SS_SUCCESS.0 && self.0 <= Self::SS_CW_NO_NEED.0)
    }

    /// Whether the number tells how a state change went.
    pub const fn is_state_change(self) -> bool {
        self.0 <= Self::SS_CW_NO_NEED.0
    }

    /// Returns the text for users, empty for success, `None` for a number without meaning.
    ///
    /// Lines are separated by newlines; some texts end with one.
    pub fn text(self) -> Option<&'static str> {
        ANSWERS
            .iter()
            .find(|(code, _)| *code == self)
            .map(|(_, text)| *text)
    }
}

/// All numbers with their texts, in ascending order.
///
/// Those without a name are no longer sent by any kernel of this series.
pub const ANSWERS: &[(RetCode, &str)] = &[
    (
        RetCode::SS_OUTDATE_WO_CONN,
        "Need a connection for a graceful disconnect/outdate peer",
    ),
    (
        RetCode::SS_O_VOL_PEER_PRI,
        "Other vol primary on peer not allowed by config",
    ),
    (
        RetCode::SS_CONCURRENT_ST_CHG,
        "Concurrent state changes detected and aborted",
    ),
    (
        RetCode::SS_IN_TRANSIENT_STATE,
        "In transient state, retry after next state change",
    ),
    (RetCode::SS_NOT_SUPPORTED, "Peer does not support protocol"),
    (
        RetCode::SS_LOWER_THAN_OUTDATED,
        "Disk state is lower than outdated",
    ),
    (
        RetCode::SS_NEED_CONNECTION,
        "Need a connection to start verify or resync",
    ),
    (
        RetCode::SS_NO_VERIFY_ALG,
        "Need a verify algorithm to start online verify",
    ),
    (
        RetCode::SS_NO_NET_CONFIG,
        "Have no net/connection configuration",
    ),
    (RetCode::SS_DEVICE_IN_USE, "Device is held open by someone"),
    (
        RetCode::SS_IS_DISKLESS,
        "Device is diskless, the requested operation requires a disk",
    ),
    (
        RetCode::SS_CW_FAILED_BY_PEER,
        "State change was refused by peer node",
    ),
    (
        RetCode::SS_ALREADY_STANDALONE,
        "Can not disconnect a StandAlone device",
    ),
    (
        RetCode::SS_RESYNC_RUNNING,
        "Can not start OV/resync since it is already active",
    ),
    (
        RetCode::SS_PRIMARY_NOP,
        "Refusing to be Primary while peer is not outdated",
    ),
    (
        RetCode::SS_CONNECTED_OUTDATES,
        "Refusing to be Outdated while Connected",
    ),
    (
        RetCode::SS_NO_REMOTE_DISK,
        "Can not resync without remote disk",
    ),
    (
        RetCode::SS_NO_LOCAL_DISK,
        "Can not resync without local disk",
    ),
    (
        RetCode::SS_NO_UP_TO_DATE_DISK,
        "Need access to UpToDate data",
    ),
    (
        RetCode::SS_TWO_PRIMARIES,
        "Multiple primaries not allowed by config",
    ),
    (RetCode::SS_UNKNOWN_ERROR, "unknown error."),
    (RetCode::SS_SUCCESS, ""),
    (RetCode::SS_NOTHING_TO_DO, ""),
    (RetCode::SS_CW_SUCCESS, ""),
    (RetCode::SS_CW_NO_NEED, ""),
    (RetCode::NO_ERROR, ""),
    (RetCode::LOCAL_ADDR, "Local address(port) already in use."),
    (RetCode::PEER_ADDR, "Remote address(port) already in use."),
    (RetCode::OPEN_DISK, "Can not open backing device."),
    (RetCode::OPEN_MD_DISK, "Can not open meta device."),
    (RetCode(106), "Lower device already in use."),
    (
        RetCode::DISK_NOT_BDEV,
        "Lower device is not a block device.",
    ),
    (RetCode::MD_NOT_BDEV, "Meta device is not a block device."),
    (RetCode(109), "Open of lower device failed."),
    (RetCode(110), "Open of meta device failed."),
    (
        RetCode::DISK_TOO_SMALL,
        "Low.dev. smaller than requested DRBD-dev. size.",
    ),
    (RetCode::MD_DISK_TOO_SMALL, "Meta device too small."),
    (RetCode(113), "You have to use the disk command first."),
    (
        RetCode::BDCLAIM_DISK,
        "Lower device is already claimed. This usually means it is mounted.",
    ),
    (
        RetCode::BDCLAIM_MD_DISK,
        "Meta device is already claimed. This usually means it is mounted.",
    ),
    (
        RetCode::MD_IDX_INVALID,
        "Lower device / meta device / index combination invalid.",
    ),
    (
        RetCode(117),
        "Currently we only support devices up to 3.998TB.\n(up to 2TB in case you do not \
         have CONFIG_LBD set)\nContact office@linbit.com, if you need more.",
    ),
    (
        RetCode::IO_MD_DISK,
        "IO error(s) occurred during initial access to meta-data.\n",
    ),
    (
        RetCode::MD_INVALID,
        "No valid meta-data signature found.\n\n\t==> Use 'drbdadm create-md res' to \
         initialize meta-data area. <==\n",
    ),
    (
        RetCode::AUTH_ALG,
        "The 'cram-hmac-alg' you specified is not known in the kernel. (Maybe you need to \
         modprobe it, or modprobe hmac?)",
    ),
    (
        RetCode::AUTH_ALG_ND,
        "The 'cram-hmac-alg' you specified is not a digest.",
    ),
    (RetCode::NOMEM, "kmalloc() failed. Out of memory?"),
    (
        RetCode::DISCARD_IMPOSSIBLE,
        "--discard-my-data not allowed when primary.",
    ),
    (
        RetCode::DISK_CONFIGURED,
        "Device is attached to a disk (use detach first)",
    ),
    (
        RetCode::NET_CONFIGURED,
        "Device has a net-config (use disconnect first)",
    ),
    (RetCode::MANDATORY_TAG, "UnknownMandatoryTag"),
    (RetCode::MINOR_INVALID, "Device minor not allocated"),
    (RetCode(128), "Resulting device state would be invalid"),
    (RetCode::INTR, "Interrupted by Signal"),
    (RetCode::RESIZE_RESYNC, "Resize not allowed during resync."),
    (RetCode::NO_PRIMARY, "Need one Primary node to resize."),
    (
        RetCode::RESYNC_AFTER,
        "The resync-after minor number is invalid",
    ),
    (
        RetCode::RESYNC_AFTER_CYCLE,
        "This would cause a resync-after dependency cycle",
    ),
    (RetCode::PAUSE_IS_SET, "Sync-pause flag is already set"),
    (
        RetCode::PAUSE_IS_CLEAR,
        "Sync-pause flag is already cleared",
    ),
    (RetCode(136), "Disk state is lower than outdated"),
    (
        RetCode::PACKET_NR,
        "Kernel does not know how to handle your request.\nMaybe API_VERSION mismatch?",
    ),
    (RetCode::NO_DISK, "Device does not have a disk-config"),
    (RetCode::NOT_PROTO_C, "Protocol C required"),
    (RetCode::NOMEM_BITMAP, "vmalloc() failed. Out of memory?"),
    (
        RetCode::INTEGRITY_ALG,
        "The 'data-integrity-alg' you specified is not known in the kernel. (Maybe you \
         need to modprobe it, or modprobe hmac?)",
    ),
    (
        RetCode::INTEGRITY_ALG_ND,
        "The 'data-integrity-alg' you specified is not a digest.",
    ),
    (RetCode::CPU_MASK_PARSE, "Invalid cpu-mask."),
    (RetCode::CSUMS_ALG, "CSUMSAlgNotAvail"),
    (RetCode::CSUMS_ALG_ND, "CSUMSAlgNotDigest"),
    (RetCode::VERIFY_ALG, "VERIFYAlgNotAvail"),
    (RetCode::VERIFY_ALG_ND, "VERIFYAlgNotDigest"),
    (
        RetCode::CSUMS_RESYNC_RUNNING,
        "Can not change csums-alg while resync is in progress",
    ),
    (
        RetCode::VERIFY_RUNNING,
        "Can not change verify-alg while online verify runs",
    ),
    (
        RetCode::DATA_NOT_CURRENT,
        "Can only attach to the data we lost last (see kernel log).",
    ),
    (RetCode::CONNECTED, "Need to be StandAlone"),
    (RetCode::PERM, "Permission denied. CAP_SYS_ADMIN necessary"),
    (
        RetCode::NEED_APV_93,
        "Protocol version 93 required to use --assume-clean",
    ),
    (
        RetCode::STONITH_AND_PROT_A,
        "Fencing policy resource-and-stonith only with prot B or C allowed",
    ),
    (
        RetCode::CONG_NOT_PROTO_A,
        "on-congestion policy pull-ahead only with prot A allowed",
    ),
    (
        RetCode::PIC_AFTER_DEP,
        "Sync-pause flag is already cleared.\nNote: Resync pause caused by a local \
         resync-after dependency.",
    ),
    (
        RetCode::PIC_PEER_DEP,
        "Sync-pause flag is already cleared.\nNote: Resync pause caused by the peer node.",
    ),
    (RetCode::RES_NOT_KNOWN, "Unknown resource"),
    (
        RetCode::RES_IN_USE,
        "Resource still in use (delete all minors first)",
    ),
    (
        RetCode::MINOR_CONFIGURED,
        "Minor still configured (down it first)",
    ),
    (
        RetCode::MINOR_OR_VOLUME_EXISTS,
        "Minor or volume exists already (delete it first)",
    ),
    (RetCode::INVALID_REQUEST, "Invalid configuration request"),
    (
        RetCode::NEED_APV_100,
        "Prot version 100 required in order to change\nthese network options while \
         connected",
    ),
    (
        RetCode::NEED_ALLOW_TWO_PRI,
        "Can not clear allow_two_primaries as long as\nthere a primaries on both sides",
    ),
    (
        RetCode::MD_UNCLEAN,
        "Unclean meta-data found.\nYou need to 'drbdadm apply-al res'\n",
    ),
    (
        RetCode::MD_LAYOUT_CONNECTED,
        "DRBD need to be connected for online MD layout change\n",
    ),
    (RetCode::MD_LAYOUT_TOO_BIG, "Resulting AL area too big\n"),
    (RetCode::MD_LAYOUT_TOO_SMALL, "Resulting AL are too small\n"),
    (
        RetCode::MD_LAYOUT_NO_FIT,
        "Resulting AL does not fit into available meta data space\n",
    ),
    (
        RetCode::IMPLICIT_SHRINK,
        "Implicit device shrinking not allowed. See kernel log.\n",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_text() {
        for pair in ANSWERS.windows(2) {
            assert!(pair[0].0 .0 < pair[1].0 .0, "{pair:?}");
        }
        for (code, text) in ANSWERS {
            assert_eq!(text.is_empty(), code.is_success(), "{code:?}");
        }
    }

    #[test]
    fn the_lab_sees_its_messages() {
        let text = |code| RetCode(code).text();
        assert_eq!(text(-2), Some("Need access to UpToDate data"));
        assert_eq!(text(-12), Some("Device is held open by someone"));
        assert_eq!(text(127), Some("Device minor not allocated"));
        assert_eq!(
            text(119),
            Some(
                "No valid meta-data signature found.\n\n\t==> Use 'drbdadm create-md res' to \
                 initialize meta-data area. <==\n"
            )
        );
        assert_eq!(text(-3), None);
        assert_eq!(text(100), None);
        assert_eq!(text(171), None);
    }

    #[test]
    fn answers_of_a_state_change_are_told_from_others() {
        assert!(RetCode(-2).is_state_change() && RetCode::SS_SUCCESS.is_state_change());
        assert!(!RetCode::NO_ERROR.is_state_change() && !RetCode(127).is_state_change());
    }
}
