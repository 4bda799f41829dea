//! SDP offers, answers and ICE fragments as WHIP and WHEP exchange them (RFC 9725, RFC 8840), without a socket.
