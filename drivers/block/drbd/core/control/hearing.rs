//! Which volumes the peer has: nobody waits for one that it does not tell of
//! (`reference/states.md` 3.5).

use drbd_format::types::ConnState;

use super::{Control, Heard};
use crate::link::VolumeIndex;
use crate::log::Level;
use crate::time::Duration;

impl Control<'_> {
    /// The peer does not have the volume: another one is connected, and nothing has come of this.
    pub(crate) fn is_not_there(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        self.s.link.state_sent
            && volume.state.conn == ConnState::WfReportParams
            && matches!(volume.heard, Heard::NotThere | Heard::Changed)
    }

    /// A packet has been dealt with. The next one of the handshake follows at once, if there is
    /// one: the peer sends the parameters of all its volumes together.
    pub(crate) fn expect_more(&mut self) {
        let tenths = self.s.net.map_or(5, |net| net.ping_timeout_tenths);
        let pause = Duration::from_tenths(tenths).times(4);
        let unheard = self.indices().any(|v| self.is_unheard(v));
        self.s.link.all_told_at = unheard.then(|| self.now.after(pause));
    }

    fn is_unheard(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        self.s.link.state_sent
            && volume.state.conn == ConnState::WfReportParams
            && volume.heard == Heard::No
    }

    /// Nothing has come for so long that the peer has told all. What it has not told of while it
    /// has met another volume it does not have.
    pub(crate) fn all_told(&mut self) {
        let met = |v: VolumeIndex| self.vol(v).state.conn >= ConnState::Connected;
        if !self.indices().any(met) {
            return;
        }
        for v in self.indices() {
            if self.is_unheard(v) {
                self.vol_mut(v).heard = Heard::NotThere;
            }
        }
    }

    /// What the peer was told of a volume that it does not seem to have is not true any more.
    pub(crate) fn differs_from_told(&mut self, v: VolumeIndex) {
        if self.is_not_there(v) {
            self.vol_mut(v).heard = Heard::Changed;
        }
    }

    /// The peer has the volume. Returns false if both have to begin anew: it may have compared what
    /// we had told, which has changed since.
    pub(super) fn hear_of(&mut self, v: VolumeIndex) -> bool {
        if self.is_not_there(v) && self.vol(v).heard == Heard::Changed {
            let text = "The peer tells of the volume late; connecting anew.";
            self.text(v, Level::Warning, text);
            return false;
        }
        self.vol_mut(v).heard = Heard::Yes;
        true
    }
}
