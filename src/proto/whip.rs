//! SDP offers and ICE fragments as WHIP and WHEP exchange them (RFC 9725, RFC 8840), sans-IO: which tracks an offer brings, and what a PATCH means.

use crate::model::media::MediaKind;

/// The media type of SDP (RFC 8866 section 8.1).
pub const SDP_TYPE: &str = "application/sdp";

/// The media type of ICE fragments (RFC 8840 section 9.1).
pub const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";

/// The longest body taken, in bytes; a browser's offer with every codec and 64 m-lines stays under 120 KiB.
pub const MAX_BODY: usize = 128 << 10;

/// The most m-lines of an offer looked at: a player of a whole room has one for each track in it.
const MAX_TRACKS: usize = 64;

/// The most candidates in one fragment; a machine with many interfaces gathers about twenty.
const MAX_CANDIDATES: usize = 64;

/// The longest candidate in bytes; IPv6 with all extensions stays under 250.
const MAX_CANDIDATE: usize = 512;

/// An offer or answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("the body is no SDP: it must begin with v=0")]
    NotSdp,
    #[error("the SDP has no ICE credentials: a=ice-ufrag of 4 to 256 and a=ice-pwd of 22 to 256 ICE characters")]
    NoIce,
    #[error("an audio or video m-line has no a=mid; bundle the media as RFC 9725 section 4.4 asks")]
    NoMid,
    #[error("the SDP has no audio or video m-line in this direction")]
    NoMedia,
    #[error("the SDP has more than {MAX_TRACKS} m-lines")]
    TooManyTracks,
}

/// One m-line of an offer that brings media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedTrack {
    pub mid: String,
    pub kind: MediaKind,
}

/// The audio and video m-lines that the offerer will send on, in their order.
///
/// # Errors
/// [`SdpError`] if the text is no SDP, brings nothing, brings too much or has m-lines without a mid.
pub fn offered_tracks(sdp: &str) -> Result<Vec<OfferedTrack>, SdpError> {
    let sections = sections(sdp)?;
    let session_sends = sends(&sections[0]).unwrap_or(true);
    let mut tracks = Vec::new();
    for section in &sections[1..] {
        let kind = match section[0].split(' ').next() {
            Some("m=audio") => MediaKind::Audio,
            Some("m=video") => MediaKind::Video,
            Some(_) | None => continue,
        };
        if !sends(section).unwrap_or(session_sends) || is_refused(section) {
            continue;
        }
        let mid = attribute(section, "mid").filter(|mid| !mid.is_empty()).ok_or(SdpError::NoMid)?;
        tracks.push(OfferedTrack { mid: mid.to_owned(), kind });
    }
    if tracks.is_empty() { Err(SdpError::NoMedia) } else { Ok(tracks) }
}

/// The lines of an SDP, those of the session first, then those of each m-line, the m-line itself in front.
fn sections(sdp: &str) -> Result<Vec<Vec<&str>>, SdpError> {
    let mut lines = sdp.lines().map(str::trim_end);
    if lines.next() != Some("v=0") {
        return Err(SdpError::NotSdp);
    }
    let mut sections = vec![Vec::new()];
    for line in lines {
        if line.starts_with("m=") {
            if sections.len() > MAX_TRACKS {
                return Err(SdpError::TooManyTracks);
            }
            sections.push(Vec::new());
        }
        sections.last_mut().expect("there is the session's section").push(line);
    }
    Ok(sections)
}

/// The value of the first `a=name:value` among these lines.
fn attribute<'a>(lines: &[&'a str], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// Whether these lines state a direction, and then whether the offerer sends in it.
fn sends(lines: &[&str]) -> Option<bool> {
    lines.iter().find_map(|line| match *line {
        "a=sendrecv" | "a=sendonly" => Some(true),
        "a=recvonly" | "a=inactive" => Some(false),
        _ => None,
    })
}

/// Port 0 without `a=bundle-only` means that the m-line is not wanted (RFC 9143 section 6).
fn is_refused(lines: &[&str]) -> bool {
    lines[0].split(' ').nth(1) == Some("0") && !lines.contains(&"a=bundle-only")
}

/// The name and password of one end of an ICE session (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// The first ones among these lines, `None` if there are none or they break RFC 8839.
    fn find(lines: &[&str]) -> Option<Self> {
        let ufrag = attribute(lines, "ice-ufrag").filter(|text| is_ice_text(text, 4))?;
        let pwd = attribute(lines, "ice-pwd").filter(|text| is_ice_text(text, 22))?;
        Some(Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
    }
}

fn is_ice_text(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// What a PATCH brings (RFC 8840 section 9).
pub struct Fragment {
    credentials: Option<Credentials>,
    candidates: Vec<String>,
}

/// A fragment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    #[error("the body is no SDP fragment: every line must be a letter, an equals sign and a value")]
    NotFragment,
    #[error("a=ice-ufrag and a=ice-pwd must both be there or both be missing, and be as RFC 8839 section 5.4 says")]
    Credentials,
    #[error("a candidate is longer than {MAX_CANDIDATE} bytes, or there are more than {MAX_CANDIDATES}")]
    TooMuch,
    #[error("the fragment brings neither candidates nor credentials")]
    Empty,
}

impl Fragment {
    /// # Errors
    /// [`FragmentError`] says what about the text is wrong.
    pub fn parse(text: &str) -> Result<Self, FragmentError> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let well_formed =
            |line: &&str| line.as_bytes()[0].is_ascii_lowercase() && line.as_bytes().get(1) == Some(&b'=');
        if !lines.iter().all(well_formed) {
            return Err(FragmentError::NotFragment);
        }
        let named = |name| attribute(&lines, name).is_some();
        let credentials = Credentials::find(&lines);
        if credentials.is_none() && (named("ice-ufrag") || named("ice-pwd")) {
            return Err(FragmentError::Credentials);
        }
        let candidates: Vec<String> =
            lines.iter().filter_map(|line| line.strip_prefix("a=candidate:")).map(str::to_owned).collect();
        if candidates.len() > MAX_CANDIDATES || candidates.iter().any(|candidate| candidate.len() > MAX_CANDIDATE) {
            return Err(FragmentError::TooMuch);
        }
        if credentials.is_none() && candidates.is_empty() && !lines.contains(&"a=end-of-candidates") {
            return Err(FragmentError::Empty);
        }
        Ok(Self { credentials, candidates })
    }
}

/// What a resource can do when it is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    Supported,
    Unsupported,
}

/// The ICE sessions of one WHIP or WHEP resource: which one is current, and what a PATCH does to it.
pub struct Negotiation {
    offer: String,
    remote: Credentials,
    /// Counts ICE sessions from 1; it is the entity tag (RFC 9725 section 4.3.1).
    generation: u32,
    restarts: Restarts,
}

/// What a PATCH asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These candidates belong to the current ICE session.
    Trickle { candidates: Vec<String> },
    /// The offer again with new ICE credentials, and the first candidates of the new ICE session.
    Restart { offer: String, candidates: Vec<String> },
}

/// Why a PATCH is refused (RFC 9725 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("send the header If-Match with the entity tag of the ICE session, or * to restart ICE")]
    PreconditionRequired,
    #[error("the entity tag is not that of the current ICE session")]
    PreconditionFailed,
    #[error("the ICE credentials are not those of the current ICE session; to restart ICE send If-Match: *")]
    WrongCredentials,
    #[error("ICE cannot be restarted here; delete this resource and post a new offer")]
    RestartUnsupported,
}

impl Negotiation {
    /// The first ICE session, begun by this offer.
    ///
    /// # Errors
    /// [`SdpError`] if the offer is no SDP or has no ICE credentials.
    pub fn new(offer: String, restarts: Restarts) -> Result<Self, SdpError> {
        let lines = sections(&offer)?.concat();
        let remote = Credentials::find(&lines).ok_or(SdpError::NoIce)?;
        Ok(Self { offer, remote, generation: 1, restarts })
    }

    /// The strong entity tag of the current ICE session, quotes included.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.generation)
    }

    /// What this PATCH means; `if_match` is the value of its header.
    ///
    /// # Errors
    /// [`PatchError`] if it is not for the current ICE session or cannot be done.
    pub fn patch(&self, if_match: Option<&str>, fragment: &Fragment) -> Result<Step, PatchError> {
        let if_match = if_match.ok_or(PatchError::PreconditionRequired)?.trim();
        let candidates = fragment.candidates.clone();
        let new = fragment.credentials.as_ref().filter(|credentials| **credentials != self.remote);
        let any = if_match == "*";
        if !any && !if_match.split(',').any(|tag| tag.trim() == self.etag()) {
            return Err(PatchError::PreconditionFailed);
        }
        match new {
            None => Ok(Step::Trickle { candidates }),
            Some(_) if !any => Err(PatchError::WrongCredentials),
            Some(_) if self.restarts == Restarts::Unsupported => Err(PatchError::RestartUnsupported),
            Some(new) => Ok(Step::Restart { offer: with_credentials(&self.offer, new), candidates }),
        }
    }

    /// The restart asked for by [`Step::Restart`] was answered; from now on its ICE session is the current one. Returns the
    /// fragment to be sent to the peer.
    ///
    /// # Errors
    /// [`SdpError`] if offer or answer have no ICE credentials; then the old ICE session stays the current one.
    pub fn restarted(&mut self, offer: String, answer: &str) -> Result<String, SdpError> {
        let remote = Credentials::find(&sections(&offer)?.concat()).ok_or(SdpError::NoIce)?;
        let fragment = fragment_of(answer)?;
        self.remote = remote;
        self.offer = offer;
        self.generation += 1;
        Ok(fragment)
    }
}

/// The same offer for a new ICE session: new credentials, no candidates, the version of the session raised (RFC 8866 section 5.2).
fn with_credentials(offer: &str, new: &Credentials) -> String {
    let mut text = String::with_capacity(offer.len() + 64);
    for line in offer.lines().map(str::trim_end) {
        if line.starts_with("a=ice-ufrag:") {
            text.push_str("a=ice-ufrag:");
            text.push_str(&new.ufrag);
        } else if line.starts_with("a=ice-pwd:") {
            text.push_str("a=ice-pwd:");
            text.push_str(&new.pwd);
        } else if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        } else if line.starts_with("o=") {
            text.push_str(&raised(line));
        } else {
            text.push_str(line);
        }
        text.push_str("\r\n");
    }
    text
}

/// An `o=` line with its version raised by one; any other form of it stays as it is.
fn raised(origin: &str) -> String {
    let mut fields: Vec<String> = origin.split(' ').map(str::to_owned).collect();
    if let Some(version) = fields.get_mut(2)
        && let Ok(number) = version.parse::<u64>()
    {
        *version = number.wrapping_add(1).to_string();
    }
    fields.join(" ")
}

/// The ICE part of an answer: what the session says, and the first m-line, with which all others are bundled.
fn fragment_of(answer: &str) -> Result<String, SdpError> {
    let sections = sections(answer)?;
    let mut lines: Vec<&str> = Vec::new();
    let session_names = ["a=ice-lite", "a=ice-options:", "a=group:BUNDLE", "a=ice-ufrag:", "a=ice-pwd:"];
    let media_names = ["m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"];
    let picked = |line: &&&str, names: &[&str]| names.iter().any(|name| line.starts_with(name));
    lines.extend(sections[0].iter().filter(|line| picked(line, &session_names)));
    lines.extend(sections.get(1).into_iter().flatten().filter(|line| picked(line, &media_names)));
    if Credentials::find(&lines).is_none() {
        return Err(SdpError::NoIce);
    }
    Ok(lines.join("\r\n") + "\r\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\no=- 52 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\na=mid:1\r\na=sendonly\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=recvonly\r\na=ice-ufrag:srvA\r\n\
        a=ice-pwd:0b66f472495ef0ccac7bda65\r\na=candidate:1 1 udp 2130706431 198.51.100.1 39132 typ host\r\n\
        a=end-of-candidates\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:srvA\r\n";
    const CURRENT: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        a=mid:0\r\na=candidate:2 1 udp 1 192.0.2.1 5001 typ host\r\na=end-of-candidates\r\n";
    const NEW: &str = "a=ice-ufrag:fresh\r\na=ice-pwd:vAljGYBcXKMMnXzwnnXjkxqU\r\n";

    fn negotiation() -> Negotiation {
        Negotiation::new(OFFER.to_owned(), Restarts::Supported).unwrap()
    }

    #[test]
    fn the_tracks_of_an_offer_are_found_by_mid_and_kind() {
        let tracks = offered_tracks(OFFER).unwrap();
        let audio = OfferedTrack { mid: "0".into(), kind: MediaKind::Audio };
        assert_eq!(tracks, [audio, OfferedTrack { mid: "1".into(), kind: MediaKind::Video }]);
        assert_eq!(offered_tracks(&OFFER.replace("a=sendonly", "a=recvonly")), Err(SdpError::NoMedia));
        assert_eq!(offered_tracks(&OFFER.replace("a=mid:1\r\n", "")), Err(SdpError::NoMid));
        assert_eq!(offered_tracks(&OFFER.replace("a=bundle-only\r\n", "")).unwrap().len(), 1);
        assert_eq!(offered_tracks("hello"), Err(SdpError::NotSdp));
        let crowd = format!("v=0\r\n{}", "m=audio 9 x 0\r\n".repeat(MAX_TRACKS + 1));
        assert_eq!(offered_tracks(&crowd), Err(SdpError::TooManyTracks));
    }

    #[test]
    fn candidates_of_the_current_session_trickle() {
        let fragment = Fragment::parse(CURRENT).unwrap();
        let trickle = Step::Trickle { candidates: vec!["2 1 udp 1 192.0.2.1 5001 typ host".into()] };
        assert_eq!(negotiation().patch(Some("\"1\""), &fragment), Ok(trickle.clone()));
        assert_eq!(negotiation().patch(Some("\"0\", \"1\""), &fragment), Ok(trickle.clone()));
        assert_eq!(negotiation().patch(Some("*"), &fragment), Ok(trickle));
        assert_eq!(negotiation().patch(None, &fragment), Err(PatchError::PreconditionRequired));
        assert_eq!(negotiation().patch(Some("\"2\""), &fragment), Err(PatchError::PreconditionFailed));
        assert_eq!(negotiation().patch(Some("W/\"1\""), &fragment), Err(PatchError::PreconditionFailed));
    }

    #[test]
    fn a_restart_needs_a_star_and_makes_a_new_session() {
        let mut negotiation = negotiation();
        let fragment = Fragment::parse(NEW).unwrap();
        assert_eq!(negotiation.patch(Some("\"1\""), &fragment), Err(PatchError::WrongCredentials));
        let Ok(Step::Restart { offer, candidates }) = negotiation.patch(Some("*"), &fragment) else {
            panic!("no restart")
        };
        assert!(candidates.is_empty() && !offer.contains("EsAw") && !offer.contains("a=candidate"));
        assert_eq!(offer.matches("a=ice-ufrag:fresh").count(), 2);
        assert!(offer.contains("o=- 52 3 IN IP4"));
        let answer = negotiation.restarted(offer, ANSWER).unwrap();
        insta::assert_snapshot!(answer.replace("\r\n", "\n"), @r"
        a=ice-lite
        a=group:BUNDLE 0 1
        m=audio 9 UDP/TLS/RTP/SAVPF 111
        a=mid:0
        a=ice-ufrag:srvA
        a=ice-pwd:0b66f472495ef0ccac7bda65
        a=candidate:1 1 udp 2130706431 198.51.100.1 39132 typ host
        a=end-of-candidates
        ");
        assert_eq!(negotiation.etag(), "\"2\"");
        assert!(matches!(negotiation.patch(Some("\"2\""), &fragment), Ok(Step::Trickle { .. })));
        assert_eq!(negotiation.patch(Some("\"1\""), &fragment), Err(PatchError::PreconditionFailed));
    }

    #[test]
    fn a_resource_without_restarts_says_so() {
        let negotiation = Negotiation::new(OFFER.to_owned(), Restarts::Unsupported).unwrap();
        let fragment = Fragment::parse(NEW).unwrap();
        assert_eq!(negotiation.patch(Some("*"), &fragment), Err(PatchError::RestartUnsupported));
    }

    #[test]
    fn a_broken_fragment_is_refused_with_the_reason() {
        let refusal = |text: &str| Fragment::parse(text).err();
        assert_eq!(refusal("hello"), Some(FragmentError::NotFragment));
        assert_eq!(refusal(""), Some(FragmentError::Empty));
        assert_eq!(refusal("a=ice-ufrag:abcd\n"), Some(FragmentError::Credentials));
        assert_eq!(
            refusal("a=ice-ufrag:a b c\na=ice-pwd:0b66f472495ef0ccac7bda65\n"),
            Some(FragmentError::Credentials)
        );
        assert_eq!(refusal(&"a=candidate:1\n".repeat(65)), Some(FragmentError::TooMuch));
        assert_eq!(refusal(&format!("a=candidate:{}", "x".repeat(600))), Some(FragmentError::TooMuch));
    }

    fn sdp_like() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            prop::sample::select(OFFER.lines().chain(ANSWER.lines()).map(str::to_owned).collect::<Vec<_>>()),
            "[a-z]=[ -~]{0,20}",
            any::<String>(),
        ];
        prop::collection::vec(line, 0..30).prop_map(|lines| format!("v=0\r\n{}", lines.join("\r\n")))
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), sdp in sdp_like(), tag in any::<String>()) {
            for text in [text, sdp] {
                let _ = offered_tracks(&text);
                let _ = fragment_of(&text);
                if let (Ok(mut negotiation), Ok(fragment)) =
                    (Negotiation::new(text.clone(), Restarts::Supported), Fragment::parse(&text))
                {
                    let _ = negotiation.patch(Some(&tag), &fragment);
                    let _ = negotiation.restarted(text.clone(), &text);
                }
            }
        }

        #[test]
        fn a_restart_changes_nothing_but_the_ice_session(sdp in sdp_like()) {
            let Ok(negotiation) = Negotiation::new(sdp.clone(), Restarts::Supported) else { return Ok(()) };
            let Ok(Step::Restart { offer, .. }) = negotiation.patch(Some("*"), &Fragment::parse(NEW).unwrap()) else {
                return Err(TestCaseError::fail("no restart"));
            };
            prop_assert_eq!(offered_tracks(&offer), offered_tracks(&sdp));
            prop_assert!(Negotiation::new(offer, Restarts::Supported).is_ok_and(|new| new.remote.ufrag == "fresh"));
        }
    }
}
