//! ssh keys in OpenSSH's formats: made, and read again.

use sha2::{Digest as _, Sha256};
use ssh_encoding::Decode as _;
use ssh_encoding::base64::{Base64, Encoding as _};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Error, Fingerprint, LineEnding, PrivateKey, PublicKey};

/// The longest public key that is read, in bytes: RSA keys of 16384 bits have less than 4 KiB.
const MAX_PUBLIC: usize = 8 * 1024;

/// A key pair as OpenSSH writes it into files.
#[derive(Clone)]
pub struct KeyPair {
    /// The private key's file.
    pub private: String,
    /// The public key's line, without a newline.
    pub public: String,
}

impl KeyPair {
    /// A new Ed25519 pair with a comment, which is in both halves.
    ///
    /// # Errors
    /// When it cannot be written down, as with a comment that is not one line.
    pub fn new(comment: &str) -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the kernel gives random numbers");
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        key.set_comment(comment);
        Ok(Self {
            private: key.to_openssh(LineEnding::LF)?.to_string(),
            public: key.public_key().to_openssh()?,
        })
    }

    /// The pair whose private half this file has.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn read(private: &str) -> Result<Self, Error> {
        let key = PrivateKey::from_openssh(private)?;
        Ok(Self { private: private.to_owned(), public: key.public_key().to_openssh()? })
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A public key as two words, algorithm and key: nothing of what else stood there is left.
///
/// # Errors
/// When it is no public key.
pub fn plain_public(line: &str) -> Result<String, Error> {
    if line.len() > MAX_PUBLIC {
        return Err(Error::FormatEncoding);
    }
    let mut key = PublicKey::from_openssh(line)?;
    key.set_comment("");
    Ok(key.to_openssh()?.trim_end().to_owned())
}

/// A public key in its binary form, of whatever kind it is.
///
/// # Errors
/// When the text does not begin with a public key: algorithm and key.
pub fn public_blob(text: &str) -> Result<Vec<u8>, Error> {
    let mut words = text.split_ascii_whitespace();
    let (Some(algorithm), Some(key)) = (words.next(), words.next()) else {
        return Err(Error::FormatEncoding);
    };
    if key.len() > MAX_PUBLIC {
        return Err(Error::FormatEncoding);
    }
    let blob = Base64::decode_vec(key).map_err(|_| Error::FormatEncoding)?;
    match String::decode(&mut &blob[..]) {
        Ok(named) if named == algorithm => Ok(blob),
        Ok(_) | Err(_) => Err(Error::FormatEncoding),
    }
}

/// The fingerprint of a public key in its binary form, as OpenSSH writes it: `SHA256:…`.
#[must_use]
pub fn fingerprint(blob: &[u8]) -> String {
    Fingerprint::Sha256(Sha256::digest(blob).into()).to_string()
}

#[cfg(test)]
mod tests {
    use ssh_key::HashAlg;

    use super::*;

    #[test]
    fn a_pair_is_in_openssh_format_and_is_read_again() {
        let pair = KeyPair::new("web").expect("made");
        assert!(pair.private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert!(pair.public.starts_with("ssh-ed25519 ") && pair.public.ends_with(" web"));
        assert_eq!(KeyPair::read(&pair.private).expect("read").public, pair.public);
        assert_ne!(KeyPair::new("web").expect("made").public, pair.public);
        assert!(!format!("{pair:?}").contains("PRIVATE"));
        KeyPair::read("").expect_err("empty");
        KeyPair::read(&pair.private[..100]).expect_err("cut off");
    }

    #[test]
    fn a_public_key_is_two_words_whatever_stood_behind_it() {
        let pair = KeyPair::new("web %h\\ 'x'").expect("made");
        let plain = plain_public(&pair.public).expect("a key");
        assert_eq!(plain.split(' ').count(), 2);
        assert!(pair.public.starts_with(&format!("{plain} ")), "{plain}");
        assert_eq!(plain_public(&plain).expect("a key"), plain);
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello there", &"x".repeat(9000)] {
            plain_public(bad).expect_err("no key");
        }
        for key in [&pair.public, &plain] {
            let blob = public_blob(key).expect("a key");
            let own = PublicKey::from_openssh(&plain).expect("a key").fingerprint(HashAlg::Sha256);
            assert_eq!(fingerprint(&blob), own.to_string());
        }
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello there", "ssh-rsa x x"] {
            public_blob(bad).expect_err("no key");
        }
        let (_, key) = plain.split_once(' ').expect("two words");
        public_blob(&format!("ssh-rsa {key}")).expect_err("another algorithm");
        // A second line is refused, or part of the comment that goes.
        if let Ok(read) = plain_public(&format!("{plain} x\nssh-ed25519 AAAA")) {
            assert_eq!(read, plain);
        }
    }
}
