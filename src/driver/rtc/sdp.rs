//! What the SFU reads from and changes in session descriptions, as text: the peer's stack does the rest.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use crate::domain::room::producer::Encoding;
use crate::model::media::Codec;
use crate::model::media::MediaKind;

/// Opus for music (RFC 7587 section 6.1): stereo both ways, 256 kbit/s, no pauses in silence.
///
/// And no error correction in its own packets: Opus has that for speech alone, and codes whatever it is given as speech, at half the
/// rate, as soon as some of it is lost. What is lost comes again in redundant audio instead.
pub(super) const MUSIC: &str = "minptime=10;useinbandfec=0;stereo=1;sprop-stereo=1;maxaveragebitrate=256000;usedtx=0";

/// Frames of 10 ms instead of the usual 20: the sound leaves 10 ms earlier (RFC 8866 section 6.4), and two of them fit into a packet,
/// as redundant audio needs: browsers leave the old one out of what is longer than 1200 bytes.
const FRAME_MS: u32 = 10;

/// The header extension by which a packet says how loud it is (RFC 6464).
pub(super) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// The header extension that says what a frame builds on: the dependency descriptor (RTP Payload Format For AV1, appendix A).
pub(super) const DEPENDENCIES: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Longest description taken. Chromium's offer of 8 tracks stays under 64 KiB.
pub(super) const MAX_LENGTH: usize = 256 * 1024;
/// Most m-lines taken, over what the track limit allows so that stopped ones may stay.
pub(super) const MAX_SECTIONS: usize = 64;

/// One m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) mid: String,
    /// `None` for a data channel.
    pub(super) kind: Option<MediaKind>,
    /// Port 0: the m-line is not used.
    pub(super) rejected: bool,
    pub(super) sends: bool,
    pub(super) receives: bool,
    /// The codecs of ours it lists, most wanted first.
    pub(super) encodings: Vec<Encoding>,
    /// The payload type of redundant audio (RFC 2198).
    pub(super) red: Option<u8>,
}

/// Formats of one m-line that are looked at; browsers offer about thirty, and this is work on the media thread.
const MAX_FORMATS: usize = 64;

/// The m-lines of a description.
pub(super) fn sections(sdp: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut formats: Vec<u8> = Vec::new();
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_ascii_whitespace();
            let kind = match words.next() {
                Some("audio") => Some(MediaKind::Audio),
                Some("video") => Some(MediaKind::Video),
                Some(_) | None => None,
            };
            let rejected = words.next() == Some("0");
            prefer(sections.last_mut(), &formats);
            formats = words.skip(1).filter_map(|format| format.parse().ok()).take(MAX_FORMATS).collect();
            sections.push(Section {
                mid: String::new(),
                kind,
                rejected,
                sends: true,
                receives: true,
                encodings: Vec::new(),
                red: None,
            });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        let Some(attribute) = line.strip_prefix("a=") else { continue };
        match attribute.split_once(':').unwrap_or((attribute, "")) {
            ("mid", mid) => mid.clone_into(&mut section.mid),
            ("sendonly", _) => section.receives = false,
            ("recvonly", _) => section.sends = false,
            ("inactive", _) => (section.sends, section.receives) = (false, false),
            ("rtpmap", map) if section.encodings.len() < MAX_FORMATS => {
                section.encodings.extend(encoding(map));
                section.red = section.red.or_else(|| red(map));
            }
            _ => {}
        }
    }
    prefer(sections.last_mut(), &formats);
    sections
}

/// Puts a section's encodings in the order of its m-line, which is the sender's preference (RFC 3264 section 5.1).
fn prefer(section: Option<&mut Section>, formats: &[u8]) {
    if let Some(section) = section {
        section.encodings.sort_by_cached_key(|e| formats.iter().position(|format| *format == e.payload_type));
    }
}

/// `111 opus/48000/2`
fn encoding(map: &str) -> Option<Encoding> {
    let (payload_type, name) = map.split_once(' ')?;
    let codec = match name.split('/').next()?.to_ascii_lowercase().as_str() {
        "opus" => Codec::Opus,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        "h264" => Codec::H264,
        "av1" => Codec::Av1,
        _ => return None,
    };
    Some(Encoding { codec, payload_type: payload_type.parse().ok()? })
}

/// `63 red/48000/2`; a video's `red/90000` is another thing.
fn red(map: &str) -> Option<u8> {
    let (payload_type, name) = map.split_once(' ')?;
    if name.eq_ignore_ascii_case("red/48000/2") { payload_type.parse().ok() } else { None }
}

/// The description with every Opus format asking for music; a browser's encoder obeys what it reads here.
pub(super) fn for_music(sdp: &str) -> String {
    let is_opus = |payload_type: &str| {
        sdp.lines().any(|line| {
            line.strip_prefix("a=rtpmap:")
                .and_then(encoding)
                .is_some_and(|e| e.codec == Codec::Opus && e.payload_type.to_string() == payload_type)
        })
    };
    let mut out = String::with_capacity(sdp.len() + 128);
    for line in sdp.lines() {
        let fmtp = line.strip_prefix("a=fmtp:").and_then(|rest| rest.split_once(' '));
        if fmtp.is_some_and(|(payload_type, _)| is_opus(payload_type)) || line.starts_with("a=ptime:") {
            continue;
        }
        out.push_str(line);
        out.push_str("\r\n");
        if let Some(opus) = line.strip_prefix("a=rtpmap:").and_then(encoding).filter(|e| e.codec == Codec::Opus) {
            out.push_str(&format!("a=fmtp:{} {MUSIC}\r\na=ptime:{FRAME_MS}\r\n", opus.payload_type));
        }
    }
    out
}

/// The numbers of the header extensions that are looked at. All m-lines of a bundle share them (RFC 8843 section 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// How loud a packet is.
    pub(super) audio_level: Option<u8>,
    /// What a frame builds on.
    pub(super) dependencies: Option<u8>,
}

impl Extensions {
    pub(super) fn of(sdp: &str) -> Self {
        let find = |wanted: &str| {
            sdp.lines().find_map(|line| {
                let (id, uri) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
                // The number may be followed by a direction: `1/recvonly`.
                let id = id.split('/').next()?.parse().ok()?;
                (uri.split(' ').next() == Some(wanted)).then_some(id)
            })
        };
        Self { audio_level: find(AUDIO_LEVEL), dependencies: find(DEPENDENCIES) }
    }
}

/// The offer with the layers of those m-lines kept as they are known.
///
/// `rtc` 0.21.1 forgets the SSRCs of simulcast layers at every offer and waits for packets that name their layer again, which browsers
/// have ceased to send by then: the picture would stop for good. It leaves alone what it takes for an m-line that sends nothing, by
/// any attribute that says so, and reads the direction from the first one.
pub(super) fn with_layers_kept(sdp: &str, is_layered: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(sdp.len() + 16);
    let mut keeps = false;
    let end = |out: &mut String, keeps: bool| out.push_str(if keeps { "a=recvonly\r\n" } else { "" });
    for line in sdp.lines() {
        if line.starts_with("m=") {
            end(&mut out, std::mem::take(&mut keeps));
        }
        keeps |= line.strip_prefix("a=mid:").is_some_and(&is_layered);
        out.push_str(line);
        out.push_str("\r\n");
    }
    end(&mut out, keeps);
    out
}

/// The description with those of its candidates that are wanted.
pub(super) fn with_candidates(sdp: &str, mut is_wanted: impl FnMut(&str) -> bool) -> String {
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        if line.strip_prefix("a=candidate:").is_none_or(&mut is_wanted) {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out
}

/// Whether the value of a `candidate` attribute (RFC 8839 section 5.1) names a UDP port at an IP address: mDNS names cannot be
/// resolved from here, and over TCP it is the browser that connects.
pub(super) fn is_usable_candidate(candidate: &str) -> bool {
    let mut words = candidate.split_ascii_whitespace().skip(2);
    let is_udp = words.next().is_some_and(|transport| transport.eq_ignore_ascii_case("udp"));
    let is_one = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_address = words.nth(1).and_then(|address| address.parse().ok()).is_some_and(is_one);
    is_udp && is_address && words.next().is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// The ICE user fragment and password of a description (RFC 8839 section 5.4).
pub(super) fn ice_credentials(sdp: &str) -> Option<(&str, &str)> {
    let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name));
    Some((value("a=ice-ufrag:")?, value("a=ice-pwd:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=mid:0\r\na=sendonly\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n\
        a=candidate:1 1 udp 2122260223 7c1e.local 5000 typ host\r\na=candidate:2 1 udp 2122260223 127.0.0.1 5000 typ host\r\n\
        a=candidate:3 1 tcp 2122260223 127.0.0.1 9 typ host tcptype active\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 102 96\r\na=mid:v\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:102 H264/90000\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n";

    #[test]
    fn m_lines_are_read() {
        let sections = sections(OFFER);
        assert_eq!(sections.len(), 3);
        assert!(sections[0].sends && !sections[0].receives && !sections[0].rejected);
        assert_eq!(sections[0].encodings, [Encoding { codec: Codec::Opus, payload_type: 111 }]);
        assert_eq!((sections[0].red, sections[1].red), (Some(63), None));
        assert_eq!(sections[1].mid, "v");
        assert!(sections[1].rejected && !sections[1].sends);
        assert_eq!(sections[1].encodings.iter().map(|e| e.codec).collect::<Vec<_>>(), [Codec::H264, Codec::Vp8]);
        assert_eq!(sections[2].kind, None);
        assert_eq!(ice_credentials(OFFER), Some(("abcd", "secret")));
    }

    #[test]
    fn opus_is_for_music() {
        let music = for_music(OFFER);
        assert!(music.contains(&format!("a=fmtp:111 {MUSIC}\r\n")));
        assert_eq!(music.matches("a=fmtp:111").count(), 1);
        assert_eq!(for_music(&music), music);
        assert_eq!(music.matches("a=ptime:10\r\n").count(), 1);
    }

    #[test]
    fn the_numbers_of_header_extensions_are_read() {
        let sdp = format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=extmap:3/recvonly urn:other\r\na=extmap:4/recvonly {AUDIO_LEVEL} vad=on\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 45\r\na=extmap:8 {DEPENDENCIES}\r\n"
        );
        assert_eq!(Extensions::of(&sdp), Extensions { audio_level: Some(4), dependencies: Some(8) });
        assert_eq!(Extensions::of(OFFER), Extensions::default());
    }

    #[test]
    fn only_m_lines_with_known_layers_are_left_alone() {
        let offer = "v=0\r\nm=audio 9 X 111\r\na=mid:0\r\na=sendonly\r\nm=video 9 X 96\r\na=mid:1\r\na=sendonly\r\n\
                     m=video 9 X 96\r\na=mid:2\r\na=sendonly\r\n";
        let kept = with_layers_kept(offer, |mid| mid == "1");
        assert_eq!(kept.replace("a=recvonly\r\n", ""), offer);
        assert!(kept.contains("a=mid:1\r\na=sendonly\r\na=recvonly\r\nm=video"), "{kept}");
        assert_eq!(with_layers_kept(offer, |mid| mid == "2"), format!("{offer}a=recvonly\r\n"));
    }

    #[test]
    fn only_reachable_candidates_stay() {
        let usable = with_candidates(OFFER, is_usable_candidate);
        assert_eq!(usable.matches("a=candidate").count(), 1);
        assert!(usable.contains("a=candidate:2 "));
        for nowhere in
            ["127.0.0.1 0", "0.0.0.0 5000", "255.255.255.255 5000", "224.0.0.1 5000", "ff02::1 5000", "127.0.0.1 65536"]
        {
            assert!(!is_usable_candidate(&format!("candidate:2 1 udp 2122260223 {nowhere} typ host")), "{nowhere}");
        }
    }
}
