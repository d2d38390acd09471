//! What follows from a change of state (`reference/states.md` 3.9): a pure function from old and
//! new state to a list of actions by number. `control/after.rs` carries them out.

use drbd_format::types::{ConnState, DiskState, Role};

use super::VolumeState;
use crate::quirk::{quirk, Quirk};

/// One consequence, named by its number in `reference/states.md` 3.9.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FollowUp {
    /// A2: both disks are UpToDate for the first time: the crash is overcome.
    ForgetCrash,
    /// A4: a primary has lost all good data.
    PrimaryDegraded,
    /// A5a: the own disk is back while I/O is suspended: writes go to it once more, and are in its
    /// log, before they are sent again. (The reference only sends them.)
    RestartOnDisk,
    /// A8: a resync as source begins: tell the target its UUID.
    SendSyncUuid,
    /// A9: the peer has got a disk.
    PeerGotDisk,
    /// A10: send the bitmap.
    SendBitmap,
    /// A11: the peer's data is out of reach while somebody writes, from now on or for this disk.
    PeerDataLost,
    /// A11 when the peer's data lacked some of ours already: what is frozen is not all there is.
    LaggingPeerLost,
    /// A12: a diskless peer becomes primary.
    DisklessPeerPromoted,
    /// A11 when a diskless primary connects, finds a disk here, or loses its own: it has still to
    /// take our data.
    DisklessPeerCame,
    /// A13, A14, A28: write the changed part of the bitmap.
    WriteBitmap,
    /// A15: attached while connected: ask for the peer's opinion.
    Negotiate,
    /// A16, A18, A19, A23, A26, A27: tell the peer our state.
    SendState,
    /// A20: a full resync was requested.
    StartFullSync,
    /// A21: the disk has failed.
    DiskFailed,
    /// A22: the disk is gone.
    DiskGone,
    /// A24: sync the space by which the device grew.
    SyncGrown,
}

/// Facts outside of the state vector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context {
    /// A disk is there.
    pub has_disk: bool,
    /// The own bitmap UUID is 0.
    pub no_bitmap_uuid: bool,
    /// The peer's disk may be of the same generation although the bitmap has a base.
    pub may_be_elsewhere: bool,
    /// The device grew while it was detached.
    pub grown: bool,
    /// Applications have written what may not be on the peer's disk; the role may have moved since.
    pub unsettled: bool,
    /// Agreed protocol version.
    pub version: u32,
}

/// The peer's data is out of reach.
fn no_peer_data(s: VolumeState) -> bool {
    use DiskState::{DUnknown, Inconsistent, Outdated};
    s.pdsk < Inconsistent || matches!(s.pdsk, DUnknown | Outdated)
}

/// The peer's data was within reach and is not any more (note below A30).
fn lost_peer_data(o: VolumeState, n: VolumeState) -> bool {
    use DiskState::{Consistent, DUnknown, Diskless, Failed, Inconsistent, Outdated, UpToDate};
    let had = matches!(o.pdsk, Inconsistent | Consistent | UpToDate);
    (had && no_peer_data(n))
        || (o.pdsk == DUnknown && matches!(n.pdsk, Diskless | Failed | Outdated))
}

/// The peer's disk has failed and stayed (pass-on), and it is gone before anybody knows that it
/// could write that down: with another superblock the disk comes back as good as ours.
fn lost_failed_disk(o: VolumeState, n: VolumeState) -> bool {
    let stayed = o.pdsk == DiskState::Inconsistent && o.conn == ConnState::Connected;
    stayed && n.conn < ConnState::Connected
}

/// The peer did not get all writes, or had not got them all.
fn lags(o: VolumeState) -> bool {
    let mirrors = matches!(
        o.conn,
        ConnState::Connected | ConnState::VerifyS | ConnState::VerifyT
    );
    o.conn >= ConnState::Connected && !(mirrors && o.pdsk == DiskState::UpToDate)
}

/// The own disk is attached to what is written already, and gets it alone. (The reference begins
/// no generation for that.)
fn attached_alone(o: VolumeState, n: VolumeState) -> bool {
    let unsure = matches!(o.disk, DiskState::Consistent | DiskState::Outdated);
    let taken = unsure && n.conn == ConnState::Connected;
    let attached = matches!(o.disk, DiskState::Attaching | DiskState::Negotiating);
    // A helper may have called the peer's disk Inconsistent.
    let alone = no_peer_data(n) || n.conn < ConnState::Connected;
    (attached || taken) && alone
}

/// A list of consequences without duplicates.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowUps {
    items: [Option<FollowUp>; 17],
}

impl FollowUps {
    fn add(&mut self, condition: bool, item: FollowUp) {
        if !condition || self.items.contains(&Some(item)) {
            return;
        }
        if let Some(slot) = self.items.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(item);
        }
    }

    /// Returns the consequences in the order in which they are to be carried out.
    pub fn iter(&self) -> impl Iterator<Item = FollowUp> + '_ {
        self.items.iter().flatten().copied()
    }
}

/// Returns what follows from the change of `o` into `n`.
pub fn follow_up(o: VolumeState, n: VolumeState, context: &Context) -> FollowUps {
    let mut list = FollowUps::default();
    data_access(o, n, &mut list);
    sync_and_generations(o, n, context, &mut list);
    tell_peer(o, n, context, &mut list);
    // Behind the state: a peer that sees no reason for an exchange follows that, and has no use for
    // a bitmap that comes first.
    list.add(
        n.conn == ConnState::WfBitMapS && o.conn != ConnState::WfBitMapS,
        FollowUp::SendBitmap,
    );
    list
}

/// A2 to A5a: good data has come or gone. A5, A6 and A7 wait for what is sent before them
/// (`control/thaw.rs`).
fn data_access(o: VolumeState, n: VolumeState, list: &mut FollowUps) {
    use DiskState::{Attaching, Negotiating, UpToDate};
    let both_good = |s: VolumeState| s.disk == UpToDate && s.pdsk == UpToDate;
    let degraded =
        |s: VolumeState| s.role == Role::Primary && s.disk < UpToDate && s.pdsk < UpToDate;
    let was_new = matches!(o.disk, Attaching | Negotiating);
    list.add(both_good(n) && !both_good(o), FollowUp::ForgetCrash);
    list.add(degraded(n) && !degraded(o), FollowUp::PrimaryDegraded);
    list.add(
        n.suspended() && was_new && n.disk > Negotiating,
        FollowUp::RestartOnDisk,
    );
}

/// A8 to A14: resync, generations, bitmap.
fn sync_and_generations(o: VolumeState, n: VolumeState, context: &Context, list: &mut FollowUps) {
    use DiskState::{Attaching, DUnknown, Diskless, Failed, Inconsistent, UpToDate};
    let primary = Role::Primary;
    // A lost peer is Unknown in the new state: then only the own role counts.
    let somebody_writes = n.role == primary || n.peer == primary;
    let fresh_generation = context.no_bitmap_uuid && n.disk == UpToDate && context.has_disk;
    list.add(
        n.is_sync_source() && !o.is_sync_source() && context.has_disk,
        FollowUp::SendSyncUuid,
    );
    list.add(
        (o.pdsk == Diskless && n.pdsk > Diskless && n.pdsk != DUnknown)
            // It was at it when the connection came: it waits for our UUIDs all the same.
            || (o.pdsk == Attaching
                && n.pdsk > Failed
                && n.pdsk != DUnknown
                && !quirk(Quirk::AttachUnanswered)),
        FollowUp::PeerGotDisk,
    );
    let unsettled = context.unsettled && !quirk(Quirk::UnsettledForgotten);
    let shared = context.may_be_elsewhere && n.disk == UpToDate && context.has_disk;
    // The peer may have got to the end of the resync.
    let was_source = o.is_sync_source() || o.conn == ConnState::Ahead;
    let leaves = fresh_generation || (shared && was_source);
    let parts = shared && n.role == primary && was_source && n.conn < ConnState::Connected;
    let failed = fresh_generation && lost_failed_disk(o, n);
    let goes = (leaves && lost_peer_data(o, n)) || failed;
    let lost = parts || (goes && (somebody_writes || unsettled));
    let alone = (fresh_generation || shared)
        && attached_alone(o, n)
        && somebody_writes
        && !quirk(Quirk::AttachedUntold);
    let promoted = n.pdsk < Inconsistent
        && n.peer == primary
        && o.peer != primary
        && (fresh_generation || shared);
    let connects = promoted && o.conn < ConnState::Connected;
    // It may never have compared its data with ours.
    let doubts = lost && n.peer == primary && n.conn >= ConnState::Connected;
    let came = (connects || alone || doubts) && n.role != primary && !(lost && unsettled);
    list.add(came, FollowUp::DisklessPeerCame);
    let lags = lost && lags(o);
    list.add((lost || alone) && !came && !lags, FollowUp::PeerDataLost);
    list.add(lags && !came, FollowUp::LaggingPeerLost);
    // Once: behind a second new generation the one that the peer's disk may have is lost.
    list.add(promoted && !lost && !came, FollowUp::DisklessPeerPromoted);
    list.add(
        n.pdsk < Inconsistent && o.peer == primary && n.peer == Role::Secondary && context.has_disk,
        FollowUp::WriteBitmap,
    );
    list.add(
        o.role == primary
            && n.role == Role::Secondary
            && n.conn <= ConnState::Connected
            && context.has_disk,
        FollowUp::WriteBitmap,
    );
}

/// A15 to A28: what the peer must know, full sync, loss of the disk.
fn tell_peer(o: VolumeState, n: VolumeState, context: &Context, list: &mut FollowUps) {
    use ConnState::{
        Ahead, Connected, StartingSyncS, StartingSyncT, SyncSource, VerifyS, WfReportParams,
    };
    use DiskState::{Attaching, Diskless, Failed, Inconsistent, Negotiating, Outdated, UpToDate};
    let enters = |conn: ConnState| n.conn == conn && o.conn != conn;
    let disk_enters = |disk: DiskState| n.disk == disk && o.disk != disk;
    let connected = n.conn >= Connected;
    let pdsk_goes = o.pdsk >= Inconsistent && n.pdsk < Inconsistent;
    let stop_sector = context.version >= 97 && context.version != 100;
    list.add(
        connected && o.disk == Attaching && n.disk == Negotiating,
        FollowUp::Negotiate,
    );
    let news = [
        connected && (o.aftr_isp != n.aftr_isp || o.user_isp != n.user_isp),
        o.conn == WfReportParams && connected,
        enters(Ahead),
        // It has to know that what we say of its next disk is not about this one.
        connected && n.disk < Inconsistent && pdsk_goes && !quirk(Quirk::LossUnanswered),
    ];
    list.add(news.contains(&true), FollowUp::SendState);
    list.add(
        enters(StartingSyncS) || enters(StartingSyncT),
        FollowUp::StartFullSync,
    );
    list.add(disk_enters(Failed), FollowUp::DiskFailed);
    list.add(disk_enters(Diskless), FollowUp::DiskGone);
    list.add(
        n.disk > Negotiating && n.pdsk > Negotiating && context.grown && n.conn == Connected,
        FollowUp::SyncGrown,
    );
    let news = [
        // Of a full sync the peer knows. If it waits for our answer it would compare the disks.
        connected && o.disk == UpToDate && n.disk == Inconsistent && n.conn != StartingSyncT,
        o.disk < UpToDate && o.conn >= SyncSource && n.conn == Connected,
        o.conn == VerifyS && n.conn == Connected && stop_sector,
        // Without a disk the peer has nothing to compare, and takes ours for good, or for one in
        // doubt if it was about to sync it when its own one went.
        n.conn == Connected
            && o.disk == Negotiating
            && (n.disk == Outdated
                || (n.disk > Negotiating
                    && n.pdsk < Inconsistent
                    && !quirk(Quirk::LossUnanswered))),
    ];
    list.add(news.contains(&true), FollowUp::SendState);
    list.add(
        o.conn > Connected
            && o.conn < Ahead
            && (n.conn == Connected || n.conn >= Ahead)
            && context.has_disk,
        FollowUp::WriteBitmap,
    );
}
