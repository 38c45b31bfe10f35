//! Signatures of plugins, in minisign's format (Ed25519).
//!
//! What is signed is the component, with the digest of the manifest in the signature's trusted comment,
//! which minisign signs too: `manifest:SHA256`. So one signature holds for both, and a manifest of one version
//! cannot be put beside the component of another. An author writes:
//!
//! ```text
//! minisign -Sm plugin.wasm -t "manifest:$(sha256sum plugin.toml | cut -c-64)"
//! ```

use minisign_verify::{Error, PublicKey, Signature};

use super::error::HookError;
use crate::id::Digest;
use crate::wire::rpc::HookSigner;

/// How the manifest's digest is written in the trusted comment.
const MANIFEST: &str = "manifest:";

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signed {
    /// There is none.
    No,
    /// One of the signers has signed both files.
    By(HookSigner),
    /// It is of a key that nobody has told us of: it says nothing.
    ByUnknown,
}

impl Signed {
    /// The signer, when there is one.
    pub(super) fn signer(&self) -> Option<&HookSigner> {
        match self {
            Self::By(signer) => Some(signer),
            Self::No | Self::ByUnknown => None,
        }
    }
}

/// Checks that the keys of signers are keys.
pub(super) fn check_signers(signers: &[HookSigner]) -> Result<(), HookError> {
    signers.iter().try_for_each(|signer| match PublicKey::from_base64(&signer.key) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(HookError::Signer { name: signer.name.clone(), reason: error.to_string() })
        }
    })
}

/// Verifies a signature. The error is what is wrong with it, as a part of a sentence.
pub(super) fn verify(
    text: &str,
    component: &[u8],
    manifest: &Digest,
    signers: &[HookSigner],
) -> Result<Signed, String> {
    let signature =
        Signature::decode(text).map_err(|_| "is no signature of minisign".to_owned())?;
    for signer in signers {
        let key = PublicKey::from_base64(&signer.key);
        let key = key.map_err(|error| {
            format!("cannot be verified by the key of `{}`: {error}", signer.name)
        })?;
        match key.verify(component, &signature, false) {
            Ok(()) => {
                return covers(signature.trusted_comment(), manifest)
                    .map(|()| Signed::By(signer.clone()));
            }
            Err(Error::UnexpectedKeyId) => {}
            Err(Error::UnsupportedLegacyMode) => {
                return Err(
                    "was made in minisign's legacy mode: sign again without `-l`".to_owned()
                );
            }
            Err(
                error @ (Error::InvalidEncoding
                | Error::InvalidSignature
                | Error::IoError(_)
                | Error::UnexpectedAlgorithm
                | Error::UnsupportedAlgorithm),
            ) => {
                let why = error.to_string().to_lowercase();
                return Err(format!(
                    "is not `{}`'s signature of this component: {why}",
                    signer.name
                ));
            }
        }
    }
    Ok(Signed::ByUnknown)
}

/// Whether a trusted comment names the manifest.
fn covers(comment: &str, manifest: &Digest) -> Result<(), String> {
    let mut named = comment.split_whitespace().filter_map(|word| word.strip_prefix(MANIFEST));
    match named.next() {
        Some(digest) if digest == manifest.as_str() => Ok(()),
        Some(_) => Err("was made with another `plugin.toml`".to_owned()),
        None => Err(format!(
            "does not cover `plugin.toml`: its trusted comment must have `{MANIFEST}` and that file's sha256"
        )),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use minisign::KeyPair;

    use super::*;

    /// Somebody who signs.
    pub(in crate::hooks) struct Author(KeyPair);

    impl Author {
        pub(in crate::hooks) fn new() -> Self {
            Self(KeyPair::generate_unencrypted_keypair().expect("a key pair"))
        }

        pub(in crate::hooks) fn named(&self, name: &str) -> HookSigner {
            HookSigner { name: name.to_owned(), key: self.0.pk.to_base64() }
        }

        /// The signature of a component with this trusted comment.
        pub(in crate::hooks) fn sign(&self, component: &[u8], comment: &str) -> String {
            let secret = &self.0.sk;
            let signed = minisign::sign(None, secret, Cursor::new(component), Some(comment), None);
            signed.expect("signed").into_string()
        }

        /// The signature of a plugin.
        pub(in crate::hooks) fn sign_both(&self, component: &[u8], manifest: &[u8]) -> String {
            self.sign(component, &format!("{MANIFEST}{}", Digest::of(manifest)))
        }
    }

    #[test]
    fn a_signature_holds_for_both_files_and_for_no_others() {
        let (author, other) = (Author::new(), Author::new());
        let signers = [other.named("other"), author.named("author")];
        let (component, manifest) = (b"component".as_slice(), Digest::of(b"manifest"));
        let good = author.sign_both(component, b"manifest");
        let verified = verify(&good, component, &manifest, &signers).expect("it is good");
        assert_eq!(verified, Signed::By(author.named("author")));
        assert_eq!(verify(&good, component, &manifest, &[]), Ok(Signed::ByUnknown));
        assert_eq!(verify(&good, component, &manifest, &signers[..1]), Ok(Signed::ByUnknown));
        for (text, component, manifest, expected) in [
            (good.as_str(), b"another".as_slice(), &manifest, "not `author`'s signature"),
            (&good, component, &Digest::of(b"another"), "another `plugin.toml`"),
            (
                &author.sign(component, "hello"),
                component,
                &manifest,
                "does not cover `plugin.toml`",
            ),
            ("", component, &manifest, "is no signature"),
            (
                "untrusted comment: x\nAAAA\ntrusted comment: y\nAAAA\n",
                component,
                &manifest,
                "is no signature",
            ),
        ] {
            let error = verify(text, component, manifest, &signers).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        // The comment is signed, too.
        let forged =
            author.sign(component, "hello").replace("hello", &format!("{MANIFEST}{manifest}"));
        verify(&forged, component, &manifest, &signers).expect_err("forged");
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        check_signers(&[Author::new().named("good")]).expect("good");
        let bad = HookSigner { name: "me".to_owned(), key: "RWQ".to_owned() };
        assert!(check_signers(&[bad]).expect_err("bad").to_string().contains("`me`"));
    }
}
