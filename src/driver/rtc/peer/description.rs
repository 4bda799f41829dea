//! What both ends agree on: offers, answers and candidates.

use std::collections::HashSet;
use std::time::Instant;

use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;

use crate::domain::room::producer::Encoding;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::peer::PeerError;
use crate::driver::rtc::peer::guarded;
use crate::driver::rtc::sdp;
use crate::driver::rtc::sdp::Extensions;
use crate::driver::rtc::sdp::Section;
use crate::model::media::Codec;

/// Remote candidates taken between two ICE restarts of the remote end; each is checked, so each makes us send to an address of its
/// choice.
const MAX_CANDIDATES: usize = 64;

impl Peer {
    /// Answers the remote end's offer. `lanes_for` says what to send on each m-line it wants to receive on.
    ///
    /// # Errors
    /// A description that cannot be used; a peer that was new is of no use after it.
    pub(in crate::driver::rtc) fn answer(
        &mut self,
        now: Instant,
        offer: &str,
        mut lanes_for: impl FnMut(&Section) -> Option<(Codec, String)>,
    ) -> Result<String, PeerError> {
        let offered = usable_sections(offer)?;
        let layered = self.layered();
        let usable =
            sdp::with_layers_kept(&self.with_usable_candidates(offer), |mid| layered.iter().any(|known| known == mid));
        let description = guarded(|| RTCSessionDescription::offer(usable))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        for section in offered.iter().filter(|s| s.kind.is_some() && s.receives && !s.rejected) {
            let is_new = self.section(&section.mid).is_none();
            if let Some((codec, stream)) = is_new.then(|| lanes_for(section)).flatten() {
                self.open_lane(codec, &stream)?;
            }
        }
        let applied = guarded(|| {
            self.pc.set_remote_description(now, description)?;
            self.add_local_candidates();
            let answer = self.pc.create_answer(None)?;
            self.pc.set_local_description(now, answer)
        });
        if let Err(error) = applied {
            self.broken = true;
            return Err(PeerError::Description(error.to_string()));
        }
        let answer = self.local_description()?;
        self.sections = sdp::sections(&answer);
        self.extensions = Extensions::of(&answer);
        let media = |section: &&Section| section.kind.is_some();
        if offered.iter().any(|s| media(&s)) && self.sections.iter().filter(media).all(|s| s.rejected) {
            return Err(PeerError::NoCommonCodec);
        }
        self.agree_on_lanes();
        self.add_early_candidates();
        Ok(answer)
    }

    /// The m-lines that simulcast layers have come on.
    fn layered(&mut self) -> Vec<String> {
        let layers: HashSet<usize> =
            self.sources.iter().filter(|source| source.rid.is_some()).map(|source| source.transceiver).collect();
        layers.into_iter().filter_map(|layer| self.pc.rtp_transceiver(layer)?.mid().clone()).collect()
    }

    /// An offer of this side's lanes.
    ///
    /// # Errors
    /// The stack fails; the peer is broken then.
    pub(in crate::driver::rtc) fn offer(&mut self, now: Instant, restart_ice: bool) -> Result<String, PeerError> {
        let offered = guarded(|| {
            if restart_ice {
                self.pc.restart_ice();
            }
            self.add_local_candidates();
            let offer = self.pc.create_offer(None)?;
            self.pc.set_local_description(now, offer)?;
            self.add_local_candidates();
            Ok(())
        });
        if offered.is_err() {
            self.broken = true;
        }
        offered?;
        self.local_description()
    }

    /// The remote end's answer to [`Peer::offer`].
    ///
    /// # Errors
    /// A description that cannot be used; the offer stays open unless the stack fails with it.
    pub(in crate::driver::rtc) fn accept(&mut self, now: Instant, answer: &str) -> Result<(), PeerError> {
        let sections = usable_sections(answer)?;
        let usable = self.with_usable_candidates(answer);
        let description = guarded(|| RTCSessionDescription::answer(usable))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        guarded(|| self.pc.set_remote_description(now, description))
            .map_err(|error| PeerError::Description(error.to_string()))?;
        self.sections = sections;
        self.extensions = Extensions::of(answer);
        self.agree_on_lanes();
        self.add_early_candidates();
        Ok(())
    }

    /// A trickled candidate, as the value of an SDP `candidate` attribute; one that cannot be reached from here is ignored.
    ///
    /// # Errors
    /// It cannot be read, or there were too many.
    pub(in crate::driver::rtc) fn add_candidate(&mut self, candidate: &str) -> Result<(), PeerError> {
        if !sdp::is_usable_candidate(candidate) {
            return Ok(());
        }
        if !self.takes(candidate) {
            return Err(PeerError::Candidate(format!("more than {MAX_CANDIDATES} of them")));
        }
        if self.pc.remote_description().is_none() {
            self.early_candidates.push(candidate.to_owned());
            return Ok(());
        }
        self.take_candidate(candidate.to_owned()).map_err(|error| PeerError::Candidate(error.to_string()))
    }

    /// The m-line `mid` as last agreed on.
    pub(in crate::driver::rtc) fn section(&self, mid: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == mid)
    }

    /// The SSRCs on which m-line `mid` was heard, with the ids of simulcast layers, in the order of coming.
    pub(in crate::driver::rtc) fn sources(&mut self, mid: &str) -> Vec<(Option<String>, u32)> {
        let pc = &mut self.pc;
        let mut is_of = |transceiver| pc.rtp_transceiver(transceiver).is_some_and(|t| t.mid().as_deref() == Some(mid));
        let sources = self.sources.iter().filter(|source| is_of(source.transceiver));
        sources.map(|source| (source.rid.clone(), source.ssrc)).collect()
    }

    /// How packets with this payload type are to be read.
    pub(in crate::driver::rtc) fn encoding(&self, payload_type: u8) -> Option<Encoding> {
        self.sections.iter().flat_map(|s| &s.encodings).find(|e| e.payload_type == payload_type).copied()
    }

    /// The payload type of redundant audio coming in.
    pub(in crate::driver::rtc) fn red(&self) -> Option<u8> {
        self.sections.iter().find_map(|section| section.red)
    }

    /// The user fragment and password under which the remote end may come, as last described.
    pub(in crate::driver::rtc) fn credentials(&self) -> Option<&(String, String)> {
        self.credentials.as_ref()
    }

    /// Our side as last described.
    ///
    /// # Errors
    /// There is none, or the stack fails.
    pub(in crate::driver::rtc) fn local_description(&mut self) -> Result<String, PeerError> {
        let description = guarded(|| Ok(self.pc.local_description()))?;
        let sdp = description.map(|d| sdp::for_music(&d.sdp)).ok_or(PeerError::Panic)?;
        if let Some((ufrag, password)) = sdp::ice_credentials(&sdp) {
            let credentials = Some((ufrag.to_owned(), password.to_owned()));
            if self.credentials != credentials {
                self.credentials = credentials;
                self.tcp_since = None;
            }
        }
        Ok(sdp)
    }

    /// A restart forgets them, and one that is known already is not taken twice.
    fn add_local_candidates(&mut self) {
        for candidate in &self.candidates {
            let init = RTCIceCandidateInit { candidate: candidate.clone(), ..RTCIceCandidateInit::default() };
            if let Err(error) = self.pc.add_local_candidate(init) {
                tracing::warn!(%error, %candidate, "a local candidate was refused");
            }
        }
    }

    fn add_early_candidates(&mut self) {
        for candidate in std::mem::take(&mut self.early_candidates) {
            if let Err(error) = self.take_candidate(candidate) {
                tracing::debug!(%error, "an early candidate was refused");
            }
        }
    }

    /// The description without candidates that cannot be reached from here or are too many.
    fn with_usable_candidates(&mut self, description: &str) -> String {
        if let Some((ufrag, _)) = sdp::ice_credentials(description)
            && self.remote_ufrag != ufrag
        {
            ufrag.clone_into(&mut self.remote_ufrag);
            self.candidates_taken.clear();
        }
        sdp::with_candidates(description, |candidate| sdp::is_usable_candidate(candidate) && self.takes(candidate))
    }

    /// Whether a candidate is known or may still be.
    fn takes(&mut self, candidate: &str) -> bool {
        self.candidates_taken.contains(candidate)
            || (self.candidates_taken.len() < MAX_CANDIDATES && self.candidates_taken.insert(candidate.to_owned()))
    }

    fn take_candidate(&mut self, candidate: String) -> Result<(), PeerError> {
        let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
        guarded(|| self.pc.add_remote_candidate(init))
    }
}

fn usable_sections(description: &str) -> Result<Vec<Section>, PeerError> {
    if description.len() > sdp::MAX_LENGTH {
        return Err(PeerError::Description(format!("it is longer than {} bytes", sdp::MAX_LENGTH)));
    }
    let sections = sdp::sections(description);
    if sections.is_empty() || sections.len() > sdp::MAX_SECTIONS {
        return Err(PeerError::Description(format!("it has not 1 to {} m-lines", sdp::MAX_SECTIONS)));
    }
    Ok(sections)
}
