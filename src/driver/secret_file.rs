//! Secrets that this program makes for itself on its first start: 32 random bytes in a file that only its user may read.

use std::fs;
use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A secret file can neither be read nor made.
#[derive(Debug, thiserror::Error)]
#[error(
    "the secret file {path} cannot be read or created; check that its folder exists and that both belong to this user"
)]
pub struct SecretFileError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// The text of the file, without the spaces around it. If the file is missing it is made with 32 random bytes in base64, readable
/// by this user only; of several processes that start together one makes it and all read the same.
///
/// # Errors
/// [`SecretFileError`] names the file.
pub fn load_or_create(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let error = |source| SecretFileError { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => create(path).map_err(error)?,
        Err(other) => return Err(error(other)),
        Ok(text) => return Ok(trimmed(text)),
    }
    fs::read_to_string(path).map(trimmed).map_err(error)
}

fn trimmed(text: String) -> Zeroizing<String> {
    let text = Zeroizing::new(text);
    Zeroizing::new(text.trim().to_owned())
}

/// Writes beside the file and links it into place, so that nobody ever reads half a secret and an existing file is never replaced.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| io::Error::other("no random bytes from the system"))?;
    let text = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let linked =
        writeln!(file, "{}", text.as_str()).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    match linked {
        Err(there_already) if there_already.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_this_user_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data/secret");
        let first = load_or_create(&path).expect("made");
        assert_eq!(STANDARD.decode(first.as_str()).expect("base64").len(), 32);
        assert_eq!(*load_or_create(&path).expect("read"), *first);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("data")).expect("a folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn processes_that_start_together_agree() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_create(&path).expect("made"))).collect();
            makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = load_or_create(Path::new("/proc/none/secret")).expect_err("nothing can be made there");
        assert!(error.to_string().contains("/proc/none/secret"));
    }
}
