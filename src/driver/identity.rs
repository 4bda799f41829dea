//! JSON Web Tokens: who calls the API and who may enter a room.
//!
//! Both kinds are HS256 (RFC 7518 section 3.2) under one secret and differ by audience. Claims: `iss` is `jamcast`, `sub` the user,
//! `aud` `jamcast-api` with `role` viewer, streamer or admin, or `jamcast-room` with `room`, `role` viewer, musician, host or admin
//! and `name`; `iat`, `nbf` and `exp` in seconds. Whoever knows the secret may mint tokens elsewhere.

use std::path::Path;
use std::sync::Once;

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde::Serialize;

use crate::driver::secret_file;
use crate::driver::secret_file::SecretFileError;
use crate::live::port::Identity;
use crate::live::port::TokenError;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::model::role::Principal;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;

const ISSUER: &str = "jamcast";
const API_AUDIENCE: &str = "jamcast-api";
const ROOM_AUDIENCE: &str = "jamcast-room";
/// Seconds that the clock of a machine minting tokens may differ from ours.
const LEEWAY_S: u64 = 5;
/// HS256 needs a key of at least its hash's size, RFC 7518 section 3.2.
const MIN_SECRET_BYTES: usize = 32;
/// Ours have under 700 bytes with the longest names; nothing larger is worth decoding.
const MAX_TOKEN_BYTES: usize = 4096;
/// The most characters of a name shown in a room.
const MAX_NAME_CHARS: usize = 64;

/// Checks tokens under the secret and the one before it, and mints them under the secret.
pub struct Tokens {
    minting: EncodingKey,
    checking: Vec<DecodingKey>,
    validation: Validation,
}

/// The secret that tokens are signed with cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("a token secret has at least {MIN_SECRET_BYTES} bytes; `openssl rand -base64 32` makes one")]
    TooShort,
    #[error(transparent)]
    File(#[from] SecretFileError),
}

impl Tokens {
    /// Tokens under `secret` (the value of `JWT_SECRET`) if there is one, or else under the file's, which is made with a random
    /// secret if it is missing. Tokens under `previous` (`JWT_SECRET_PREVIOUS`) are accepted too, so that a secret can be replaced
    /// while its tokens are in use.
    ///
    /// # Errors
    /// [`SecretError`] when a secret is too short or the file can neither be read nor made.
    pub fn load(secret: Option<&str>, previous: Option<&str>, file: &Path) -> Result<Self, SecretError> {
        match secret {
            Some(secret) => Self::new(secret, previous),
            None => Self::new(&secret_file::load_or_create(file)?, previous),
        }
    }

    /// # Errors
    /// [`SecretError::TooShort`] for a secret under 32 bytes.
    pub fn new(secret: &str, previous: Option<&str>) -> Result<Self, SecretError> {
        install_cryptography();
        let secrets: Vec<_> = std::iter::once(secret).chain(previous).map(str::as_bytes).collect();
        if secrets.iter().any(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(SecretError::TooShort);
        }
        // One algorithm, whatever the token's header asks for: no `none`, no public key taken for a secret (RFC 8725 section 3.1).
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[API_AUDIENCE, ROOM_AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        Ok(Self {
            minting: EncodingKey::from_secret(secret.as_bytes()),
            checking: secrets.into_iter().map(DecodingKey::from_secret).collect(),
            validation,
        })
    }

    fn check(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let mut checked = Err(TokenError::Invalid);
        for key in &self.checking {
            match jsonwebtoken::decode::<Claims>(token, key, &self.validation) {
                Ok(decoded) => {
                    checked = Ok(decoded.claims);
                    break;
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(token_error(error.kind())),
            }
        }
        let claims = checked?;
        // jsonwebtoken leaves `iat` alone; a token from the future is a clock or a forger gone wrong.
        if claims.iat > jsonwebtoken::get_current_timestamp().saturating_add(LEEWAY_S) {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }

    fn mint(&self, user: &UserId, ttl_s: u64, grant: Grant) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let exp = now.saturating_add(ttl_s);
        let claims = Claims { iss: ISSUER.to_owned(), sub: user.clone(), iat: now, nbf: now, exp, grant };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.minting)
            .expect("claims are plain strings and numbers, and HMAC takes every key")
    }
}

impl Identity for Tokens {
    fn principal(&self, token: &str) -> Result<Principal, TokenError> {
        let Claims { sub: user, grant, exp: expires_at_s, .. } = self.check(token)?;
        match grant {
            Grant::Api { role } => Ok(Principal { user, role, room: None, expires_at_s }),
            Grant::Room { room, role, .. } => {
                let role = match role {
                    RoomRole::Viewer | RoomRole::Musician => ApiRole::Viewer,
                    RoomRole::Host | RoomRole::Admin => ApiRole::Streamer,
                };
                Ok(Principal { user, role, room: Some(room), expires_at_s })
            }
            Grant::Other => Err(TokenError::WrongAudience),
        }
    }

    fn room_grant(&self, token: &str) -> Result<RoomGrant, TokenError> {
        let Claims { sub: user, grant, .. } = self.check(token)?;
        match grant {
            Grant::Room { room, role, name } => Ok(RoomGrant { room, user, role, name: name.0 }),
            Grant::Api { .. } | Grant::Other => Err(TokenError::WrongAudience),
        }
    }

    fn mint_api(&self, user: &UserId, role: ApiRole, ttl_s: u64) -> String {
        self.mint(user, ttl_s, Grant::Api { role })
    }

    fn mint_room(&self, grant: &RoomGrant, ttl_s: u64) -> String {
        let RoomGrant { room, user, role, name } = grant.clone();
        self.mint(&user, ttl_s, Grant::Room { room, role, name: DisplayName(name) })
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(flatten)]
    grant: Grant,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "aud")]
enum Grant {
    #[serde(rename = "jamcast-api")]
    Api { role: ApiRole },
    #[serde(rename = "jamcast-room")]
    Room { room: RoomId, role: RoomRole, name: DisplayName },
    /// Read so that the audience can be told to be the wrong one.
    #[serde(other)]
    Other,
}

/// A name as [`RoomGrant`] promises it.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String")]
struct DisplayName(String);

impl TryFrom<String> for DisplayName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let well_formed = (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if well_formed { Ok(Self(text)) } else { Err("a name has 1 to 64 characters, none of them control characters") }
    }
}

fn token_error(kind: &ErrorKind) -> TokenError {
    if matches!(kind, ErrorKind::ExpiredSignature) {
        TokenError::Expired
    } else if matches!(kind, ErrorKind::InvalidAudience) {
        TokenError::WrongAudience
    } else {
        TokenError::Invalid
    }
}

/// Names the cryptography once for the process. Without this, another crate in the tree that switches on a second provider would
/// turn the first token into a panic.
fn install_cryptography() {
    static INSTALLED: Once = Once::new();
    // An error says that somebody was first, and then there is one, which is all that matters.
    INSTALLED.call_once(|| {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of at least thirty-two bytes";
    const OTHER: &str = "quite another secret, long enough too";

    fn tokens() -> Tokens {
        Tokens::new(SECRET, None).expect("long enough")
    }

    fn user(name: &str) -> UserId {
        name.parse().expect("well formed")
    }

    fn grant(role: RoomRole) -> RoomGrant {
        RoomGrant { room: "jam".parse().expect("a slug"), user: user("ann"), role, name: "Ann 🎸".into() }
    }

    /// The claims of a good API token, changed.
    fn signed(algorithm: Algorithm, change: impl FnOnce(&mut Value)) -> String {
        install_cryptography();
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = json!({
            "iss": "jamcast", "aud": "jamcast-api", "sub": "ann", "role": "streamer",
            "iat": now, "nbf": now, "exp": now + 60,
        });
        change(&mut claims);
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
            .expect("encodes")
    }

    fn refused(change: impl FnOnce(&mut Value)) -> TokenError {
        tokens().principal(&signed(Algorithm::HS256, change)).expect_err("refused")
    }

    #[test]
    fn an_api_token_names_its_user_and_role() {
        let token = tokens().mint_api(&user("ann"), ApiRole::Admin, 60);
        let principal = tokens().principal(&token).expect("accepted");
        assert_eq!((principal.user, principal.role, principal.room), (user("ann"), ApiRole::Admin, None));
        assert!((55..=65).contains(&(principal.expires_at_s - jsonwebtoken::get_current_timestamp())));
        assert_eq!(tokens().room_grant(&token), Err(TokenError::WrongAudience));
    }

    #[test]
    fn a_room_token_opens_its_room_and_calls_the_api_for_it() {
        let table = [
            (RoomRole::Viewer, ApiRole::Viewer),
            (RoomRole::Musician, ApiRole::Viewer),
            (RoomRole::Host, ApiRole::Streamer),
            (RoomRole::Admin, ApiRole::Streamer),
        ];
        for (room_role, api_role) in table {
            let token = tokens().mint_room(&grant(room_role), 60);
            assert_eq!(tokens().room_grant(&token), Ok(grant(room_role)));
            let principal = tokens().principal(&token).expect("accepted");
            assert_eq!((principal.role, principal.room), (api_role, Some(grant(room_role).room)));
        }
    }

    #[test]
    fn a_token_made_elsewhere_with_the_secret_is_accepted() {
        assert_eq!(tokens().principal(&signed(Algorithm::HS256, |_| ())).expect("accepted").role, ApiRole::Streamer);
    }

    #[test]
    fn claims_that_do_not_hold_are_refused() {
        let now = jsonwebtoken::get_current_timestamp();
        assert_eq!(refused(|c| c["exp"] = json!(now - 60)), TokenError::Expired);
        assert_eq!(refused(|c| c["nbf"] = json!(now + 60)), TokenError::Invalid);
        assert_eq!(refused(|c| c["iat"] = json!(now + 60)), TokenError::Invalid);
        assert_eq!(refused(|c| c["aud"] = json!("elsewhere")), TokenError::WrongAudience);
        assert_eq!(refused(|c| c["iss"] = json!("elsewhere")), TokenError::Invalid);
        assert_eq!(refused(|c| c["role"] = json!("owner")), TokenError::Invalid);
        assert_eq!(refused(|c| c["sub"] = json!("")), TokenError::Invalid);
        assert_eq!(refused(|c| c["sub"] = json!("x".repeat(129))), TokenError::Invalid);
        for claim in ["exp", "nbf", "iat", "iss", "aud", "sub", "role"] {
            assert_eq!(refused(|c| drop(c.as_object_mut().expect("an object").remove(claim))), TokenError::Invalid);
        }
        // A clock a little ahead or behind is forgiven.
        let skewed = signed(Algorithm::HS256, |c| {
            c["nbf"] = json!(now + 3);
            c["iat"] = json!(now + 3);
        });
        assert!(tokens().principal(&skewed).is_ok());
    }

    #[test]
    fn a_room_token_needs_a_room_and_a_name() {
        let room = |c: &mut Value| {
            c["aud"] = json!("jamcast-room");
            c["role"] = json!("host");
            c["room"] = json!("jam");
            c["name"] = json!("Ann");
        };
        assert!(tokens().room_grant(&signed(Algorithm::HS256, room)).is_ok());
        for (claim, value) in [("room", json!("../x")), ("name", json!("")), ("name", json!("x".repeat(65)))] {
            let token = signed(Algorithm::HS256, |c| {
                room(c);
                c[claim] = value;
            });
            assert_eq!(tokens().room_grant(&token), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn only_hs256_under_our_secret_counts() {
        let forged = Tokens::new(OTHER, None).expect("long enough").mint_api(&user("ann"), ApiRole::Admin, 60);
        assert_eq!(tokens().principal(&forged), Err(TokenError::Invalid));
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(tokens().principal(&signed(algorithm, |_| ())), Err(TokenError::Invalid));
        }
        let good = signed(Algorithm::HS256, |_| ());
        let payload = good.split('.').nth(1).expect("three parts");
        for header in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"RS256","typ":"JWT"}"#, r#"{"alg":"None"}"#, "{}"] {
            let header = URL_SAFE_NO_PAD.encode(header);
            for signature in ["", good.rsplit('.').next().expect("three parts")] {
                let token = format!("{header}.{payload}.{signature}");
                assert_eq!(tokens().principal(&token), Err(TokenError::Invalid));
            }
        }
    }

    #[test]
    fn the_previous_secret_still_opens_but_no_longer_mints() {
        let old = Tokens::new(OTHER, None).expect("long enough");
        let both = Tokens::new(SECRET, Some(OTHER)).expect("long enough");
        assert!(both.principal(&old.mint_api(&user("ann"), ApiRole::Viewer, 60)).is_ok());
        let fresh = both.mint_api(&user("ann"), ApiRole::Viewer, 60);
        assert!(tokens().principal(&fresh).is_ok());
        assert!(old.principal(&fresh).is_err());
    }

    #[test]
    fn weak_secrets_are_refused_and_a_missing_one_is_made() {
        assert!(Tokens::new("short", None).is_err());
        assert!(Tokens::new(SECRET, Some("short")).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("jwt.secret");
        let token = Tokens::load(None, None, &file).expect("made").mint_api(&user("ann"), ApiRole::Viewer, 60);
        assert!(Tokens::load(None, None, &file).expect("read").principal(&token).is_ok());
        assert!(Tokens::load(Some(SECRET), None, &file).expect("given").principal(&token).is_err());
    }

    #[test]
    fn our_longest_token_is_accepted_and_a_longer_one_is_not_decoded() {
        let longest = RoomGrant {
            room: "r".repeat(64).parse().expect("a slug"),
            user: user(&"u".repeat(128)),
            role: RoomRole::Musician,
            name: "🎸".repeat(64),
        };
        assert_eq!(tokens().room_grant(&tokens().mint_room(&longest, 60)), Ok(longest));
        let huge = signed(Algorithm::HS256, |c| c["padding"] = json!("x".repeat(MAX_TOKEN_BYTES)));
        assert_eq!(tokens().principal(&huge), Err(TokenError::Invalid));
    }

    proptest! {
        #[test]
        fn no_changed_character_goes_unnoticed(at: proptest::sample::Index, with in "[A-Za-z0-9_.-]") {
            let good = signed(Algorithm::HS256, |_| ());
            let at = at.index(good.len());
            let mut changed = good.clone();
            changed.replace_range(at..=at, &with);
            // The last character of a part carries unused bits, which the decoder refuses or the signature covers.
            prop_assume!(changed != good);
            prop_assert!(tokens().principal(&changed).is_err());
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}", dots in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
            prop_assert!(tokens().principal(&text).is_err());
            prop_assert!(tokens().room_grant(&dots).is_err());
        }
    }
}
