//! The messages of an ssh agent, as far as they must be looked at: numbers and fields are those of
//! draft-miller-ssh-agent and, for `session-bind`, of OpenSSH's `PROTOCOL.agent`. A message that is passed on is
//! passed on as it came.

use bytes::Bytes;
use ssh_encoding::{Decode as _, Encode as _, Error, Reader};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::keys::Key;

/// The longest message, in bytes: OpenSSH's own bound.
const MAX_MESSAGE: usize = 256 * 1024;

/// The most keys that an agent is believed to have.
const MAX_KEYS: u32 = 1024;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION: u8 = 27;

/// The extension by which ssh says to which server a signature is for.
const SESSION_BIND: &str = "session-bind@openssh.com";

/// Messages over a connection: each is a big-endian 32-bit length, and so many bytes.
pub(super) type Messages = Framed<UnixStream, LengthDelimitedCodec>;

/// The messages of a connection.
pub(super) fn messages(connection: UnixStream) -> Messages {
    LengthDelimitedCodec::builder().max_frame_length(MAX_MESSAGE).new_framed(connection)
}

/// What somebody asks of an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Which keys it has.
    Identities,
    /// A signature.
    Sign {
        /// The key, in its binary form.
        key: Vec<u8>,
        /// What is to be signed.
        data: Vec<u8>,
    },
    /// What follows on this connection is for a session with the server that has this host key.
    Bind {
        /// The host key, in its binary form.
        server: Vec<u8>,
        /// The session's id.
        session: Vec<u8>,
        /// Whether that server only carries it.
        carrier: bool,
    },
    /// Everything else: to add, remove or lock keys, and other extensions.
    Other,
}

impl Request {
    /// What a message asks for.
    pub(super) fn read(message: &[u8]) -> Result<Self, Error> {
        let mut rest = message;
        match u8::decode(&mut rest)? {
            REQUEST_IDENTITIES => Ok(Self::Identities),
            SIGN_REQUEST => {
                let key = Vec::decode(&mut rest)?;
                Ok(Self::Sign { key, data: Vec::decode(&mut rest)? })
            }
            EXTENSION if String::decode(&mut rest)? == SESSION_BIND => {
                let (server, session) = (Vec::decode(&mut rest)?, Vec::decode(&mut rest)?);
                // What the server has signed that with: the user's agent checks it.
                rest.drain_prefixed()?;
                Ok(Self::Bind { server, session, carrier: u8::decode(&mut rest)? != 0 })
            }
            _ => Ok(Self::Other),
        }
    }
}

/// The question which keys there are.
pub(super) fn which_keys() -> Bytes {
    Bytes::from_static(&[REQUEST_IDENTITIES])
}

/// The answer to everything that is not done.
pub(super) fn failure() -> Bytes {
    Bytes::from_static(&[FAILURE])
}

/// Whether a message is a signature.
pub(super) fn is_signature(message: &[u8]) -> bool {
    message.first() == Some(&SIGN_RESPONSE)
}

/// Whether what is to be signed is for the session with this id, as a log-in to its server is.
pub(super) fn is_for(data: &[u8], session: &[u8]) -> bool {
    Vec::<u8>::decode(&mut &data[..]).is_ok_and(|id| id == session)
}

/// Whether a message says that something was done.
pub(super) fn is_success(message: &[u8]) -> bool {
    message.first() == Some(&SUCCESS)
}

/// The answer that these are all keys.
pub(super) fn identities(keys: &[Key]) -> Result<Bytes, Error> {
    let mut message = vec![IDENTITIES_ANSWER];
    keys.len().encode(&mut message)?;
    for Key { blob, comment } in keys {
        blob.encode(&mut message)?;
        comment.encode(&mut message)?;
    }
    Ok(message.into())
}

/// The keys in such an answer.
pub(super) fn read_identities(message: &[u8]) -> Result<Vec<Key>, Error> {
    let mut rest = message;
    if u8::decode(&mut rest)? != IDENTITIES_ANSWER {
        return Err(Error::CharacterEncoding);
    }
    let count = u32::decode(&mut rest)?;
    if count > MAX_KEYS {
        return Err(Error::Length);
    }
    let key = |_| -> Result<Key, Error> {
        Ok(Key { blob: Vec::decode(&mut rest)?, comment: Vec::decode(&mut rest)? })
    };
    (0..count).map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with these fields behind its number.
    fn message(number: u8, fields: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![number];
        for field in fields {
            field.encode(&mut message).expect("written");
        }
        message
    }

    #[test]
    fn what_is_asked_for_is_known_by_its_number() {
        let bind = |carrier: u8| {
            let fields: [&[u8]; 4] = [SESSION_BIND.as_bytes(), b"host", b"session", b"signature"];
            [message(EXTENSION, &fields), vec![carrier]].concat()
        };
        let bound = |carrier| {
            let (server, session) = (b"host".to_vec(), b"session".to_vec());
            Request::Bind { server, session, carrier }
        };
        for (message, expected) in [
            (vec![REQUEST_IDENTITIES], Request::Identities),
            (
                [message(SIGN_REQUEST, &[b"key", b"data"]), vec![0; 4]].concat(),
                Request::Sign { key: b"key".to_vec(), data: b"data".to_vec() },
            ),
            (bind(0), bound(false)),
            (bind(1), bound(true)),
            (message(EXTENSION, &[b"query"]), Request::Other),
            // Add, remove, remove all, lock, unlock, add with constraints.
            (message(17, &[b"ssh-ed25519"]), Request::Other),
            (message(18, &[b"key"]), Request::Other),
            (vec![19], Request::Other),
            (message(22, &[b"password"]), Request::Other),
            (message(23, &[b"password"]), Request::Other),
            (message(25, &[b"ssh-ed25519"]), Request::Other),
        ] {
            assert_eq!(Request::read(&message), Ok(expected), "{message:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_request() {
        let sign = message(SIGN_REQUEST, &[b"key"]);
        for bad in [&[][..], &sign[..4], &[SIGN_REQUEST, 255, 255, 255, 255], &[EXTENSION]] {
            Request::read(bad).expect_err("cut off");
        }
        let bind = message(EXTENSION, &[SESSION_BIND.as_bytes(), b"host", b"session"]);
        Request::read(&bind).expect_err("no signature");
    }

    #[test]
    fn a_log_in_begins_with_the_id_of_its_session() {
        let data = message(0, &[b"session", b"user"]).split_off(1);
        assert!(is_for(&data, b"session") && !is_for(&data, b"sessio"));
        assert!(!is_for(b"SSHSIG", b"session") && !is_for(b"", b""));
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = |blob: &[u8], comment: &[u8]| Key { blob: blob.into(), comment: comment.into() };
        let keys = [key(b"one", b"me@host"), key(b"two", b"\xff")];
        let answer = identities(&keys).expect("written");
        assert_eq!(read_identities(&answer).expect("read"), keys);
        read_identities(&answer[..answer.len() - 1]).expect_err("cut off");
        read_identities(&failure()).expect_err("no answer to that question");
        read_identities(&[IDENTITIES_ANSWER, 255, 0, 0, 0]).expect_err("too many");
    }
}
