//! The mutual proof: host and agent show that they hold the key of this VM and this boot.
//!
//! AF_VSOCK has no permissions of its own: any local user can connect to a guest, and a context id
//! that is used again can reach the wrong VM. So the host makes a key for every boot, puts it into the
//! initramfs, and both sides answer the other's nonce with
//! HMAC-SHA256(key, role ‖ host nonce ‖ agent nonce). The roles keep an answer from being reflected.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::hex;

/// Bytes of a key and of a nonce.
pub const KEY_BYTES: usize = 32;

/// Which side makes the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The host.
    Host,
    /// The agent in the guest.
    Agent,
}

/// The key of one boot of one VM.
#[derive(Clone, PartialEq, Eq)]
pub struct BootKey([u8; KEY_BYTES]);

impl BootKey {
    /// A fresh key.
    ///
    /// # Panics
    /// When the kernel has no random numbers to give, which does not happen after boot.
    #[must_use]
    pub fn random() -> Self {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).expect("the kernel gives random numbers");
        Self(key)
    }

    /// The key from its hexadecimal text, or `None` where that is not one.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let key = crate::id::from_hex(text.trim())?.try_into().ok()?;
        Some(Self(key))
    }

    /// The key as hexadecimal text, as it lies in the initramfs and in the daemon's database.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The proof of `role` for this pair of nonces, hexadecimal.
    #[must_use]
    pub fn prove(&self, role: Role, host_nonce: &str, agent_nonce: &str) -> String {
        hex(&self.mac(role, host_nonce, agent_nonce).finalize().into_bytes())
    }

    /// Whether `proof` is that of `role`; compared in constant time.
    #[must_use]
    pub fn verify(&self, role: Role, host_nonce: &str, agent_nonce: &str, proof: &str) -> bool {
        let Some(Self(proof)) = Self::from_hex(proof) else {
            return false;
        };
        self.mac(role, host_nonce, agent_nonce).verify_slice(&proof).is_ok()
    }

    fn mac(&self, role: Role, host_nonce: &str, agent_nonce: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(match role {
            Role::Host => b"cove host 1\0",
            Role::Agent => b"cove agent 1\0",
        });
        // Lengths first, so that no two pairs of nonces are the same text.
        mac.update(&(host_nonce.len() as u64).to_be_bytes());
        mac.update(host_nonce.as_bytes());
        mac.update(agent_nonce.as_bytes());
        mac
    }
}

impl std::fmt::Debug for BootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BootKey(…)")
    }
}

/// A fresh nonce, hexadecimal.
#[must_use]
pub fn nonce() -> String {
    BootKey::random().to_hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_key_role_and_nonces_only() {
        let key = BootKey::random();
        let (host, agent) = (nonce(), nonce());
        let proof = key.prove(Role::Agent, &host, &agent);
        assert!(key.verify(Role::Agent, &host, &agent, &proof));
        assert!(!key.verify(Role::Host, &host, &agent, &proof), "a reflected proof");
        assert!(!key.verify(Role::Agent, &agent, &host, &proof), "nonces exchanged");
        assert!(!key.verify(Role::Agent, &host, &nonce(), &proof), "a replayed proof");
        assert!(!BootKey::random().verify(Role::Agent, &host, &agent, &proof), "another key");
        assert!(!key.verify(Role::Agent, &host, &agent, ""), "no proof");
    }

    #[test]
    fn keys_survive_their_text_and_never_show() {
        let key = BootKey::random();
        assert_eq!(BootKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), "BootKey(…)");
        assert_eq!(BootKey::from_hex("zz"), None);
    }
}
