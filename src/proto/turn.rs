//! Credentials for a TURN server that shares a secret with the gateway: coturn's `use-auth-secret`
//! (draft-uberti-behave-turn-rest-00 section 2.2). The server knows none of its users.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::proto::signal::Hidden;

/// A user name and its password, good until `expires`, seconds since 1970.
pub fn credentials(secret: &str, user: &str, expires: u64) -> (String, Hidden) {
    let username = format!("{expires}:{user}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let tag = hmac::sign(&key, username.as_bytes());
    (username, Hidden::new(STANDARD.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_coturn_computes() {
        let (username, password) = credentials("north star", "par_0190a3f0000070008000000000000000", 1_800_086_400);
        assert_eq!(username, "1800086400:par_0190a3f0000070008000000000000000");
        // Python: base64(hmac(b"north star", username, sha1)).
        assert_eq!(password.expose(), "6xzUNuq8n8uOOybkhCXxLufmFLs=");
    }
}
