//! The keys that encrypt secrets, and where they come from.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::SecretError;

/// Bytes of a key.
const LENGTH: usize = 32;

/// What SECRET_KEY is allowed to be, in words.
pub const ALLOWED: &str =
    "32 random bytes as 64 hexadecimal digits or in base64, like `openssl rand -base64 32` prints them";

/// A key as the settings give it. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; LENGTH]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl SecretKey {
    /// Understands hexadecimal digits and base64 (either alphabet, padded or not) of exactly 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() == LENGTH * 2 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let digits = |i: usize| text.get(i * 2..i * 2 + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
            let bytes: Option<Vec<u8>> = (0..LENGTH).map(digits).collect();
            return Self::of(bytes?);
        }
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        [STANDARD, URL_SAFE]
            .iter()
            .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
            .and_then(Self::of)
    }

    fn of(bytes: Vec<u8>) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn draw() -> Result<Self, SecretError> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SecretError::Random)?;
        Ok(Self(bytes))
    }

    fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// What ciphertexts name the key by: says nothing about it.
    fn id(&self) -> String {
        let digest = Sha256::new()
            .chain_update("windlass secret key\n")
            .chain_update(self.0)
            .finalize();
        digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
    }
}

/// A key ready for use.
pub(super) struct Key {
    pub id: String,
    pub cipher: LessSafeKey,
}

impl Key {
    fn new(key: &SecretKey) -> Result<Arc<Self>, SecretError> {
        let cipher = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| SecretError::Cipher)?;
        Ok(Arc::new(Self {
            id: key.id(),
            cipher: LessSafeKey::new(cipher),
        }))
    }
}

/// The keys of this process.
pub(super) struct Keys {
    state: Mutex<State>,
    /// Where a key is read from, and made when none is there and one is needed; none: keys come with the settings or not at
    /// all.
    file: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    /// What new secrets are encrypted with.
    current: Option<Arc<Key>>,
    /// What older ones may be encrypted with.
    old: Vec<Arc<Key>>,
    file_read: bool,
}

impl Keys {
    pub fn new(current: Option<&SecretKey>, old: &[SecretKey], file: Option<PathBuf>) -> Result<Self, SecretError> {
        let state = State {
            current: current.map(Key::new).transpose()?,
            old: old.iter().map(Key::new).collect::<Result<_, _>>()?,
            file_read: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            file,
        })
    }

    /// Whether new secrets can be encrypted, if need be with a key that is made then.
    pub fn can_seal(&self) -> bool {
        self.file.is_some() || self.lock().current.is_some()
    }

    /// The key for a new secret; the first need of one makes it, where that is allowed.
    pub fn to_seal(&self) -> Result<Arc<Key>, SecretError> {
        let mut state = self.lock();
        if let Some(key) = &state.current {
            return Ok(key.clone());
        }
        let file = self.file.as_deref().ok_or(SecretError::NoKey)?;
        let key = Key::new(&match read(file)? {
            Some(key) => key,
            None => make(file)?,
        })?;
        state.current = Some(key.clone());
        state.file_read = true;
        Ok(key)
    }

    /// The key of this id.
    pub fn to_open(&self, id: &str) -> Result<Arc<Key>, SecretError> {
        let mut state = self.lock();
        if let Some(file) = self.file.as_deref().filter(|_| !state.file_read)
            && state.find(id).is_none()
            && let Some(key) = read(file)?
        {
            // A key in the settings goes before it; what it has encrypted can still be read.
            let key = Key::new(&key)?;
            match state.current {
                Some(_) => state.old.push(key),
                None => state.current = Some(key),
            }
            state.file_read = true;
        }
        state.find(id).ok_or_else(|| SecretError::UnknownKey(id.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.current.iter().chain(&self.old).find(|key| key.id == id).cloned()
    }
}

fn broken(what: String) -> impl FnOnce(std::io::Error) -> SecretError {
    move |source| SecretError::File { what, source }
}

/// The key in a file; none: there is no such file.
fn read(file: &Path) -> Result<Option<SecretKey>, SecretError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(broken(format!("the key {} can't be read", file.display()))(e)),
    };
    let key = SecretKey::parse(&text).ok_or_else(|| SecretError::BadFile(file.to_path_buf()))?;
    Ok(Some(key))
}

/// Draws a key and writes it to a new file that only its owner may read. Of several processes that do so at once, one makes
/// the key and all use it.
fn make(file: &Path) -> Result<SecretKey, SecretError> {
    let key = SecretKey::draw()?;
    let name = format!("secret.key.{}", uuid::Uuid::new_v4().simple());
    let new = file.with_file_name(name);
    let failed = || broken(format!("the key {} can't be made", file.display()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut out| {
            writeln!(out, "{}", key.hex())?;
            out.sync_all()
        });
    // Unlike a rename, a link does not replace a key that is there.
    let linked = written.and_then(|()| std::fs::hard_link(&new, file));
    // Whether it became the key or not, its first name is not needed any more.
    let _ = std::fs::remove_file(&new);
    match linked {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return read(file)?.ok_or_else(|| failed()(e));
        }
        Err(e) => return Err(failed()(e)),
    }
    if let Some(folder) = file.parent() {
        std::fs::File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(failed())?;
    }
    tracing::warn!(
        file = %file.display(),
        "made the key that secret args are encrypted with; keep a copy of it elsewhere: without it they can't be read"
    );
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_read_in_hex_and_in_either_base64_and_shown_to_nobody() {
        let key = SecretKey::draw().expect("random");
        let engine = |alphabet, pad| {
            GeneralPurpose::new(alphabet, GeneralPurposeConfig::new().with_encode_padding(pad)).encode(key.0)
        };
        for text in [
            key.hex(),
            key.hex().to_uppercase(),
            format!(" {}\n", engine(&STANDARD, true)),
            engine(&STANDARD, false),
            engine(&URL_SAFE, true),
            engine(&URL_SAFE, false),
        ] {
            assert!(SecretKey::parse(&text) == Some(key.clone()), "{} bytes", text.len());
        }
        for bad in ["", "secret", &key.hex()[2..], &format!("{}00", key.hex())] {
            assert!(SecretKey::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{key:?}"), "(secret)");
        assert_eq!(key.id().len(), 8);
    }

    #[test]
    fn the_first_need_makes_a_file_that_only_its_owner_reads_and_the_next_process_finds() {
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join("secret.key");
        let keys = || Keys::new(None, &[], Some(file.clone())).expect("keys");
        let first = keys();
        assert!(matches!(first.to_open("00000000"), Err(SecretError::UnknownKey(_))));
        assert!(!file.exists(), "to read needs no new key");
        let id = first.to_seal().map(|key| key.id.clone()).expect("key");
        let mode = std::fs::metadata(&file).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("folder").count(),
            1,
            "nothing else stays"
        );
        assert_eq!(keys().to_open(&id).map(|key| key.id.clone()).expect("key"), id);
        assert_eq!(keys().to_seal().map(|key| key.id.clone()).expect("key"), id);
        // A key in the settings takes over, and the file's still reads.
        let set = SecretKey::draw().expect("random");
        let both = Keys::new(Some(&set), &[], Some(file.clone())).expect("keys");
        assert_eq!(both.to_seal().map(|key| key.id.clone()).expect("key"), set.id());
        assert_eq!(both.to_open(&id).map(|key| key.id.clone()).expect("key"), id);
        std::fs::write(&file, "not a key").expect("write");
        assert!(matches!(keys().to_seal(), Err(SecretError::BadFile(_))));
    }

    #[test]
    fn without_a_place_for_a_key_none_is_made() {
        let keys = Keys::new(None, &[], None).expect("keys");
        assert!(!keys.can_seal());
        assert!(matches!(keys.to_seal(), Err(SecretError::NoKey)));
    }
}
