//! Session descriptions, candidates and ICE fragments: a browser's, with lines missing, doubled, swapped, lying or made up.

use crate::hostile::tape::Tape;
use crate::proto::whip::Fragment;
use crate::proto::whip::Negotiation;
use crate::proto::whip::Restarts;
use crate::proto::whip::Step;
use crate::proto::whip::offered_tracks;

/// What a browser offers to send: Opus and VP8, with a data channel.
pub(super) const BROWSER: &[&str] = &[
    "v=0",
    "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1 2",
    "a=extmap-allow-mixed",
    "a=msid-semantic: WMS stream",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
    "c=IN IP4 0.0.0.0",
    "a=rtcp:9 IN IP4 0.0.0.0",
    "a=ice-ufrag:EsAw",
    "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
    "a=ice-options:trickle",
    "a=fingerprint:sha-256 \
     D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38",
    "a=setup:actpass",
    "a=mid:0",
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=sendonly",
    "a=msid:stream audio",
    "a=rtcp-mux",
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=rtpmap:63 red/48000/2",
    "a=fmtp:63 111/111",
    "a=ssrc:1001 cname:anna",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 102",
    "c=IN IP4 0.0.0.0",
    "a=ice-ufrag:EsAw",
    "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
    "a=fingerprint:sha-256 \
     D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38",
    "a=setup:actpass",
    "a=mid:1",
    "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "a=sendrecv",
    "a=rtcp-mux",
    "a=rtcp-rsize",
    "a=rtpmap:96 VP8/90000",
    "a=rtcp-fb:96 nack pli",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
    "a=rtpmap:98 VP9/90000",
    "a=fmtp:98 profile-id=0",
    "a=rtpmap:102 H264/90000",
    "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "a=ssrc-group:FID 2001 2002",
    "a=ssrc:2001 cname:anna",
    "a=ssrc:2002 cname:anna",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:2",
    "a=sctp-port:5000",
    "a=max-message-size:262144",
];

/// Lines that ask for trouble.
const ODD: &[&str] = &[
    "",
    "m=",
    "m=audio",
    "m=audio 0 UDP/TLS/RTP/SAVPF 111",
    "m=video 99999999999 x 300",
    "m=video 9/65535 UDP/TLS/RTP/SAVPF 96",
    "a=",
    "a=:",
    "a=mid:",
    "a=mid:0",
    "a=mid:\u{0}",
    "a=inactive",
    "a=recvonly",
    "a=bundle-only",
    "a=group:BUNDLE",
    "a=group:BUNDLE 7 7 7",
    "a=group:FID 0 0",
    "a=rtpmap:",
    "a=rtpmap:111",
    "a=rtpmap:111 opus",
    "a=rtpmap:111 opus/4294967296/99999",
    "a=rtpmap:300 VP8/0",
    "a=rtpmap:-1 H264/-1",
    "a=fmtp:111",
    "a=fmtp:97 apt=97",
    "a=fmtp:102 profile-level-id=zz",
    "a=fmtp:102 profile-level-id=é1e01f",
    "a=fmtp:102 profile-level-id=42",
    "a=rtcp-fb:",
    "a=rtcp-fb:*",
    "a=extmap:0 x",
    "a=extmap:15 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:65536 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:4/sendonly",
    "a=ssrc:",
    "a=ssrc:4294967296 cname:x",
    "a=ssrc:0",
    "a=ssrc-group:FID",
    "a=ssrc-group:FID 1",
    "a=ssrc-group:SIM 1 2 3 4 5 6 7 8 9",
    "a=rid:",
    "a=rid:h send",
    "a=rid:h send pt=;max-width=x",
    "a=simulcast:",
    "a=simulcast:send h;m;l recv",
    "a=simulcast:send ;;;,~",
    "a=setup:passive",
    "a=setup:active",
    "a=setup:holdconn",
    "a=fingerprint:",
    "a=fingerprint:sha-256",
    "a=fingerprint:md2 00",
    "a=fingerprint:sha-256 é:zz",
    "a=ice-ufrag:",
    "a=ice-ufrag:fresh",
    "a=ice-pwd:vAljGYBcXKMMnXzwnnXjkxqU",
    "a=ice-pwd:x",
    "a=ice-lite",
    "a=ice-options:",
    "a=end-of-candidates",
    "a=candidate:",
    "a=sctp-port:",
    "a=sctp-port:99999",
    "a=max-message-size:0",
    "a=max-message-size:99999999999999999999",
    "a=msid:",
    "a=msid:- -",
    "c=IN IP6 ::",
    "c=",
    "b=AS:99999999999999999999",
    "o=- 18446744073709551615 18446744073709551615 IN IP4 0",
    "o=-",
    "t=",
    "r=7d 1h 0 25h",
    "z=2882844526 -1h",
    "k=prompt",
    "v=0",
    "v=1",
    "é=0",
];

/// A description made of a browser's.
pub(super) fn offer(tape: &mut Tape<'_>) -> String {
    let mut text = String::new();
    for line in BROWSER {
        match tape.byte() {
            0..=219 => text.push_str(line),
            220..=225 => continue,
            226..=231 => text.push_str(&[*line, "\r\n"].repeat(2 + tape.below(80)).concat()),
            232..=243 => text.push_str(tape.pick(ODD)),
            244..=247 => text.push_str(&candidate_line(tape)),
            248..=251 => {
                let cut = (0..=tape.below(line.len() + 1)).rev().find(|at| line.is_char_boundary(*at));
                text.push_str(&line[..cut.unwrap_or_default()]);
            }
            252..=255 => {
                let (name, _) = line.split_once(':').unwrap_or((line, ""));
                text.push_str(name);
                text.push(':');
                text.push_str(&tape.text(40));
            }
        }
        text.push_str("\r\n");
    }
    for _ in 0..tape.below(8) {
        text.push_str(tape.pick(ODD));
        text.push_str(tape.pick(&["\r\n", "\n", "\r", "\r\r\n"]));
    }
    text
}

/// The value of a candidate attribute.
pub(super) fn candidate(tape: &mut Tape<'_>) -> String {
    let mut fields =
        ["1", "1", "udp", "2122260223", "127.0.0.1", "5000", "typ", "host"].map(|right| tape.mostly(right));
    if tape.flip() {
        fields[2] = tape.pick(&["UDP", "tcp", "", "ssltcp"]).to_owned();
    }
    if tape.flip() {
        let odd = ["::1", "::ffff:127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "fe80::1%lo", "x.local", ""];
        fields[4] = tape.pick(&odd).to_owned();
    }
    if tape.flip() {
        fields[7] = tape.pick(&["srflx", "prflx", "relay", "x", ""]).to_owned();
    }
    let tail = [
        "",
        " raddr 1.2.3.4 rport 9",
        " raddr",
        " rport -1",
        " tcptype active",
        " ufrag x generation",
        " generation 0",
    ];
    format!("{}{}", fields.join(" "), tape.pick(&tail))
}

fn candidate_line(tape: &mut Tape<'_>) -> String {
    format!("a=candidate:{}", candidate(tape))
}

fn fragment(tape: &mut Tape<'_>) -> String {
    let mut text = String::new();
    for _ in 0..tape.below(100) {
        let line = match tape.below(8) {
            0 => "a=ice-ufrag:EsAw".to_owned(),
            1 => "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1".to_owned(),
            2 => tape.pick(ODD).to_owned(),
            3 => tape.text(600),
            _ => candidate_line(tape),
        };
        text.push_str(&line);
        text.push_str("\r\n");
    }
    text
}

/// Offers and patches as WHIP and WHEP take them: whatever is accepted stays within what it was made of.
///
/// # Panics
/// It does not.
pub fn sdpfrag(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let text = if tape.flip() { offer(&mut tape) } else { tape.text(2000) };
    if let Ok(tracks) = offered_tracks(&text) {
        assert!(tracks.len() <= 16 && tracks.iter().all(|track| !track.mid.is_empty()));
    }
    let Ok(mut negotiation) = Negotiation::new(text.clone(), Restarts::Supported) else { return };
    while !tape.is_over() {
        let patch = if tape.flip() { fragment(&mut tape) } else { tape.text(400) };
        let Ok(patch) = Fragment::parse(&patch) else { continue };
        let etag = negotiation.etag();
        let if_match = [None, Some("*"), Some(etag.as_str()), Some("\"9\", W/x,")][tape.below(4)];
        if let Ok(Step::Restart { offer, candidates }) = negotiation.patch(if_match, &patch) {
            assert!(candidates.len() <= 64 && offer.len() <= 2 * text.len() + 600, "an offer that grows");
            let answer = if tape.flip() { BROWSER.join("\r\n") } else { self::offer(&mut tape) };
            if negotiation.restarted(offer, &answer).is_ok() {
                assert_ne!(negotiation.etag(), etag);
            }
        }
    }
}
