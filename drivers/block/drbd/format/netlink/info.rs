//! Structures of requests, answers and events that are not options.
//!
//! Numbers and meaning: `reference/netlink.md` 3.1, 3.5 and 3.6. Sizes are in sectors of 512 bytes
//! unless said otherwise.

use super::record::{record, Bytes, Text};

record! {
    /// Which object a message is about.
    #[derive(Default)]
    struct Context = CFG_CONTEXT {
        /// Volume number.
        VOLUME = 1 mandatory volume: Option<u32>;
        /// Name of the resource.
        RESOURCE_NAME = 2 mandatory resource_name: Option<Text<128>>;
        /// Local address, a socket address as C lays it out.
        MY_ADDR = 3 mandatory my_addr: Option<Bytes<128>>;
        /// Address of the peer, likewise.
        PEER_ADDR = 4 mandatory peer_addr: Option<Bytes<128>>;
    }
}

record! {
    /// Arguments of a role change.
    #[derive(Default)]
    struct SetRoleParms = SET_ROLE_PARMS {
        /// Promote although the data is not known to be good.
        ASSUME_UPTODATE = 1 mandatory assume_uptodate: bool;
    }
}

record! {
    /// Arguments of a resize.
    #[derive(Default)]
    struct ResizeParms = RESIZE_PARMS {
        /// Wanted size, 0 for as large as possible.
        RESIZE_SIZE = 1 mandatory resize_size: u64;
        /// Assume that the peer, which is not connected, has the space.
        RESIZE_FORCE = 2 mandatory resize_force: bool;
        /// Assume that the new area is the same on both nodes.
        NO_RESYNC = 3 mandatory no_resync: bool;
        /// New number of activity log stripes.
        AL_STRIPES = 4 optional al_stripes: Option<u32>;
        /// New size of an activity log stripe in KiB.
        AL_STRIPE_SIZE = 5 optional al_stripe_size: Option<u32>;
    }
}

record! {
    /// Range of a verify run.
    #[derive(Default)]
    struct StartVerifyParms = START_OV_PARMS {
        /// First sector; absent: where the last run stopped.
        OV_START_SECTOR = 1 mandatory ov_start_sector: Option<u64>;
        /// Sector to stop at; absent: at the end.
        OV_STOP_SECTOR = 2 mandatory ov_stop_sector: Option<u64>;
    }
}

record! {
    /// Arguments of new-current-uuid.
    #[derive(Default)]
    struct NewCurrentUuidParms = NEW_C_UUID_PARMS {
        /// Declare both disks identical.
        CLEAR_BM = 1 mandatory clear_bm: bool;
    }
}

record! {
    /// Which startup timeout applies: see [`timeout_type`].
    #[derive(Default)]
    struct TimeoutParms = TIMEOUT_PARMS {
        /// One of [`timeout_type`].
        TIMEOUT_TYPE = 1 mandatory timeout_type: u32;
    }
}

/// Numbers of [`TimeoutParms::timeout_type`].
pub mod timeout_type {
    /// `wfc-timeout` applies.
    pub const DEFAULT: u32 = 0;
    /// `degr-wfc-timeout` applies.
    pub const DEGRADED: u32 = 1;
    /// `outdated-wfc-timeout` applies.
    pub const PEER_OUTDATED: u32 = 2;
}

record! {
    /// Arguments of a disconnect.
    #[derive(Default)]
    struct DisconnectParms = DISCONNECT_PARMS {
        /// Disconnect whatever the peer says.
        FORCE_DISCONNECT = 1 mandatory force_disconnect: bool;
    }
}

record! {
    /// Arguments of a detach.
    #[derive(Default)]
    struct DetachParms = DETACH_PARMS {
        /// Abort local requests that are under way.
        FORCE_DETACH = 1 mandatory force_detach: bool;
    }
}

record! {
    /// Status of a volume.
    #[derive(Default)]
    struct StateInfo = STATE_INFO {
        /// One of [`sib_reason`].
        SIB_REASON = 1 mandatory sib_reason: u32;
        /// State, packed as in `reference/states.md` 1.5.
        CURRENT_STATE = 2 mandatory current_state: u32;
        /// Size of the device.
        CAPACITY = 3 mandatory capacity: u64;
        /// Current generation as last exposed to the upper layers.
        ED_UUID = 4 mandatory ed_uuid: u64;
        /// State before the change that is reported.
        PREV_STATE = 5 mandatory prev_state: Option<u32>;
        /// State after the change that is reported.
        NEW_STATE = 6 mandatory new_state: Option<u32>;
        /// Generation UUIDs: current, bitmap, younger and older history.
        UUIDS = 7 mandatory uuids: Option<[u64; 4]>;
        /// Flags of the metadata.
        DISK_FLAGS = 8 mandatory disk_flags: Option<u32>;
        /// Number of bits in the bitmap.
        BITS_TOTAL = 9 mandatory bits_total: Option<u64>;
        /// Number of set bits.
        BITS_OOS = 10 mandatory bits_oos: Option<u64>;
        /// Bits to resync or verify in this run.
        BITS_RS_TOTAL = 11 mandatory bits_rs_total: Option<u64>;
        /// Bits that could not be resynced in this run.
        BITS_RS_FAILED = 12 mandatory bits_rs_failed: Option<u64>;
        /// Name of the handler.
        HELPER = 13 mandatory helper: Option<Text<32>>;
        /// Its wait status.
        HELPER_EXIT_CODE = 14 mandatory helper_exit_code: Option<u32>;
        /// Sent to the peer.
        SEND_CNT = 15 mandatory send_cnt: u64;
        /// Received from the peer.
        RECV_CNT = 16 mandatory recv_cnt: u64;
        /// Read from the disk.
        READ_CNT = 17 mandatory read_cnt: u64;
        /// Written to the disk.
        WRIT_CNT = 18 mandatory writ_cnt: u64;
        /// Transactions of the activity log.
        AL_WRIT_CNT = 19 mandatory al_writ_cnt: u64;
        /// Writes of bitmap pages.
        BM_WRIT_CNT = 20 mandatory bm_writ_cnt: u64;
        /// Requests of the upper layers in flight.
        AP_BIO_CNT = 21 mandatory ap_bio_cnt: u32;
        /// Requests sent to the peer without an answer.
        AP_PENDING_CNT = 22 mandatory ap_pending_cnt: u32;
        /// Resync requests without an answer.
        RS_PENDING_CNT = 23 mandatory rs_pending_cnt: u32;
    }
}

/// Numbers of [`StateInfo::sib_reason`].
pub mod sib_reason {
    /// Answer to a status request.
    pub const GET_STATUS_REPLY: u32 = 1;
    /// The state changed.
    pub const STATE_CHANGE: u32 = 2;
    /// A handler is about to be called.
    pub const HELPER_PRE: u32 = 3;
    /// A handler has returned.
    pub const HELPER_POST: u32 = 4;
    /// The resync made progress.
    pub const SYNC_PROGRESS: u32 = 5;
}

record! {
    /// State of a resource.
    #[derive(Default)]
    struct ResourceInfo = RESOURCE_INFO {
        /// Highest role of its volumes.
        ROLE = 1 optional res_role: u32;
        /// The user suspended application requests.
        SUSP = 2 optional res_susp: bool;
        /// They are suspended because there is no data.
        SUSP_NOD = 3 optional res_susp_nod: bool;
        /// They are suspended because the peer is being fenced.
        SUSP_FEN = 4 optional res_susp_fen: bool;
    }
}

record! {
    /// State of a volume.
    #[derive(Default)]
    struct DeviceInfo = DEVICE_INFO {
        /// Disk state.
        DISK_STATE = 1 optional dev_disk_state: u32;
    }
}

record! {
    /// State of a connection.
    #[derive(Default)]
    struct ConnectionInfo = CONNECTION_INFO {
        /// Connection state, at most 9.
        CONNECTION_STATE = 1 optional conn_connection_state: u32;
        /// Highest role of the peer's volumes.
        ROLE = 2 optional conn_role: u32;
    }
}

record! {
    /// State of a volume at the peer.
    #[derive(Default)]
    struct PeerDeviceInfo = PEER_DEVICE_INFO {
        /// Connection state of the volume, at least 9.
        REPL_STATE = 1 optional peer_repl_state: u32;
        /// Disk state at the peer.
        DISK_STATE = 2 optional peer_disk_state: u32;
        /// The user paused the resync here.
        RESYNC_SUSP_USER = 3 optional peer_resync_susp_user: u32;
        /// The user paused the resync at the peer.
        RESYNC_SUSP_PEER = 4 optional peer_resync_susp_peer: u32;
        /// The resync waits for another volume.
        RESYNC_SUSP_DEPENDENCY = 5 optional peer_resync_susp_dependency: u32;
    }
}

record! {
    /// Counters of a resource.
    #[derive(Default)]
    struct ResourceStatistics = RESOURCE_STATISTICS {
        /// 0 none, 1 drain, 2 flush, 3 barrier.
        WRITE_ORDERING = 1 optional res_stat_write_ordering: u32;
    }
}

record! {
    /// Counters of a volume.
    #[derive(Default)]
    struct DeviceStatistics = DEVICE_STATISTICS {
        /// Size of the device.
        SIZE = 1 optional dev_size: u64;
        /// Read from the disk.
        READ = 2 optional dev_read: u64;
        /// Written to the disk.
        WRITE = 3 optional dev_write: u64;
        /// Transactions of the activity log.
        AL_WRITES = 4 optional dev_al_writes: u64;
        /// Writes of bitmap pages.
        BM_WRITES = 5 optional dev_bm_writes: u64;
        /// Requests of the upper layers in flight.
        UPPER_PENDING = 6 optional dev_upper_pending: u32;
        /// References to the disk.
        LOWER_PENDING = 7 optional dev_lower_pending: u32;
        /// A new request would have to wait.
        UPPER_BLOCKED = 8 optional dev_upper_blocked: bool;
        /// The disk is congested.
        LOWER_BLOCKED = 9 optional dev_lower_blocked: bool;
        /// The activity log is suspended.
        AL_SUSPENDED = 10 optional dev_al_suspended: bool;
        /// Current generation as last exposed to the upper layers.
        EXPOSED_DATA_UUID = 11 optional dev_exposed_data_uuid: u64;
        /// Current generation, 0 without a disk.
        CURRENT_UUID = 12 optional dev_current_uuid: u64;
        /// Flags of the metadata, 0 without a disk.
        DISK_FLAGS = 13 optional dev_disk_flags: u32;
        /// History UUIDs, 32 bytes with a disk, none without.
        HISTORY_UUIDS = 14 optional history_uuids: Bytes<256>;
    }
}

record! {
    /// Counters of a connection.
    #[derive(Default)]
    struct ConnectionStatistics = CONNECTION_STATISTICS {
        /// The send queue is more than four fifths full.
        CONGESTED = 1 optional conn_congested: bool;
    }
}

record! {
    /// Counters of a volume at the peer.
    #[derive(Default)]
    struct PeerDeviceStatistics = PEER_DEVICE_STATISTICS {
        /// Received from the peer.
        RECEIVED = 1 optional peer_dev_received: u64;
        /// Sent to the peer.
        SENT = 2 optional peer_dev_sent: u64;
        /// Requests sent to the peer without an answer.
        PENDING = 3 optional peer_dev_pending: u32;
        /// Requests of the peer not yet answered.
        UNACKED = 4 optional peer_dev_unacked: u32;
        /// Out of sync.
        OUT_OF_SYNC = 5 optional peer_dev_out_of_sync: u64;
        /// Could not be resynced.
        RESYNC_FAILED = 6 optional peer_dev_resync_failed: u64;
        /// Generation on which the bitmap is based.
        BITMAP_UUID = 7 optional peer_dev_bitmap_uuid: u64;
        /// 1 connected, 2 outdated, 4 fencing, 8 full sync.
        FLAGS = 9 optional peer_dev_flags: u32;
    }
}

record! {
    /// What kind of event a message is.
    #[derive(Default)]
    struct NotificationHeader = NOTIFICATION_HEADER {
        /// One of [`notification`], perhaps with [`notification::CONTINUES`].
        TYPE = 1 optional nh_type: u32;
    }
}

/// Numbers of [`NotificationHeader::nh_type`].
pub mod notification {
    /// The object exists: part of a dump.
    pub const EXISTS: u32 = 0;
    /// The object was created.
    pub const CREATE: u32 = 1;
    /// The object changed.
    pub const CHANGE: u32 = 2;
    /// The object is gone.
    pub const DESTROY: u32 = 3;
    /// A handler is called.
    pub const CALL: u32 = 4;
    /// A handler returned.
    pub const RESPONSE: u32 = 5;
    /// More messages about the same change follow.
    pub const CONTINUES: u32 = 0x8000;
}

record! {
    /// Call of a handler.
    #[derive(Default)]
    struct HelperInfo = HELPER {
        /// Name of the handler.
        NAME = 1 optional helper_name: Text<32>;
        /// Its wait status, 0 in the call.
        STATUS = 2 optional helper_status: u32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Message;
    use super::super::tlv::Writer;
    use super::*;

    #[test]
    fn a_status_survives_the_way_through_a_message() {
        let status = StateInfo {
            sib_reason: sib_reason::STATE_CHANGE,
            current_state: 0x1234,
            uuids: Some([4, 0, 1, u64::MAX]),
            helper: Text::new(b"split-brain"),
            ..StateInfo::default()
        };
        let mut buf = [0; 512];
        let mut writer = Writer::reply(&mut buf);
        status.emit(&mut writer).unwrap();
        let message = Message::answer(writer.written()).unwrap();
        assert_eq!(StateInfo::find(&message), Ok(Some(status)));
        assert_eq!(DeviceInfo::find(&message), Ok(None));
    }

    #[test]
    fn a_context_has_only_what_was_given() {
        let context = Context {
            resource_name: Text::new(b"r0"),
            volume: Some(3),
            ..Context::default()
        };
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        context.emit(&mut writer).unwrap();
        assert_eq!(writer.len(), 4 + 8 + 8);
        let message = Message::answer(writer.written()).unwrap();
        let nest = message
            .nest(Context::TLA, Context::FIELDS)
            .unwrap()
            .unwrap();
        assert!(!nest.has(&Context::MY_ADDR));
        assert_eq!(Context::find(&message), Ok(Some(context)));
    }

    #[test]
    fn a_text_has_room_for_its_nul() {
        assert!(Text::<4>::new(b"abc").is_some());
        assert!(Text::<4>::new(b"abcd").is_none());
        assert!(Text::<8>::new(b"a\0b").is_none());
        assert_eq!(
            Text::<4>::new(b"abc").unwrap().as_bytes_with_nul(),
            b"abc\0"
        );
        assert_eq!(Text::<4>::EMPTY.as_bytes_with_nul(), b"\0");
    }

    #[test]
    fn texts_and_bytes_know_what_is_in_them() {
        let text = Text::<8>::new(b"r0").unwrap();
        assert_eq!(text.as_str(), Some("r0"));
        assert_eq!(Text::<8>::new(&[0xff]).unwrap().as_str(), None);
        assert!(!text.is_empty() && Text::<8>::default().is_empty());
        assert_eq!(std::format!("{text:?}"), "\"r0\"");
        let bytes = Bytes::<4>::new(&[1, 2]).unwrap();
        assert!(!bytes.is_empty() && Bytes::<4>::default().is_empty());
        assert_eq!(Bytes::<4>::default(), Bytes::EMPTY);
        assert_eq!(std::format!("{bytes:?}"), "[1, 2]");
        assert!(Bytes::<4>::new(&[0; 5]).is_none());
    }
}
