//! What strangers may send: each trial makes bad input of a tape of bytes, feeds it to the gateway, and holds what must then be true.
//!
//! Here they run as property tests; `tests/fuzz` runs the same functions under libFuzzer. Not part of the product.

mod canvas;
mod house;
mod media;
mod mixer;
mod rtmp;
mod sdp;
mod signalling;
mod tape;

pub use canvas::canvas;
pub use house::house;
pub use media::depayload;
pub use media::rtcp;
pub use media::rtp;
pub use mixer::mixer;
pub use rtmp::amf;
pub use rtmp::rtmp;
pub use sdp::sdpfrag;
pub use signalling::signalling;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn tape() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..3000)
    }

    macro_rules! trials {
        ($($name:ident * $cases:literal)*) => {
            $(proptest! {
                #![proptest_config(ProptestConfig::with_cases($cases))]
                #[test]
                fn $name(tape in tape()) {
                    super::$name(&tape);
                }
            })*
        };
    }

    // So many cases that each trial takes about a second of a debug build.
    trials! {
        canvas * 512
        signalling * 256
        sdpfrag * 512
        rtp * 256
        rtcp * 512
        rtmp * 512
        amf * 512
        mixer * 512
        house * 48
        depayload * 12
    }
}
