//! Messages of DNS: one question out of whatever bytes came, and the bytes of its answer.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, RecordType};

/// The length of the header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// The longest answer by UDP where the client does not say (the same, section 2.3.4).
const PLAIN_LIMIT: u16 = 512;

/// The longest answer by UDP whatever the client says: never in fragments (DNS flag day 2020).
pub(super) const UDP_LIMIT: u16 = 1232;

/// The option of an extended error (RFC 8914, section 2).
const EXTENDED_ERROR: u16 = 15;

/// Why a question is not answered, as its client is told (RFC 8914, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extended {
    /// The policy says no.
    Blocked,
    /// This client is not served with it.
    Prohibited,
    /// Not a thing that this server does.
    NotSupported,
    /// The nameserver did not answer.
    NoReachableAuthority,
}

impl Extended {
    fn code(self) -> u16 {
        match self {
            Self::Blocked => 15,
            Self::Prohibited => 18,
            Self::NotSupported => 21,
            Self::NoReachableAuthority => 22,
        }
    }
}

/// What came.
pub(super) enum Heard {
    /// A question that deserves thought.
    Question(Box<Question>),
    /// Something wrong, with its answer.
    Wrong(Box<Message>),
    /// Nothing that is ever answered: two servers that answer answers would never end.
    Nothing,
}

/// One question of the class IN, for one type of record.
pub(super) struct Question {
    /// The question itself.
    pub(super) query: Query,
    request: Metadata,
    payload: Option<u16>,
}

/// Reads what came. Never fails: what cannot be read is answered so, or not at all.
pub(super) fn hear(bytes: &[u8]) -> Heard {
    let Some(&[id_high, id_low, flags, ..]) = bytes.first_chunk::<HEADER>() else {
        return Heard::Nothing;
    };
    if flags & 0x80 != 0 {
        return Heard::Nothing;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    let wrong = |code| Heard::Wrong(Box::new(Message::error_msg(id, op_code, code)));
    if op_code != OpCode::Query {
        return wrong(ResponseCode::NotImp);
    }
    let Ok(mut message) = Message::from_vec(bytes) else {
        return wrong(ResponseCode::FormErr);
    };
    let (Some(query), true) = (message.queries.pop(), message.queries.is_empty()) else {
        return wrong(ResponseCode::FormErr);
    };
    let payload = message.edns.as_ref().map(Edns::max_payload);
    let question = Question { query, request: message.metadata, payload };
    if message.edns.is_some_and(|edns| edns.version() != 0) {
        return Heard::Wrong(Box::new(question.fails(ResponseCode::BADVERS, None)));
    }
    if question.query.query_class() != DNSClass::IN || is_meta(question.query.query_type()) {
        let refused = question.fails(ResponseCode::Refused, Some(Extended::NotSupported));
        return Heard::Wrong(Box::new(refused));
    }
    Heard::Question(Box::new(question))
}

/// Types that are no records: ANY, transfers, signatures of messages, options (RFC 6895, section 3.1).
fn is_meta(kind: RecordType) -> bool {
    matches!(u16::from(kind), 0 | 41 | 128..=255)
}

impl Question {
    /// An empty answer.
    pub(super) fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.request.id, MessageType::Response, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.request);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_LIMIT);
            message.set_edns(edns);
        }
        message
    }

    /// An empty answer that says why, where the client understands it.
    pub(super) fn fails(&self, code: ResponseCode, why: Option<Extended>) -> Message {
        let mut message = self.reply(code);
        if let (Some(edns), Some(why)) = (&mut message.edns, why) {
            let code = why.code().to_be_bytes().to_vec();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, code));
        }
        message
    }

    /// The longest answer that this client takes by UDP.
    pub(super) fn udp_limit(&self) -> u16 {
        self.payload.map_or(PLAIN_LIMIT, |size| size.clamp(PLAIN_LIMIT, UDP_LIMIT))
    }
}

/// The bytes of an answer: at most `limit`, or else none of its records and word that it was cut.
/// `None` when there are no such bytes, which only an answer from far away could bring about.
pub(super) fn bytes(mut message: Message, limit: u16) -> Option<Vec<u8>> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(limit);
    if let Some(bytes) = message.to_vec().ok().filter(fits) {
        return Some(bytes);
    }
    message.answers.clear();
    message.authorities.clear();
    message.additionals.clear();
    message.metadata.truncation = true;
    message.to_vec().ok().filter(fits)
}
