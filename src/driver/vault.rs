//! The vault: stream keys sealed with AES-256-GCM under the master key.
//!
//! A sealed key is `version (1) | key id (8) | nonce (12) | cipher text | tag (16)`, lengths in bytes. Version, key id and the
//! destination's id are authenticated with it. The key id says which master key opens it, so that a new master key can seal while
//! the old one still opens. The master key is in the environment or in a file, never in the database: a stolen database or backup
//! opens nothing.

use std::path::Path;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::driver::secret_file;
use crate::driver::secret_file::SecretFileError;
use crate::live::port::SealedKey;
use crate::live::port::Vault;
use crate::live::port::VaultError;
use crate::model::id::DestinationId;
use crate::model::secret::StreamKey;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;
/// Version, key id and nonce.
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// The master keys: the first one seals, all of them open. Debug shows key ids only.
#[derive(Debug)]
pub struct Keyring {
    newest: MasterKey,
    older: Vec<MasterKey>,
}

#[derive(Debug)]
struct MasterKey {
    id: [u8; KEY_ID_LEN],
    key: RandomizedNonceKey,
}

/// The master keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(
        "a master key is 32 random bytes in base64, as `openssl rand -base64 32` prints; several are parted by commas, the newest first"
    )]
    Malformed,
    #[error(transparent)]
    File(#[from] SecretFileError),
}

impl Keyring {
    /// The keys in `master_keys` (the value of `auth.master_keys`) if there is one, or else those of the file, which is made with
    /// a random key if it is missing.
    ///
    /// # Errors
    /// [`KeyringError`] when a key is malformed or the file can neither be read nor made.
    pub fn load(master_keys: Option<&str>, file: &Path) -> Result<Self, KeyringError> {
        match master_keys {
            Some(keys) => Self::from_base64(keys),
            None => Self::from_base64(&secret_file::load_or_create(file)?),
        }
    }

    /// Keys of 32 bytes in base64 parted by commas, the newest first.
    ///
    /// # Errors
    /// [`KeyringError::Malformed`].
    pub fn from_base64(keys: &str) -> Result<Self, KeyringError> {
        let mut keys = keys.split(',').map(|key| MasterKey::from_base64(key.trim()));
        // `split` yields at least one part, if an empty one.
        let newest = keys.next().ok_or(KeyringError::Malformed)??;
        Ok(Self { newest, older: keys.collect::<Result<_, _>>()? })
    }
}

impl MasterKey {
    fn from_base64(text: &str) -> Result<Self, KeyringError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyringError::Malformed)?);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyringError::Malformed)?;
        // A one-way function of the key: it tells keys apart and nothing about them.
        let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"jamcast master key id");
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest.as_ref()[..KEY_ID_LEN]);
        Ok(Self { id, key })
    }
}

fn authenticated(version: u8, key_id: [u8; KEY_ID_LEN], destination: DestinationId) -> Aad<Vec<u8>> {
    let mut bytes = vec![version];
    bytes.extend_from_slice(&key_id);
    bytes.extend_from_slice(destination.to_string().as_bytes());
    Aad::from(bytes)
}

impl Vault for Keyring {
    fn seal(&self, destination: DestinationId, key: &StreamKey) -> SealedKey {
        let MasterKey { id, key: master } = &self.newest;
        // Sealed in place with room for the tag from the start: growing would leave the plain key behind in freed memory.
        let mut text = Vec::with_capacity(key.expose().len() + AES_256_GCM.tag_len());
        text.extend_from_slice(key.expose().as_bytes());
        let nonce = master
            .seal_in_place_append_tag(authenticated(VERSION, *id, destination), &mut text)
            .expect("a stream key is far below AES-GCM's 64 GiB");
        let mut sealed = Vec::with_capacity(HEADER_LEN + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        SealedKey(sealed)
    }

    fn open(&self, destination: DestinationId, sealed: &SealedKey) -> Result<StreamKey, VaultError> {
        let (&version, rest) = sealed.0.split_first().ok_or(VaultError)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(VaultError)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(VaultError)?;
        if version != VERSION {
            return Err(VaultError);
        }
        let master =
            std::iter::once(&self.newest).chain(&self.older).find(|master| master.id == *id).ok_or(VaultError)?;
        let mut text = text.to_vec();
        let length = master
            .key
            .open_in_place(Nonce::from(nonce), authenticated(version, *id, destination), &mut text)
            .map_err(|_| VaultError)?
            .len();
        text.truncate(length);
        StreamKey::new(String::from_utf8(text).map_err(|_| VaultError)?).map_err(|_| VaultError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZCE=";
    const NEW: &str = "bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=";

    fn keyring(keys: &str) -> Keyring {
        Keyring::from_base64(keys).expect("well formed")
    }

    fn key(text: &str) -> StreamKey {
        StreamKey::new(text.to_owned()).expect("well formed")
    }

    #[test]
    fn a_sealed_key_opens_for_its_destination_only() {
        let vault = keyring(OLD);
        let [mine, other] = [DestinationId::generate(), DestinationId::generate()];
        let sealed = vault.seal(mine, &key("live_canary"));
        assert_eq!(vault.open(mine, &sealed).expect("opens"), key("live_canary"));
        assert!(vault.open(other, &sealed).is_err(), "moved to another row");
        assert_ne!(vault.seal(mine, &key("live_canary")), sealed, "each sealing has its own nonce");
        assert!(!sealed.0.windows(6).any(|window| window == b"canary"));
    }

    #[test]
    fn a_new_master_key_seals_and_the_old_one_still_opens() {
        let id = DestinationId::generate();
        let old = keyring(OLD).seal(id, &key("abc"));
        let both = keyring(&format!("{NEW}, {OLD}"));
        assert_eq!(both.open(id, &old).expect("opens"), key("abc"));
        let new = both.seal(id, &key("abc"));
        assert_eq!(keyring(NEW).open(id, &new).expect("opens"), key("abc"));
        assert!(keyring(OLD).open(id, &new).is_err());
        assert!(keyring(NEW).open(id, &old).is_err());
    }

    #[test]
    fn a_malformed_master_key_is_refused_without_being_shown() {
        for text in ["", "short", &NEW[4..], &format!("{NEW},"), &format!("{NEW}AAAA"), "c2hvcnQ="] {
            let error = Keyring::from_base64(text).expect_err("refused");
            assert!(error.to_string().contains("openssl rand"), "says how to make one");
        }
        assert!(!format!("{:?}", keyring(NEW)).contains("new new"));
    }

    #[test]
    fn without_a_key_in_the_environment_one_is_made_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("master.key");
        let id = DestinationId::generate();
        let sealed = Keyring::load(None, &file).expect("made").seal(id, &key("abc"));
        assert_eq!(Keyring::load(None, &file).expect("read").open(id, &sealed).expect("opens"), key("abc"));
        assert!(Keyring::load(Some(NEW), &file).expect("given").open(id, &sealed).is_err());
    }

    proptest! {
        #[test]
        fn every_key_comes_back(text in "[!-~]{1,300}") {
            let id = DestinationId::generate();
            let vault = keyring(NEW);
            prop_assert_eq!(vault.open(id, &vault.seal(id, &key(&text))).expect("opens"), key(&text));
        }

        #[test]
        fn no_changed_bit_and_no_cut_goes_unnoticed(at: proptest::sample::Index, bit in 0u8..8) {
            let id = DestinationId::generate();
            let vault = keyring(NEW);
            let sealed = vault.seal(id, &key("live_canary"));
            let at = at.index(sealed.0.len());
            let mut changed = sealed.clone();
            changed.0[at] ^= 1 << bit;
            prop_assert!(vault.open(id, &changed).is_err());
            prop_assert!(vault.open(id, &SealedKey(sealed.0[..at].to_vec())).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(keyring(NEW).open(DestinationId::generate(), &SealedKey(bytes)).is_err());
        }
    }
}
